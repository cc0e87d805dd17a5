"""From the event file to rows, each line exactly once and under the token of the attempt."""

from pathlib import Path

import pytest
from sqlalchemy import select

from app.core.db import read_session
from app.core.tables import NO_REWARD, Checkpoint, JobReward, Rollout
from app.jobs.outcomes import outcomes_of
from benchmarks.load.fleet import Shape, at, lines
from tests.fixtures.workers import Service, relay_of
from trainer.spec.events import (
    CheckpointRemoved,
    CheckpointSaved,
    EvaluationOutcomes,
    Event,
    EventWriter,
    Finished,
    MessageEvent,
    Phase,
    RolloutRecord,
    Rollouts,
    StepMetrics,
    parse_event,
)
from trainer.spec.manifest import MANIFEST_NAME, Manifest, file_sha256
from trainer.spec.modes import Mode
from trainer.statistics.outcomes import ModeOutcomes
from worker.jobs.launcher import events_name
from worker.jobs.relay import Relay, unrelayed_attempts
from worker.lease import Claim, LeaseLost


def begin(service: Service, job_id: str | None = None) -> tuple[Claim, Path]:
    """Claim a new (or the given) job; the claim and the run directory."""
    job_id = job_id or service.add_job(steps=100)
    claim = service.claim(job_id)
    run_dir = service.run_dir(job_id)
    run_dir.mkdir(parents=True, exist_ok=True)
    return claim, run_dir


def write(run_dir: Path, attempt: int, *events: Event) -> Path:
    path = run_dir / events_name(attempt)
    with EventWriter(path) as writer:
        for event in events:
            writer.write(event)
    return path


def metrics(step: int, **values: float) -> StepMetrics:
    return StepMetrics(step=step, total_steps=100, values=values or {"train/N/reward": step / 100})


def record(index: int, text: str = "2") -> RolloutRecord:
    return RolloutRecord(
        group=0,
        index=index,
        item=0,
        mode=Mode.HIGH_ENTROPY,
        prompt="1 + 1 =",
        response=text,
        reward=None,
        tokens=1,
        truncated=False,
        logprobs=[-0.1],
        entropies=[0.2],
        token_texts=[text],
    )


def save_checkpoint(run_dir: Path, step: int) -> CheckpointSaved:
    folder = run_dir / "checkpoints" / f"step-{step}"
    folder.mkdir(parents=True)
    manifest = Manifest(
        run_id="run", step=step, base_model="tiny", algorithm="grpo", high_entropy_prompt="Explore."
    )
    (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
    return CheckpointSaved(
        step=step,
        path=f"checkpoints/step-{step}",
        high_entropy_prompt="Explore.",
        manifest_sha256=file_sha256(folder / MANIFEST_NAME),
    )


def drain(relay: Relay) -> None:
    while relay.step():
        pass


def test_the_last_evaluation_by_item_becomes_a_row_and_a_repetition_overwrites_it(service: Service):
    claim, run_dir = begin(service)
    first = ModeOutcomes(graded=[2, 2], correct=[0, 1], reward=[0.0, 0.5])
    then = ModeOutcomes(graded=[2, 0], correct=[2, 0], reward=[1.0, None])
    both = EvaluationOutcomes(step=100, modes={"N": then, "H": first})
    write(run_dir, claim.attempt, EvaluationOutcomes(step=100, modes={"N": first}), both)
    drain(relay_of(claim, run_dir))
    with read_session() as session:
        assert outcomes_of(session, [claim.id, "ftjob-other"]) == {claim.id: {"N": then, "H": first}}


def checkpoint_steps(job_id: str) -> list[int]:
    with read_session() as session:
        return sorted(row.step for row in session.query(Checkpoint).filter_by(job_id=job_id))


def messages(service: Service, job_id: str) -> list[str]:
    return [event.message for event in service.events(job_id)][1:]  # without "has started"


def test_every_line_once_wherever_the_worker_is_killed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, run_dir = begin(service)
    events: list[Event] = []
    for step in range(1, 11):
        events += [MessageEvent(message=f"step {step}"), metrics(step)]
        events += [Phase(step=step, phase="sampling"), Rollouts(step=step, rollouts=[record(0), record(1)])]
    write(run_dir, 1, *events)
    monkeypatch.setattr("worker.jobs.event_file.MAX_BYTES", 700)  # a few events a batch

    batches = 0
    while True:
        # A worker killed between batches: its successor knows nothing but the database.
        if not relay_of(claim, run_dir).step():
            break
        batches += 1
        # A worker killed inside a batch: everything written, and then no commit.
        if batches in (2, 5):
            _die_before_commit(relay_of(claim, run_dir), monkeypatch)
    assert batches > 5

    assert messages(service, claim.id) == [f"step {step}" for step in range(1, 11)]
    assert service.points(claim.id) == {step: step / 100 for step in range(1, 11)}
    assert service.rollouts(claim.id) == [(step, index) for step in range(1, 11) for index in (0, 1)]
    assert len(service.events(claim.id, "metrics")) == 10
    assert service.job(claim.id).step == 10


def test_a_checkpoint_is_recorded_with_how_its_prompts_are_made(service: Service) -> None:
    claim, run_dir = begin(service)
    saved = save_checkpoint(run_dir, 2)
    other = {"high_entropy_placement": "user_prefix", "chat_template_kwargs": {"enable_thinking": False}}
    write(run_dir, 1, saved)
    drain(relay := relay_of(claim, run_dir))
    for expected in (("system", {}), tuple(other.values())):
        with read_session() as session:
            row = session.query(Checkpoint).filter_by(job_id=claim.id).one()
            assert (row.high_entropy_placement, row.chat_template_kwargs) == expected
        write(run_dir, 1, saved.model_copy(update=other))
        drain(relay)


def _die_before_commit(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        # The last thing that the transaction does before its offset.
        patch.setattr(relay, "_write_faults", die)
        relay.step()


def test_a_line_that_is_still_being_written_waits(service: Service) -> None:
    claim, run_dir = begin(service)
    path = write(run_dir, 1, MessageEvent(message="whole"))
    line = MessageEvent(message="late").model_dump_json().encode() + b"\n"
    with path.open("ab") as file:
        file.write(line[:20])
    relay = relay_of(claim, run_dir)
    drain(relay)
    assert messages(service, claim.id) == ["whole"]
    with path.open("ab") as file:
        file.write(line[20:])
    drain(relay)
    assert messages(service, claim.id) == ["whole", "late"]


def test_repeated_steps_overwrite_themselves(service: Service) -> None:
    claim, run_dir = begin(service)
    saved = save_checkpoint(run_dir, 2)
    again = [metrics(1), metrics(2), Rollouts(step=2, rollouts=[record(0), record(0, "3")]), saved]
    write(run_dir, 1, *again, *again, metrics(2, **{"train/N/reward": 0.5}))
    drain(relay_of(claim, run_dir))
    assert service.points(claim.id) == {1: 0.01, 2: 0.5}
    with read_session() as session:
        rewards = session.get_one(JobReward, claim.id)
    assert (rewards.normal, rewards.high_entropy) == (0.5, NO_REWARD)
    assert service.rollouts(claim.id) == [(2, 0)]
    assert checkpoint_steps(claim.id) == [2]
    assert len(service.events(claim.id, "metrics")) == 2
    created = [text for text in messages(service, claim.id) if text.startswith("Checkpoint created")]
    assert len(created) == 1


def test_a_bound_on_a_steps_rollouts_keeps_all_of_some_prompts_evenly_spread(
    local_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_service.settings, "step_rollouts", 5)
    claim, run_dir = begin(local_service)
    step = [record(index).model_copy(update={"group": group}) for group in range(4) for index in (0, 1)]
    write(run_dir, 1, Rollouts(step=1, rollouts=step), Rollouts(step=2, rollouts=step[:4]))
    drain(relay_of(claim, run_dir))
    with read_session() as session:
        rows = session.execute(select(Rollout.step, Rollout.group, Rollout.index)).all()
    some = [(1, group, index) for group in (0, 2) for index in (0, 1)]
    assert sorted(map(tuple, rows)) == [*some, *((2, group, index) for group in (0, 1) for index in (0, 1))]


def test_phases_alone_cause_no_write_and_hide_no_state(local_service: Service) -> None:
    claim, run_dir = begin(local_service)
    path = write(run_dir, 1, Phase(step=1, phase="sample"))
    relay = relay_of(claim, run_dir)
    drain(relay)  # the phase with which training begins is told
    begun = local_service.attempts(claim.id)[0].relayed_bytes
    assert begun == path.stat().st_size
    write(run_dir, 1, Phase(step=1, phase="score"), Phase(step=1, phase="update"))
    assert not relay.step()
    assert local_service.attempts(claim.id)[0].relayed_bytes == begun
    assert relay.relayed == path.stat().st_size, "what waits for the relay waits for no line of a phase"
    write(run_dir, 1, metrics(1))
    drain(relay)
    assert local_service.attempts(claim.id)[0].relayed_bytes == path.stat().st_size
    assert local_service.points(claim.id) == {1: 0.01}


def test_the_benchmarks_trainers_write_what_a_trainer_writes() -> None:
    phases, end = lines(Shape(metrics=60, rollouts=64, tokens=4), kind=1)
    *told, rollouts, values = [
        parse_event(line) for line in at(b"".join((*phases, end)), 7, 12.5).splitlines()
    ]
    assert all(isinstance(event, Phase) and (event.step, event.time) == (7, 12.5) for event in told)
    assert isinstance(rollouts, Rollouts) and (rollouts.step, rollouts.time) == (7, 12.5)
    assert len(rollouts.rollouts) == 64 and {len(one.token_texts) for one in rollouts.rollouts} == {4}
    assert isinstance(values, StepMetrics) and (values.step, len(values.values)) == (7, 60)


def test_lines_that_are_no_events_are_counted_and_left_out(service: Service) -> None:
    claim, run_dir = begin(service)
    path = write(run_dir, 1, metrics(1))
    with path.open("ab") as file:
        file.write(b'not json\n{"type": "surprise"}\n\xff\xfe\n')
    write(run_dir, 1, metrics(2))
    drain(relay_of(claim, run_dir))
    assert sorted(service.points(claim.id)) == [1, 2]
    (warning,) = [event for event in service.events(claim.id) if event.level == "warn"]
    assert warning.data == {"count": 3, "file": "events-1.jsonl"}


def test_an_event_that_the_database_refuses_is_left_out(service: Service) -> None:
    claim, run_dir = begin(service)
    huge = StepMetrics(step=2**70, total_steps=100, values={"loss": 1.0})
    write(run_dir, 1, metrics(1), huge, MessageEvent(message="after"), metrics(2))
    drain(relay_of(claim, run_dir))
    assert sorted(service.points(claim.id)) == [1, 2]
    assert "after" in messages(service, claim.id)
    (warning,) = [event for event in service.events(claim.id) if event.level == "warn"]
    assert "metrics" in warning.message
    assert service.attempts(claim.id)[0].relayed_bytes == (run_dir / "events-1.jsonl").stat().st_size


def test_checkpoints_are_registered_only_when_they_are_there(service: Service) -> None:
    claim, run_dir = begin(service)
    good, gone, damaged, kept = (save_checkpoint(run_dir, step) for step in (1, 2, 3, 4))
    (run_dir / gone.path / MANIFEST_NAME).unlink()
    (run_dir / damaged.path / MANIFEST_NAME).write_text("{}")
    outside = kept.model_copy(update={"path": "../elsewhere", "step": 5})
    write(run_dir, 1, good, gone, damaged, outside, kept, CheckpointRemoved(step=1))
    drain(relay_of(claim, run_dir))
    assert checkpoint_steps(claim.id) == [4]
    (warning,) = [event for event in service.events(claim.id) if event.level == "warn"]
    assert warning.data is not None and warning.data["count"] == 3


def test_a_stale_attempt_writes_nothing(service: Service) -> None:
    old, run_dir = begin(service)
    write(run_dir, 1, metrics(1), MessageEvent(message="old"))
    stale = relay_of(old, run_dir)
    assert stale.step()
    service.change(old.id, status="queued")
    new, _ = begin(service, old.id)
    write(run_dir, 1, metrics(2), MessageEvent(message="stale"), Finished(step=100, trained_tokens=1))
    with pytest.raises(LeaseLost):
        stale.step()
    assert sorted(service.points(old.id)) == [1]
    assert "stale" not in messages(service, old.id)
    assert stale.end is None

    # What the lost worker left unread is relayed by its successor, which takes no end from it.
    assert unrelayed_attempts(new, run_dir) == [1]
    late = relay_of(new, run_dir, source=1)
    drain(late)
    assert sorted(service.points(old.id)) == [1, 2]
    assert unrelayed_attempts(new, run_dir) == []
