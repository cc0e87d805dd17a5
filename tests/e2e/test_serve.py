"""The product as a user has it: one command, the unmodified SDK, and nothing lost or left behind."""

import json
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai.types.fine_tuning import FineTuningJob

from app.cli.follow import events
from tests.fixtures.service import POLICYSPLIT, ServeProcess, run_cli, serving

END_SECONDS = 40.0
ROWS = [{"messages": [{"role": "user", "content": f"say {i}"}], "answer": str(i)} for i in range(4)]
METHOD: Any = {
    "type": "reinforcement",
    "reinforcement": {
        "grader": {
            "type": "string_check",
            "name": "has an e",
            "input": "{{sample.output_text}}",
            "operation": "ilike",
            "reference": "e",
        },
        "algorithm": {"type": "policy_split", "eta": 0.3},
        "rollout": {"prompts_per_step": 2, "samples_per_prompt": 4, "max_response_tokens": 8},
        "evaluation": {"interval": 0, "max_items": 2},
        "checkpoint": {"interval": 0},
        # Two random models in a hundred have no e in 64 answers.
        "preflight": {"on_zero_variance": "warn"},
        "budget": {"steps": 2},
    },
}


@dataclass
class Trained:
    job: FineTuningJob
    events: list[dict[str, Any]]


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[ServeProcess]:
    """The service on the tiny model, in processes as a user has them."""
    with serving(tmp_path_factory.mktemp("serve"), tiny_model, POLICYSPLIT) as service:
        yield service


@pytest.fixture(scope="module")
def trained(serve: ServeProcess) -> Trained:
    """A job from upload to its end, followed through the event stream."""
    client = serve.client()
    content = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    file = client.files.create(file=("rows.jsonl", content), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(
        model="tiny", training_file=file.id, validation_file=file.id, method=METHOD, suffix="e2e", seed=1
    )
    seen = list(events(client, job.id))
    return Trained(client.fine_tuning.jobs.retrieve(job.id), seen)


@pytest.fixture(autouse=True)
def running(serve: ServeProcess) -> Iterator[None]:
    """A test may stop the service; the next one finds it running again."""
    serve.start()
    yield


def test_a_job_runs_from_upload_to_a_model(trained: Trained) -> None:
    job = trained.job
    assert (job.status, job.error) == ("succeeded", None)
    assert job.fine_tuned_model is not None
    assert job.fine_tuned_model.startswith("ft:tiny:policysplit:e2e:")
    assert job.trained_tokens
    told = [event["data"] for event in trained.events if event["type"] == "message" and event["data"]]
    statuses = [data["status"] for data in told if "status" in data]
    assert statuses == ["queued", "validating_files", "running", "succeeded"]
    metrics = {
        event["data"]["step"]: event["data"]["values"]
        for event in trained.events
        if event["type"] == "metrics"
    }
    assert sorted(metrics) == [0, 1, 2]
    for mode in ("N", "H"):
        assert 0 <= metrics[1][f"train/{mode}/reward"] <= 1
        assert metrics[1][f"train/{mode}/entropy_nats"] > 0
        assert {f"eval/{mode}/reward", f"eval/{mode}/entropy_bits"} <= metrics[0].keys() & metrics[2].keys()
    assert metrics[2]["eval/kl_H_N/prefix_H"] > 0


def test_a_supervised_job_without_a_method_becomes_a_model(serve: ServeProcess) -> None:
    """As clients of the hosted service send it, from upload to answers in the format that was learnt."""
    client = serve.client()
    rows = [
        {"messages": [{"role": "user", "content": f"say {n}"}, {"role": "assistant", "content": "eee"}]}
        for n in range(8)
    ]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = client.files.create(file=("rows.jsonl", content), purpose="fine-tune")
    # The tiny model has random weights, which need larger steps than real ones.
    job = client.fine_tuning.jobs.create(
        model="tiny",
        training_file=file.id,
        validation_file=file.id,
        hyperparameters={"n_epochs": 40, "batch_size": 8, "learning_rate_multiplier": 1000.0},
        seed=1,
    )
    metrics = [event["data"] for event in events(client, job.id) if event["type"] == "metrics"]
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert (job.status, job.error) == ("succeeded", None)
    assert job.method is not None and job.method.type == "supervised"
    assert [data["step"] for data in metrics] == list(range(41))
    assert metrics[-1]["full_valid_loss"] < 0.2 < metrics[0]["full_valid_loss"]
    assert metrics[-1]["train_mean_token_accuracy"] == 1.0
    assert metrics[-1]["valid_loss"] < 0.2 and metrics[-1]["train_loss"] < 0.2
    (checkpoint, *_) = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert checkpoint.metrics.full_valid_loss is not None and checkpoint.metrics.train_loss is not None
    table = client.files.content(job.result_files[0]).text.splitlines()
    assert table[0].startswith(
        "step,train_loss,train_mean_token_accuracy,valid_loss,valid_mean_token_accuracy,full_valid_loss,"
        "full_valid_mean_token_accuracy,result,"
    )
    for mode in ("", ":high-entropy"):
        answer = client.chat.completions.create(
            model=f"{job.fine_tuned_model}{mode}",
            messages=[{"role": "user", "content": "say 3"}],
            max_tokens=8,
            temperature=0,
        )
        assert answer.choices
        if not mode:
            assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("eee", "stop")


@pytest.mark.parametrize(
    ("grader", "code", "says"),
    [
        (
            {
                "type": "string_check",
                "operation": "eq",
                "reference": "\N{SNOWMAN}",
                "input": "{{sample.output_text}}",
            },
            "zero_variance",
            "(reward 0 for 64; 0 errors)",
        ),
        (
            {"type": "python", "source": "def grade(sample, item):\n    raise ValueError('never')\n"},
            "grader_failed",
            "failed on all 64",
        ),
    ],
    ids=["no-variance", "always-errs"],
)
def test_a_grader_that_teaches_nothing_fails_the_job_before_it_runs(
    serve: ServeProcess, grader: dict[str, Any], code: str, says: str
) -> None:
    client = serve.client()
    content = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    file = client.files.create(file=("rows.jsonl", content), purpose="fine-tune")
    reinforcement = {**METHOD["reinforcement"], "grader": {"name": "useless", **grader}, "preflight": {}}
    method: Any = {"type": "reinforcement", "reinforcement": reinforcement}
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file.id, method=method, seed=1)
    told = [event for event in events(client, job.id) if event["type"] == "message"]
    statuses = [event["data"]["status"] for event in told if "status" in (event["data"] or {})]
    assert statuses == ["queued", "validating_files", "failed"]
    (numbers,) = [event["data"]["preflight"] for event in told if "preflight" in (event["data"] or {})]
    assert (numbers["responses"], numbers["prompts_with_variance"]) == (64, 0)
    assert numbers["graded"] + sum(numbers["errors"].values()) == 64
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.error is not None
    assert (job.status, job.error.code, job.error.param) == ("failed", code, "grader")
    assert says in job.error.message and says in told[-1]["message"]
    assert (job.model_extra or {})["started_at"] is None


def test_both_modes_answer_from_one_engine(serve: ServeProcess, trained: Trained) -> None:
    client = serve.client()
    prompt_tokens = {}
    for mode, model in (
        ("normal", trained.job.fine_tuned_model),
        ("high-entropy", f"{trained.job.fine_tuned_model}:high-entropy"),
    ):
        answer = client.chat.completions.create(
            model=str(model), messages=[{"role": "user", "content": "say 1"}], n=2, max_tokens=4, seed=1
        )
        assert (answer.model_extra or {})["mode"] == mode
        assert len(answer.choices) == 2
        assert answer.usage is not None
        prompt_tokens[mode] = answer.usage.prompt_tokens
    # The mode's prompt stands in front of the same question.
    assert prompt_tokens["high-entropy"] > prompt_tokens["normal"] + 100
    engines = [process for process in serve.processes() if "./step-2" in process.cmdline()]
    assert len([engine for engine in engines if "guard.py" not in " ".join(engine.cmdline())]) == 1


def test_the_client_commands_speak_to_it(serve: ServeProcess, trained: Trained) -> None:
    where = ("--data-dir", str(serve.data_dir))
    listed = run_cli("jobs", "list", *where)
    assert listed.returncode == 0, listed.stderr
    assert trained.job.id in listed.stdout and f" {trained.job.fine_tuned_model}\n" in listed.stdout
    assert "Warning" not in listed.stderr
    shown = run_cli("jobs", "show", trained.job.id, *where)
    assert str(trained.job.fine_tuned_model) in shown.stdout
    followed = run_cli("jobs", "follow", trained.job.id, *where)
    assert followed.returncode == 0, followed.stderr
    assert "step 2/2" in followed.stdout
    refused = run_cli("jobs", "cancel", trained.job.id, *where)
    assert refused.returncode == 1
    assert "succeeded" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_neither_a_restart_nor_the_backup_of_a_running_service_loses_anything(
    serve: ServeProcess, trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("backup")
    archive = folder / "backup.tar"
    made = run_cli("backup", str(archive), "--data-dir", str(serve.data_dir))
    assert made.returncode == 0, made.stderr
    again = run_cli("backup", str(archive), "--data-dir", str(serve.data_dir))
    assert again.returncode == 1 and "already exists" in again.stderr
    occupied = run_cli("restore", str(archive), "--data-dir", str(serve.data_dir))
    assert occupied.returncode == 1 and "is not empty" in occupied.stderr

    copy = ServeProcess(folder / "copy")
    copy.settings = serve.settings
    restored = run_cli("restore", str(archive), "--data-dir", str(copy.data_dir))
    assert restored.returncode == 0, restored.stderr
    before = _everything(serve)
    processes = serve.processes()
    assert serve.stop(signal.SIGTERM) == 0
    assert not psutil.wait_procs(processes, timeout=END_SECONDS)[1]
    copy.start()
    try:
        assert _everything(copy) == before
        # The checkpoint is found where it lies now, and with it the mode's prompt.
        answer = copy.client().chat.completions.create(
            model=f"{trained.job.fine_tuned_model}:high-entropy",
            messages=[{"role": "user", "content": "say 1"}],
            max_tokens=2,
        )
        assert answer.choices
    finally:
        copy.stop()
    serve.start()
    assert _everything(serve) == before
    answer = serve.client().chat.completions.create(
        model=str(trained.job.fine_tuned_model), messages=[{"role": "user", "content": "say 2"}], max_tokens=4
    )
    assert answer.choices

    content = bytearray(archive.read_bytes())
    content[content.index(b"say 3") + 4] ^= 1
    archive.write_bytes(content)
    damaged = run_cli("restore", str(archive), "--data-dir", str(folder / "other"))
    assert damaged.returncode == 1 and "is damaged" in damaged.stderr


def test_killing_serve_leaves_no_orphan(serve: ServeProcess, trained: Trained) -> None:
    # An engine, if no fork, is the deepest process there is: serve, guard, inference worker, guard, engine.
    serve.stop()
    del serve.settings["POLICYSPLIT_ENGINE_COMMAND"]
    serve.start()
    serve.client().chat.completions.create(
        model=str(trained.job.fine_tuned_model), messages=[{"role": "user", "content": "say 3"}], max_tokens=4
    )
    before = _everything(serve)
    processes = serve.processes()
    assert any("./step-2" in process.cmdline() for process in processes)
    serve.stop(signal.SIGKILL)
    _, alive = psutil.wait_procs(processes, timeout=END_SECONDS)
    assert not alive, [process.cmdline() for process in alive]
    serve.start()
    assert _everything(serve) == before


def test_a_component_that_dies_is_restarted(serve: ServeProcess) -> None:
    (api,) = [process for process in serve.processes() if "app.main:served_app" in process.cmdline()[1:]
              and "guard.py" not in " ".join(process.cmdline())]  # fmt: skip
    api.kill()
    assert "restarting" in serve.read_until("api")
    assert "up" in serve.read_until("api")
    assert serve.client().models.list().data


def test_a_second_serve_on_the_same_data_is_refused(serve: ServeProcess) -> None:
    second = run_cli("serve", "--data-dir", str(serve.data_dir), "--port", "0")
    assert second.returncode == 1
    assert f"already in use by process {serve.processes()[0].pid} at {serve.base_url}" in second.stderr


def test_a_port_in_use_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run_cli("serve", "--data-dir", str(tmp_path_factory.mktemp("other")), "--port", port)
    assert result.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    assert "--port" in result.stderr


def _everything(serve: ServeProcess) -> dict[str, Any]:
    """What the service knows, as it tells it."""
    client = serve.client()
    return {
        "files": [(file.to_dict(), client.files.content(file.id).read()) for file in client.files.list()],
        "jobs": [job.to_dict() for job in client.fine_tuning.jobs.list()],
        "models": [model.id for model in client.models.list()],
    }
