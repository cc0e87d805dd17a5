"""What the documents beside the README say is there."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from docs.site.reference import PAGES

ROOT = Path(__file__).parents[2]
CARRY_ON = ("ARCHITECTURE.md", "CONTRIBUTING.md", "docs/glossary.md")
DOCUMENTS = sorted(
    line
    for line in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    if not line.startswith("tests/")
)
#: A file of this repository in backticks: with a folder, or one of the root's.
FILE = re.compile(r"`([\w.-]+(?:/[\w.-]+)+\.\w+|[A-Z]+\.md|pyproject\.toml)`")
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]+)[^)\s]*\)")
#: Written by something that runs, and not part of the repository.
MADE = {"policysplit.json", "spec.json", "events.jsonl"}


@pytest.mark.parametrize("document", CARRY_ON)
def test_files_that_are_named_exist(document: str) -> None:
    named = set(FILE.findall((ROOT / document).read_text())) - MADE
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files_that_exist(document: str) -> None:
    folder = (ROOT / document).parent
    targets = LINK.findall((ROOT / document).read_text())
    missing = [target for target in targets if not (folder / target).exists()]
    # The reference is written from the code when the site is built.
    assert [one for one in missing if not one.endswith(tuple(PAGES))] == []


@pytest.mark.parametrize("what", ["an algorithm", "a grader", "a resource of the API", "a diagnostic"])
def test_contributing_lists_the_files_of_an_addition_and_its_test(what: str) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.partition(f"\n### {what}\n")[2].partition("\n### ")[0]
    files = FILE.findall(section)
    assert len(files) >= 4
    assert any(file.startswith("tests/") for file in files)


def test_both_flows_are_drawn() -> None:
    drawings = re.findall(r"```mermaid\n(.*?)```", (ROOT / "ARCHITECTURE.md").read_text(), re.S)
    assert len(drawings) == 2
    for drawing in drawings:
        first, *lines = drawing.strip().splitlines()
        assert first == "sequenceDiagram"
        known = set(re.findall(r"participant (\w+)", drawing))
        for line in lines:
            if arrow := re.match(r"\s*(\w+)-{1,2}[>)]{1,2}(\w+): \S", line):
                assert {arrow[1], arrow[2]} <= known, line
            else:
                assert re.match(r"\s*(autonumber|participant \w+ as \S)", line), line


def test_the_glossary_has_a_word_once_and_the_words_that_replaced_others() -> None:
    words = re.findall(r"^\| (?!word|---)([^|]+) \|", (ROOT / "docs/glossary.md").read_text(), re.M)
    assert len(words) == len(set(words))
    assert set(words) >= {
        *("preflight check", "preflight status", "process guard", "orphan reaper", "peer monitor"),
        *("classify outcome", "estimate", "collective", "resume", "fingerprint of a step", "every n-th"),
        *("resolved model, resolved method", "below the disk reserve"),
    }


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert [author["name"] for author in citation["authors"]] == [a["name"] for a in project["authors"]]


def test_hooks_call_tools_of_the_environment() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        tool = Path(hook["entry"].split()[0])
        assert tool.parent == Path(".venv/bin")
        assert (Path(sys.executable).parent / tool.name).exists()


#: What replaces which words of old; docs/glossary.md has the others.
REPLACED = {
    "heir, warden: process guard": r"\b(heir|warden)s?\b",
    "lifeline: peer monitor": r"\blifelines?\b",
    "reckon: estimate": r"\breckon",
    "joint: collective": r"; joint\b|\bjoint operation",
    "manieth: n-th": r"\bmanieth\b",
    "a look at the grader: preflight check": r"\blook at the grader\b|\btrain without a look\b",
    "is no …: is not a …": r"(?<!here )\b(?:is|are|was|were) no (?!longer|more|less|use|good|doubt)",
}
WORDED = sorted(
    path
    for pattern in (
        "app/**/*.py",
        "worker/**/*.py",
        "trainer/**/*.py",
        "docs/**/*.md",
        "*.md",
        "app/**/static/**/*.js",
    )
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("words", REPLACED)
def test_words_that_were_replaced_do_not_come_back(words: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in WORDED
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(REPLACED[words], line, re.IGNORECASE)
    ]
    assert not found, f"{words}\n" + "\n".join(found)
