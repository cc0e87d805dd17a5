"""What guides and the map say is: symbols, folders, graders, algorithms and examples."""

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

from app.jobs.schemas import CreateJob
from trainer.algorithms import ALGORITHMS
from trainer.graders.spec import GRADER_TYPES

ROOT = Path(__file__).parents[2]
MAP = (ROOT / "docs/developing/map.md").read_text()
GRADERS = (ROOT / "docs/guides/graders.md").read_text()
FIRST_JOB = (ROOT / "docs/guides/first-job.md").read_text()
#: As a user has it; tests/cli runs it.
EXPERIMENTS = (ROOT / "docs/guides/experiments.md").read_text()


def section(text: str, name: str) -> str:
    """The text between ``<!-- name -->`` and ``<!-- /name -->``."""
    found = re.search(rf"<!-- {name}\b[^>]*-->\n(.*?)<!-- /{name} -->", text, re.S)
    assert found is not None, name
    return found[1]


def concepts() -> list[tuple[str, str]]:
    return re.findall(r"\| `([\w/]+\.py): (\w+)` \|", section(MAP, "concepts"))


@pytest.mark.parametrize(("file", "symbol"), concepts())
def test_a_concept_is_where_the_index_says(file: str, symbol: str) -> None:
    defined: set[str] = set()
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign):
            defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            defined.add(node.target.id)
    assert symbol in defined, f"the concept index: {file} no longer defines {symbol}"


def test_every_line_of_the_index_is_read() -> None:
    lines = section(MAP, "concepts").strip().splitlines()[2:]
    assert len(concepts()) == len(lines)


def test_the_map_has_every_folder_of_code() -> None:
    named = set(re.findall(r"^\| `([\w/]+)/` \|", section(MAP, "map"), re.M))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    folders = {str(Path(line).parent) for line in tracked.stdout.splitlines() if "/" in line}
    missing_on_disk = {folder for folder in named if not (ROOT / folder).is_dir()}
    assert not missing_on_disk
    # Folders two deep are named for the parts that are split by domain.
    wanted = {
        "/".join(parts[: 2 if parts[0] in ("trainer", "app", "worker") else 1])
        for folder in folders
        if (parts := folder.split("/"))[0][0] != "."
    }
    assert wanted - named == set()


def test_every_type_of_grader_has_a_line() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", section(GRADERS, "graders"), re.M)
    assert set(rows) == set(GRADER_TYPES)


def test_the_curl_example_is_a_job() -> None:
    (body,) = re.findall(r"fine_tuning/jobs -H 'content-type: application/json' -d '(.*?)'", FIRST_JOB, re.S)
    job = CreateJob.model_validate(json.loads(body))
    assert job.environment is not None


def test_every_algorithm_has_a_line() -> None:
    rows = re.findall(r"^\| (`.*?) \|", (ROOT / "docs/guides/algorithms.md").read_text(), re.M)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(ALGORITHMS)
