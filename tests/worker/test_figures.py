"""What workers tell Prometheus, to whom, and that they live."""

from collections.abc import Iterator

import httpx
import pytest

from app.core.counting import told
from app.core.tables import DEFAULT_PROJECT
from app.keys.service import create_key, revoke_key
from tests.app.test_monitoring import values
from tests.fixtures.api import forget
from tests.fixtures.workers import Service, relay_of
from tests.worker.test_relay import begin, write
from trainer.spec.events import GraderUse, Grading, StepMetrics
from trainer.spec.modes import Mode
from worker import figures_server
from worker.figures_server import FiguresServer
from worker.intake import Intake
from worker.jobs.room import Room
from worker.registration import Registration
from worker.shutdown import Shutdown


@pytest.fixture
def server() -> Iterator[FiguresServer]:
    one = FiguresServer("127.0.0.1", 0)
    one.start()
    yield one
    one.close()


def ask(server: FiguresServer, path: str, secret: str = "") -> httpx.Response:
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    return httpx.get(f"http://127.0.0.1:{server.port}{path}", headers=headers)


def step(number: int) -> StepMetrics:
    use = GraderUse(
        name="g", type="python", graded=7, rewards=3.5, errors={"other_error": 1}, seconds=1.0, tokens={}
    )
    return StepMetrics(
        step=number,
        total_steps=9,
        values={
            "train/step_seconds": 2.0,
            "time/generate": 1.25,
            "time/diagnostics/gradients": 9.0,
            "train/tokens_generated": 100.0,
            "train/tokens_trained": 160.0,
            "train/N/reward": 0.5,
            "train/H/reward": -0.25,
        },
        train=[Grading(mode=Mode.NORMAL, responses=8, reasoning_tokens=0, graders=[use, use])],
    )


def test_steps_are_counted_once_they_are_rows_and_no_job_is_named(
    local_service: Service, server: FiguresServer
) -> None:
    def now(name: str, **labels: str) -> float:
        return sum(values(ask(server, "/metrics").text, f"policysplit_{name}", **labels))

    counted = [
        ("steps_total", {}, 2),
        ("step_seconds_sum", {}, 4),
        ("step_phase_seconds_sum", {"phase": "generate"}, 2.5),
        ("step_tokens_total", {"what": "generated"}, 200),
        ("step_tokens_total", {"what": "trained"}, 320),
        ("step_reward_count", {"mode": "normal"}, 2),
        ("step_reward_count", {"mode": "high-entropy"}, 2),
        ("responses_total", {"mode": "normal"}, 16),
        ("grader_errors_total", {"type": "python", "kind": "other_error"}, 2),
    ]
    before = [now(name, **labels) for name, labels, _ in counted]
    claim, run_dir = begin(local_service)
    write(run_dir, claim.attempt, step(1), step(2))
    relay = relay_of(claim, run_dir)
    while relay.step():
        pass
    after = [now(name, **labels) for name, labels, _ in counted]
    assert [b - a for a, b in zip(before, after, strict=True)] == [rise for _, _, rise in counted]
    text = ask(server, "/metrics").text
    assert "diagnostics/gradients" not in text and claim.id not in text
    assert "policysplit_store_requests" in text


def test_figures_are_the_operators_also_while_the_database_is_away(
    local_service: Service, server: FiguresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures_server, "_KNOWN_SECONDS", 0.0)
    assert ask(server, "/metrics").status_code == 200, "there are no keys, and it listens here alone"
    key, operators = create_key("operator", DEFAULT_PROJECT, operator=True)
    _, projects = create_key("project", DEFAULT_PROJECT)
    for secret in ("", projects, f"{operators}x"):
        refused = ask(server, "/metrics", secret)
        assert refused.status_code == 401 and "operator's key" in refused.text
    assert ask(server, "/metrics", operators).status_code == 200

    with monkeypatch.context() as away:
        away.setenv("POLICYSPLIT_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
        forget()
        assert ask(server, "/metrics", operators).status_code == 200, "it was let in before"
        assert ask(server, "/metrics", projects).status_code == 503
        assert ask(server, "/healthz").status_code == 200
    forget()
    revoke_key(key.id)
    assert ask(server, "/metrics", operators).status_code == 401
    assert ask(server, "/nothing").status_code == 404


def test_a_worker_is_alive_while_its_registration_turns_and_ready_while_it_takes(
    local_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    intake, shutdown = Intake(), Shutdown()
    registration = Registration("me", intake, Room())
    server = FiguresServer("127.0.0.1", 0)
    server.start(alive=lambda: registration.turns, ready=lambda: intake.takes)
    registration.start(shutdown)
    try:
        assert ask(server, "/healthz").status_code == 200
        assert ask(server, "/readyz").status_code == 503, "nothing gets messages yet"
        monkeypatch.setattr("worker.registration.STUCK_SECONDS", 0.0)
        assert ask(server, "/healthz").status_code == 503
    finally:
        registration.stop()
        server.close()


def test_a_port_that_is_taken_is_refused_when_it_is_made(server: FiguresServer) -> None:
    with pytest.raises(OSError, match=f"127.0.0.1:{server.port} for metrics: Address already in use"):
        FiguresServer("127.0.0.1", server.port)
    assert b"policysplit_steps" in told()
