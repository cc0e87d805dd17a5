"""A run folder says which run it is of, and takes no other."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.runs import events_of, run_main, tiny_spec, write_rows
from trainer.__main__ import EXIT_FINISHED, EXIT_INVALID
from trainer.checkpoints.identity import RUN_NAME, claim_folder
from trainer.spec.algorithm import Grpo
from trainer.spec.data import JsonlData
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.events import Failed, Finished
from trainer.spec.model import LoraSpec
from trainer.spec.run import CheckpointSpec, OptimizerSpec, RunSpec


@pytest.fixture(scope="module")
def done(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSpec, Path]:
    """A finished run of two steps."""
    folder = tmp_path_factory.mktemp("done")
    spec = tiny_spec(
        tiny_model,
        write_rows(folder / "rows.jsonl"),
        validation_data=None,
        evaluation=EvaluationSpec(),
        checkpoint=CheckpointSpec(interval=1),
        total_steps=2,
    )
    assert run_main(spec, folder / "run") == EXIT_FINISHED
    return spec, folder / "run"


@pytest.fixture
def used(done: tuple[RunSpec, Path], tmp_path: Path) -> Path:
    """A copy of its folder."""
    return shutil.copytree(done[1], tmp_path / "run")


def refusal(spec: RunSpec, run_dir: Path) -> Failed:
    assert run_main(spec, run_dir, "--events", "again.jsonl") == EXIT_INVALID
    end = events_of(run_dir, "again.jsonl")[-1]
    assert isinstance(end, Failed)
    assert end.code == "invalid_spec"
    return end


def test_the_folder_says_what_it_is(done: tuple[RunSpec, Path]):
    spec, run_dir = done
    said = json.loads((run_dir / RUN_NAME).read_bytes())
    # What chooses an engine has chosen one.
    rollout = spec.rollout.model_copy(update={"engine": "transformers"})
    assert RunSpec.model_validate(said["spec"]) == spec.model_copy(update={"rollout": rollout})
    assert len(said["spec_sha256"]) == 64
    assert set(said["data_sha256"]) == {"training_data"}


def test_a_folder_that_is_not_there_is_made(done: tuple[RunSpec, Path], tmp_path: Path):
    claim_folder(tmp_path / "not" / "there", done[0])
    assert (tmp_path / "not" / "there" / RUN_NAME).is_file()


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"seed": 12}, "seed"),
        ({"optimizer": OptimizerSpec(learning_rate=2e-3)}, "optimizer.learning_rate"),
        ({"optimizer": OptimizerSpec(learning_rate=1e-3, moments="int8")}, "optimizer.moments"),
        ({"algorithm": Grpo()}, "algorithm.type"),
        ({"lora": LoraSpec(rank=2)}, "lora"),
        ({"run_id": "another"}, "run_id"),
        ({"chat_template_kwargs": {"enable_thinking": False}}, "chat_template_kwargs.enable_thinking"),
        ({"total_steps": 1}, "total_steps"),
        ({"total_steps": 9}, "total_steps"),
    ],
)
@pytest.mark.parametrize("told_by", ["itself", "its checkpoints"])
def test_another_spec_is_refused(
    done: tuple[RunSpec, Path], used: Path, changes: dict[str, Any], param: str, told_by: str
):
    if told_by == "its checkpoints":
        (used / RUN_NAME).unlink()
    end = refusal(done[0].model_copy(update=changes), used)
    assert end.param is not None and end.param.startswith(param.split(".")[0])
    assert param in end.message and "empty run directory" in end.message


def test_moments_may_go_to_the_host_s_memory_and_older_trainers_read_specs_without(
    done: tuple[RunSpec, Path], used: Path
):
    spec = done[0]
    away = spec.optimizer.model_copy(update={"offload": True})
    rollout = spec.rollout.model_copy(update={"engine": "transformers"})
    claim_folder(used, spec.model_copy(update={"optimizer": away, "rollout": rollout}))
    assert json.loads((used / RUN_NAME).read_text())["spec"]["optimizer"]["offload"] is True
    assert not {"moments", "offload"} & spec.optimizer.model_dump().keys()


def test_other_rows_are_another_run_wherever_they_lie(done: tuple[RunSpec, Path], used: Path, tmp_path: Path):
    spec, run_dir = done
    moved = tmp_path / "moved" / "rows.jsonl"
    moved.parent.mkdir()
    shutil.copy(run_dir.parent / "rows.jsonl", moved)
    elsewhere = spec.model_copy(update={"training_data": JsonlData(path=str(moved))})
    assert run_main(elsewhere, used, "--events", "moved.jsonl") == EXIT_FINISHED
    assert isinstance(events_of(used, "moved.jsonl")[-1], Finished), "its rows were moved, nothing else"
    moved.write_bytes(b"".join(reversed(moved.read_bytes().splitlines(keepends=True))))
    assert "training_data has other rows" in refusal(elsewhere, used).message


def test_a_folder_without_a_step_takes_any_run(done: tuple[RunSpec, Path], tmp_path: Path):
    spec = done[0]
    broken = spec.model_copy(update={"model": spec.model.model_copy(update={"path": "/nowhere"})})
    assert run_main(broken, tmp_path / "run") == EXIT_INVALID
    assert run_main(spec.model_copy(update={"seed": 4, "total_steps": 1}), tmp_path / "run") == EXIT_FINISHED
