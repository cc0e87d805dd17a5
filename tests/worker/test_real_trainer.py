"""The real trainer under a real worker: a small job on a tiny model, from the queue to both modes."""

import csv
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from app.core.queue import announce
from app.core.settings import Settings
from app.files.storage import path_of
from tests.fixtures.workers import Service, WorkerProcess, eventually
from trainer.graders.spec import StringCheckGrader
from trainer.spec.algorithm import PolicySplit
from trainer.spec.data import JsonlData
from trainer.spec.manifest import read_manifest
from trainer.spec.model import ModelSpec
from trainer.spec.modes import DEFAULT_HIGH_ENTROPY_PROMPT
from trainer.spec.run import OptimizerSpec, RolloutSpec, RunSpec


def run_spec(folder: Path, model: Path, steps: int) -> dict:
    rows = [
        {"messages": [{"role": "user", "content": f"Say {letter}"}], "answer": letter}
        for letter in "abcdefgh"
    ]
    data = folder / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return RunSpec(
        run_id="run",
        model=ModelSpec(path=str(model), dtype="float32"),
        training_data=JsonlData(path=str(data)),
        validation_data=JsonlData(path=str(data)),
        grader=StringCheckGrader(
            input="{{sample.output_text}}", reference="{{item.answer}}", operation="like"
        ),
        algorithm=PolicySplit(),
        rollout=RolloutSpec(prompts_per_step=2, samples_per_prompt=4, max_response_tokens=8),
        optimizer=OptimizerSpec(learning_rate=1e-3),
        total_steps=steps,
    ).model_dump(mode="json")


def test_a_policy_split_job_succeeds(
    real_service: Service, start_worker: Callable[[], WorkerProcess], tiny_model: Path, tmp_path: Path
) -> None:
    job_id = real_service.add_job(steps=2, run_spec=run_spec(tmp_path, tiny_model, steps=2))
    announce(job_id)
    start_worker()
    eventually(lambda: real_service.job(job_id).status in ("succeeded", "failed"), 90)
    job = real_service.job(job_id)
    assert job.status == "succeeded", (job.error, real_service.events(job_id)[-1].message)

    assert sorted(real_service.points(job_id, "train/H/reward")) == [1, 2]
    assert sorted(real_service.points(job_id, "eval/N/reward")) == [0, 2]
    assert len(real_service.rollouts(job_id)) == 2 * 2 * 4
    assert job.trained_tokens and job.trained_tokens > 0
    manifest = read_manifest(real_service.run_dir(job_id) / "checkpoints" / "step-2", verify=True)
    assert manifest.high_entropy_prompt == DEFAULT_HIGH_ENTROPY_PROMPT
    rows = list(csv.DictReader(path_of(job.result_files[0]).read_text().splitlines()))
    assert [row["step"] for row in rows] == ["0", "1", "2"]
    assert rows[1]["train_mean_reward"] != "" and rows[2]["full_valid_mean_reward"] != ""
    assert [row["result"] for row in rows] == ["", "", job.result_reason]
    assert job.result_step == 2
    assert job.result_reason is not None and job.result_reason.startswith("its eval/N/reward is the highest")
    last = real_service.events(job_id, "metrics")[-1].data
    assert last is not None and last["timing"]["step"]["sampling"] > 0


def test_a_stopped_run_goes_on_where_it_was(
    real_service: Service, start_worker: Callable[[], WorkerProcess], tiny_model: Path, tmp_path: Path
) -> None:
    steps = 400
    job_id = real_service.add_job(steps=steps, run_spec=run_spec(tmp_path, tiny_model, steps))
    announce(job_id)
    worker = start_worker()
    eventually(lambda: real_service.job(job_id).step >= 2, 60)
    assert worker.stop(number=signal.SIGINT) == 0, "Ctrl-C is as good as SIGTERM"
    job = real_service.job(job_id)
    assert job.status == "queued" and 2 <= job.step < steps
    stopped_at = job.step
    assert [a.outcome for a in real_service.attempts(job_id)] == ["released"]

    start_worker()
    eventually(lambda: real_service.job(job_id).step > stopped_at, 60)
    real_service.change(job_id, cancel_requested=True)
    real_service.wait_for_status(job_id, "cancelled", 10)
    found = sorted(real_service.points(job_id, "train/N/reward"))
    assert found == list(range(1, found[-1] + 1)) and found[-1] > stopped_at


@pytest.mark.parametrize("during", ["generation", "grading"])
def test_a_cancelled_job_is_gone_within_five_seconds_whatever_it_does(
    real_service: Service,
    start_worker: Callable[[], WorkerProcess],
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    during: str,
) -> None:
    monkeypatch.delenv("POLICYSPLIT_TRAINER_COMMAND")  # all that it starts is below its worker
    grace = str(Settings.model_fields["stop_grace_seconds"].default)
    monkeypatch.setenv("POLICYSPLIT_STOP_GRACE_SECONDS", grace)
    spec: dict[str, Any] = run_spec(tmp_path, tiny_model, steps=2) | {
        "preflight": None,
        "diagnostics": {"interval": 0},
    }
    spec["rollout"] |= {"max_response_tokens": 1500, "samples_per_prompt": 16}
    phase = "generate"
    if during == "grading":
        spec["rollout"] |= {"max_response_tokens": 4}
        source = "def grade(sample, item):\n    while True:\n        pass\n"
        spec["grader"] = {"type": "python", "name": "hangs", "source": source}
        phase = "score"
    spec["validation_data"] = None
    job_id = real_service.add_job(steps=2, run_spec=spec)
    announce(job_id)
    worker = start_worker()
    path = real_service.run_dir(job_id) / "events-1.jsonl"
    eventually(lambda: path.is_file() and f'"phase":"{phase}"' in path.read_text(), 60)
    family = psutil.Process(worker.pid).children(recursive=True)
    assert family
    asked = time.monotonic()
    real_service.change(job_id, cancel_requested=True)
    real_service.wait_for_status(job_id, "cancelled", 20)
    assert time.monotonic() - asked < 5.0
    eventually(lambda: not [one for one in family if one.is_running() and one.status() != "zombie"], 5)
    assert [attempt.cause for attempt in real_service.attempts(job_id)] == ["user"]
