"""The site: it is built without a warning, needs nothing from elsewhere, and its reference is complete."""

import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from app.core.settings import Settings
from docs.site import reference
from docs.site.__main__ import build
from docs.site.pages import DOCUMENTS, ROOT
from trainer.spec.metric_names import METRICS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built: a link or an anchor that leads nowhere would have ended it."""
    return build(tmp_path_factory.mktemp("site")).parent


class Resources(HTMLParser):
    """What a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        loads = tag in ("script", "img", "source", "iframe") or given.get("rel") in (
            "stylesheet",
            "preload",
            "icon",
        )
        self.found += [
            str(given[name]) for name in ("src", "srcset", "href") if loads and given.get(name) is not None
        ]


def test_every_page_loads_files_of_the_site_alone(site: Path) -> None:
    for page in site.rglob("*.html"):
        resources = Resources()
        resources.feed(page.read_text())
        assert len(resources.found) > 2
        for name in resources.found:
            assert not re.match(r"[a-z]+:|//", name), f"{page.name} loads {name}"
            if page.name != "404.html":
                assert (page.parent / name.partition("?")[0]).exists(), f"{page} loads {name}"


def test_every_document_is_a_page_and_every_page_is_in_the_navigation(site: Path) -> None:
    def places(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        inside = list(entry.values()) if isinstance(entry, dict) else entry
        assert isinstance(inside, list)
        return [place for one in inside for place in places(one)]

    config = tomllib.loads((ROOT / "docs/site/zensical.toml").read_text())
    listed = places(config["project"]["nav"])
    documents = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert sorted(listed) == sorted({*documents, *DOCUMENTS.values(), *reference.PAGES})
    assert [place for place in listed if not (site / place).with_suffix(".html").is_file()] == []


def test_the_search_works_from_the_disk_without_a_network(site: Path, browser: Browser) -> None:
    context = browser.new_context(offline=True)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "index.html").as_uri())
    page.keyboard.press("/")
    page.keyboard.type("orphan reaper")
    page.get_by_text("Glossary").last.wait_for()
    context.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []


def test_the_reference_has_every_operation_and_every_schema() -> None:
    page = reference.api_page()
    document = reference.description()
    operations = {f"{method.upper()} {path}" for path, by in document["paths"].items() for method in by}
    assert {*re.findall(r"^## ((?:GET|POST|DELETE) \S+) ", page, re.M)} == operations
    schemas = document["components"]["schemas"]
    assert {*re.findall(r"^### .* \{: #schema-(\w+) \}$", page, re.M)} == schemas.keys()


def test_the_reference_has_every_field_that_a_job_may_have() -> None:
    page = reference.job_page()
    schemas = reference.description()["components"]["schemas"]
    named = re.findall(r"^### .* \{: #schema-(\w+) \}$", page, re.M)
    assert {"CreateJob", "Reinforcement", "PolicySplit", "RolloutSpec", "PythonGrader"} <= {*named}
    for name, text in zip(named, re.split(r"^### .*$", page, flags=re.M)[1:], strict=True):
        fields = schemas[name].get("properties", {})
        assert re.findall(r"^\| `(\w+)` \|", text, re.M) == list(fields)


def test_the_reference_has_every_setting_and_every_metric() -> None:
    assert len(re.findall(r"^\| `", reference.settings_page(), re.M)) == len(Settings.model_fields)
    page = reference.metrics_page()
    assert all(f"| `{one.pattern}` |" in page for one in METRICS)
    assert all(one.meaning for one in METRICS)


def test_the_reference_has_every_command_with_its_options_in_words() -> None:
    page = reference.cli_page()
    for words, command in reference.commands():
        section = page.partition(f"## {words}\n")[2].partition("\n## ")[0]
        assert command.help and len(section) > 20, words
        for parameter in command.params:
            if not getattr(parameter, "hidden", False) and parameter.param_type_name == "option":
                row = re.search(rf"^\| .*`{parameter.opts[0]}`.* \| .* \| (.+) \|$", section, re.M)
                assert row, f"{words} {parameter.opts[0]} says nothing of itself"
