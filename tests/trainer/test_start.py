"""What a trainer's start imports: no more than its run needs, for a worker starts one for each attempt."""

import gc
import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.runs import events_of, run_main, tiny_spec, write_rows
from trainer.spec.events import Failed
from trainer.system.imports import Distributions, large_imports

#: What only some runs need: adapters, tasks, graders, statistics.
# sklearn, pandas and scipy: packages for graders, which transformers would import where they are installed.
AT_FIRST_USE = (
    *("peft", "reasoning_gym", "math_verify", "nltk", "sacrebleu", "rapidfuzz", "vllm"),
    *("sklearn", "pandas", "scipy", "jsonschema"),
)
BEFORE = """
import importlib.metadata, importlib.util, sys

def scan():
    raise AssertionError("the files of all installed packages are gone through")

importlib.metadata.packages_distributions = scan
assert all(map(importlib.util.find_spec, ("sklearn", "scipy"))), "as the extra grader-packages installs them"
"""
AFTER = f"""
from transformers.models.llama import modeling_llama
found = [name for name in {AT_FIRST_USE} if name in sys.modules]
assert not found, found
"""
RUN = """
from trainer.__main__ import main
early = [name for name in ("torch", "transformers", "numpy") if name in sys.modules]
assert not early, early
assert main(["--spec", sys.argv[1], "--run-dir", sys.argv[2]]) == 2  # there is no such model
"""


@pytest.mark.parametrize(
    "start",
    [RUN, "import trainer.api", "import worker.inference.engines.transformers_server"],
    ids=["run", "library", "engine"],
)
def test_help_needs_no_torch_and_a_start_nothing_that_others_need(tmp_path: Path, start: str):
    spec = tmp_path / "spec.json"
    spec.write_text(tiny_spec(tmp_path / "model", write_rows(tmp_path / "rows.jsonl")).model_dump_json())
    command = [sys.executable, "-c", BEFORE + start + AFTER, str(spec), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_modules_distribution_is_the_one_that_the_scan_of_all_finds():
    scanned, asked = importlib.metadata.packages_distributions(), Distributions()
    for name in ("torch", "PIL", "yaml", "dateutil", "numpy"):
        assert asked[name] == scanned[name]
    assert asked.get("no_such_module") is None
    assert set(asked) == set(scanned)


def test_after_large_imports_the_collector_works_and_leaves_out_what_was_there():
    frozen = gc.get_freeze_count()
    try:
        with large_imports():
            assert not gc.isenabled()
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()


def test_where_torch_is_not_installed_the_run_ends_with_the_extra_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    spec = tiny_spec(tmp_path / "model", write_rows(tmp_path / "data.jsonl"))
    assert run_main(spec, tmp_path / "run") == 2
    (failed,) = events_of(tmp_path / "run")
    assert isinstance(failed, Failed)
    assert "install the extra policysplit[trainer]" in failed.message
