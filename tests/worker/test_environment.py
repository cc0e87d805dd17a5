"""Children's environments: what each needs, and of secrets those of its own grader and its own tracker."""

import json
import sys
import threading
from pathlib import Path

import psutil
import pytest

from app.core.settings import get_settings
from trainer.sandbox.sandbox import Sandbox, Service
from trainer.system.environment import for_another_host
from trainer.system.guard import MARK
from worker.integrations.feed import Feed
from worker.jobs.launcher import Trainer, write_spec

TELL = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[4] + '/seen.json', 'w'))"
HOSTED = {"type": "score_model", "input": [{"role": "user", "content": "x"}], "model": "m"}


def _seen(run_dir: Path, grader: dict | None, **spec: object) -> dict[str, str]:
    write_spec(run_dir, {"grader": grader, **spec})
    ended = threading.Event()
    trainer = Trainer.start([sys.executable, "-c", TELL], run_dir, 1, ended.set)
    assert ended.wait(60)
    trainer.close()
    return json.loads((run_dir / "seen.json").read_text())


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator with secrets of all kinds."""
    variables = {
        "POLICYSPLIT_GRADER_ENDPOINTS": '{"default": {"url": "https://a.example/v1", "key_env": "JUDGE"}, '
        '"other": {"url": "https://b.example/v1", "key_env": "OTHER_JUDGE"}}',
        "POLICYSPLIT_GRADER_SECRETS": '{"sign": "SIGNING"}',
        **dict.fromkeys(
            ("JUDGE", "OTHER_JUDGE", "SIGNING", "HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY"), "sk"
        ),
        **dict.fromkeys(("POLICYSPLIT_DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "SITE"), "sk"),
        "NCCL_DEBUG": "INFO",
        "https_proxy": "http://proxy.example",
        "POLICYSPLIT_TRAINER_ENVIRONMENT": '["SITE"]',
        "POLICYSPLIT_INTEGRATION_ENVIRONMENT": '["SITE"]',
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()


@pytest.mark.parametrize(
    ("grader", "secrets"),
    [
        (None, set()),
        (HOSTED, {"JUDGE"}),
        (HOSTED | {"endpoint": "other"}, {"OTHER_JUDGE"}),
        ({"type": "http", "url": "https://c.example", "secret": "sign"}, {"SIGNING"}),
        (
            {
                "type": "multi",
                "graders": {"a": HOSTED | {"base_url": "https://d.example/v1"}, "b": HOSTED},
                "calculate_output": "a + b",
            },
            {"JUDGE"},
        ),
    ],
)
def test_a_trainer_gets_the_secrets_of_its_grader_alone(
    operator: None, tmp_path: Path, grader: dict | None, secrets: set[str]
):
    seen = _seen(tmp_path, grader)
    assert {name for name, value in seen.items() if value == "sk"} == secrets | {"SITE"}
    assert seen["NCCL_DEBUG"] == "INFO" and seen["https_proxy"] and seen["PATH"]


@pytest.mark.parametrize("launcher", ["ray", "torchrun"])
def test_the_driver_of_a_gang_alone_learns_how_to_join_the_cluster_and_passes_it_on_to_nobody(
    operator: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str
):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "sk")
    monkeypatch.setenv("POLICYSPLIT_RAY_ADDRESS", "head.example:6379")
    get_settings.cache_clear()
    seen = _seen(tmp_path, HOSTED, resources={"launcher": launcher})
    joining = {"RAY_AUTH_TOKEN", "POLICYSPLIT_RAY_ADDRESS"}
    assert seen.keys() & joining == (joining if launcher == "ray" else set())
    passed_on = for_another_host(seen)
    assert passed_on["JUDGE"] == passed_on["SITE"] == "sk" and passed_on["NCCL_DEBUG"] == "INFO"
    assert not passed_on.keys() & {*joining, "PATH", "HOME", "PYTHONPATH", MARK}


@pytest.mark.parametrize(("kind", "secrets"), [("tensorboard", set()), ("wandb", {"WANDB_API_KEY"})])
def test_the_process_of_an_integration_gets_the_key_of_its_own_tracker(
    operator: None, tmp_path: Path, kind: str, secrets: set[str]
):
    # Before it answers, whether or not it can be set up: the kernel shows what it was started with.
    feed = Feed({"integrations": [{"type": kind, kind: {}}], "facts": {}}, tmp_path / "log", print)
    try:
        assert _secrets_of(feed._process.pid) == secrets | {"SITE"}
    finally:
        feed.kill()


def test_a_sandbox_gets_nothing(operator: None):
    grader = Sandbox(Service("source", 10, {"source": "def grade(sample, item): return 1", "offered": []}))
    try:
        assert grader.pid is not None
        (inside,) = psutil.Process(grader.pid).children()
        assert _secrets_of(grader.pid) == _secrets_of(inside.pid) == set()
    finally:
        grader.close()


def _secrets_of(pid: int) -> set[str]:
    return {name for name, value in psutil.Process(pid).environ().items() if value == "sk"}
