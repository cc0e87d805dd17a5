"""What an installation brings, and what the package says of itself."""

import re
import runpy
import subprocess
import sys
import tomllib
from email import message_from_string
from email.message import Message
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
absolute_links = runpy.run_path(str(ROOT / "setup.py"))["absolute_links"]
RELATIVE = re.compile(r"\]\((?![a-z]+:|#)([^)\s]+)\)")


def closure(*extras: str) -> set[str]:
    """What ``pip install policysplit[extras]`` installs, by the metadata of the packages that are here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = [*project["dependencies"]]
    ours += [
        f"{line}{' and' if ';' in line else ' ;'} extra == '{extra}'"
        for extra, lines in project["optional-dependencies"].items()
        for line in lines
    ]
    found: set[tuple[str, str]] = set()
    waiting = [("policysplit", extra) for extra in ("", *extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        try:
            lines = ours if name == "policysplit" else requires(name) or ()
        except PackageNotFoundError:
            continue  # a requirement of other systems, or an extra that is not installed here
        for one in map(Requirement, lines):
            if one.marker is None or one.marker.evaluate({"extra": extra}):
                waiting += [(canonicalize_name(one.name), needed) for needed in ("", *one.extras)]
    return {name for name, _ in found}


@pytest.mark.parametrize("extras", [(), ("graders",)])
def test_a_control_plane_installs_no_torch(extras: tuple[str, ...]) -> None:
    assert not closure(*extras) & {"torch", "transformers", "peft", "vllm", "safetensors", "triton"}


def test_a_base_installation_grades_nothing_and_a_trainer_has_everything() -> None:
    graders = {"reasoning-gym", "sympy", "nltk", "rapidfuzz", "sacrebleu"}
    assert not closure() & graders
    assert closure("trainer") >= graders | {"torch", "transformers", "peft", "safetensors"}


WITHOUT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError("not in a base installation: " + name)

sys.meta_path.insert(0, Absent())
import app.main, app.cli.main, worker.tasks, worker.inference.server
app.main.create_app()
"""


def test_the_service_its_commands_and_its_workers_import_nothing_of_the_extras(tmp_path: Path) -> None:
    installed = closure()
    absent = {
        module
        for module, distributions in packages_distributions().items()
        if module[0] != "_" and not installed & {canonicalize_name(one) for one in distributions}
    }
    assert absent >= {"torch", "transformers", "reasoning_gym", "rapidfuzz", "sympy", "wandb", "pytest"}
    code = WITHOUT.format(names=sorted(absent))
    environment = {"POLICYSPLIT_DATA_DIR": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Message:
    """What a wheel would say, made by the build as pip asks for it."""
    folder = tmp_path_factory.mktemp("metadata")
    code = (
        f"from setuptools import build_meta as b; print(b.prepare_metadata_for_build_wheel({str(folder)!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return message_from_string(next(folder.glob("*.dist-info/METADATA")).read_text())


def test_the_package_says_what_it_is(metadata: Message) -> None:
    assert metadata["Requires-Python"] == "<3.14,>=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Author"]
    assert "Typing :: Typed" in metadata.get_all("Classifier", ())
    for package in ("app", "worker", "trainer", "migrations"):
        assert (ROOT / package / "py.typed").is_file()


def test_the_readme_of_the_package_has_no_link_that_needs_the_repository(metadata: Message) -> None:
    text = str(metadata.get_payload())
    assert "# Policysplit" in text
    assert not RELATIVE.findall(text)


def test_links_of_the_readme_point_at_files_that_exist_and_become_absolute() -> None:
    targets = RELATIVE.findall(README)
    assert targets
    for target in targets:
        assert (ROOT / target.partition("#")[0]).exists(), target
    published = absolute_links(README, "https://example.org/policysplit")
    assert not RELATIVE.findall(published)
    for target in targets:
        assert re.search(rf"https://example.org/policysplit/(blob|raw)/main/{re.escape(target)}\)", published)
