"""Jobs of several GPUs: who may take them, what is kept for them, and that small ones do not starve them."""

import time
from typing import Any

import pytest

from app.core.settings import get_settings
from tests.fixtures.fleet import training_worker
from tests.fixtures.workers import Service
from trainer.gang.__main__ import options_of
from trainer.spec.resources import Resources
from worker.gpus import Slots
from worker.jobs import holding
from worker.jobs.ending import Ending, Outcome, apply_ending
from worker.jobs.launcher import command_line
from worker.jobs.room import Room
from worker.lease import Claim


class Worker:
    """One of so many slots on a host without GPUs, by its row, its room and the claims that it has."""

    def __init__(self, name: str, slots: int):
        self.name = training_worker(name, host=f"host-{name}", slots=slots, gpus=[])
        self.room = Room(Slots([()] * slots))
        self.open: dict[str, Any] = {}

    def claim(self) -> Claim | None:
        """What a slot of its takes up next."""
        taking = self.room.claimed(self.name)
        taken = taking.__enter__()
        if taken is None:
            taking.__exit__(None, None, None)
            return None
        self.open[taken[0].id] = (taking, taken[0])
        return taken[0]

    def finish(self, job_id: str, ending: Ending | None = None) -> None:
        taking, claim = self.open.pop(job_id)
        apply_ending(claim, ending or Ending(Outcome.FAILED, "over", code="x"))
        taking.__exit__(None, None, None)

    def look(self) -> None:
        self.room.look(self.name, drains=False)


def large(service: Service, gpus: int, least: int | None = None, **columns: Any) -> str:
    resources = {"gpus": gpus, "launcher": "torchrun", **({} if least is None else {"min_gpus": least})}
    spec = {"run_id": "x", "total_steps": 3, "resources": resources}
    return service.add_job(run_spec=spec, wanted_gpus=gpus, least_gpus=gpus, **columns)


def texts(service: Service, job_id: str) -> list[str]:
    return [event.message for event in service.events(job_id)]


def test_a_job_takes_all_its_slots_or_none(service: Service) -> None:
    worker = Worker("a", slots=3)
    small = service.add_job(created_at=1.0)
    big = large(service, 2, created_at=2.0)
    other = large(service, 2, created_at=3.0)
    last = service.add_job(created_at=4.0)
    assert [claim and claim.id for claim in (worker.claim(), worker.claim())] == [small, big]
    assert worker.room.free == 0 and worker.claim() is None
    assert service.job(big).held_gpus == 2
    worker.finish(small)
    found = worker.claim()
    assert found and found.id == last, "one slot is free, in which the other one has no room"
    worker.finish(big)
    found = worker.claim()
    assert found and (found.id, found.gpus) == (other, 2)


def test_small_jobs_do_not_starve_a_large_one(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker that has the most free of those that could hold it waits for it; the others work."""
    monkeypatch.setattr(get_settings(), "reserve_seconds", 0.0)
    able, narrow = Worker("able", slots=4), Worker("narrow", slots=2)
    running = [service.add_job(created_at=float(n)) for n in range(4)]
    assert [able.claim() and one for one in running] == running
    big = large(service, 4, created_at=10.0)
    for worker in (able, narrow):
        worker.look()
    assert texts(service, big) == ["The job waits for 4 slots; the largest free block is 2."]
    small = [service.add_job(created_at=20.0 + n) for n in range(6)]
    for worker in (narrow, able):
        worker.look()
    assert texts(service, big)[1:] == [
        "What becomes free on host-able is reserved for the job: 0 of 4 slots so far."
    ]
    assert (able.room.kept_for, narrow.room.kept_for) == (big, None)
    for job_id in running:
        assert able.claim() is None
        able.finish(job_id)
    found = narrow.claim()
    assert found and found.id == small[0], "which could never hold it, and does not idle"
    found = able.claim()
    assert found and (found.id, found.gpus) == (big, 4)
    assert (service.job(big).reserved_by, able.room.kept_for) == (None, None)
    able.finish(big)
    able.look()
    found = able.claim()
    assert found and found.id == small[1], "and then it works for all again"


def test_room_is_kept_only_once_it_was_waited_for(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker("a", slots=2)
    first = service.add_job(created_at=1.0)
    worker.claim()
    big = large(service, 2, created_at=2.0)
    worker.look()
    worker.look()
    small = service.add_job(created_at=3.0)
    found = worker.claim()
    assert found and found.id == small
    worker.finish(small)
    service.change(big, turn_at=time.time() - get_settings().reserve_seconds - 1)
    worker.look()
    service.add_job(created_at=4.0)
    assert worker.claim() is None
    worker.finish(first)
    found = worker.claim()
    assert found and found.id == big


def test_a_worker_that_is_lost_or_drains_keeps_no_room(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(get_settings(), "reserve_seconds", 0.0)
    one, other = Worker("a", slots=2), Worker("b", slots=2)
    for worker in (one, other):
        service.add_job(created_at=1.0)
        worker.claim()
    big = large(service, 2, created_at=2.0)
    for worker in (one, other, one, other):
        worker.look()
    assert service.job(big).reserved_by == "b"
    training_worker("b", slots=2, gpus=[], heartbeat_at=0.0)
    one.look()
    assert (service.job(big).reserved_by, one.room.kept_for) == ("a", big)
    one.room.look("a", drains=True)
    assert (service.job(big).reserved_by, one.room.kept_for) == (None, None)


def test_after_a_loss_a_job_goes_on_with_what_is_left(service: Service) -> None:
    four, two = Worker("four", slots=4), Worker("two", slots=2)
    job_id = large(service, 4, least=2)
    assert two.claim() is None, "at first it waits for all"
    found = four.claim()
    assert found and found.gpus == 4
    four.finish(job_id, Ending(Outcome.CRASHED, "rank 3 has died"))
    found = two.claim()
    assert found and (found.id, found.gpus) == (job_id, 2)
    assert service.job(job_id).held_gpus == 2


def test_what_no_worker_can_hold_delays_nobody(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_settings(), "reserve_seconds", 0.0)
    worker = Worker("a", slots=2)
    huge = large(service, 16, created_at=1.0)
    lost = large(service, 8, least=2, created_at=2.0, attempt=1)
    small = service.add_job(created_at=3.0)
    worker.look()
    worker.look()
    assert texts(service, huge) == ["The job waits for 16 slots; the largest worker has 2."]
    assert "the job continues with at least 2" in texts(service, lost)[0]
    assert worker.room.kept_for is None
    found = worker.claim()
    assert found and (found.id, found.gpus) == (lost, 2)
    worker.finish(lost)
    found = worker.claim()
    assert found and found.id == small


@pytest.mark.parametrize(
    ("shares", "wanted", "expected", "seen"),
    [
        ([("0",), ("1",), ("2",), ("3",)], 3, (0, 1, 2), "0,1,2"),
        ([("0", "2"), ("1", "3")], 2, (0,), "0,2"),
        ([("0", "2"), ("1", "3")], 3, (0, 1), "0,2,1,3"),
        ([("0",), ("0",), ("1",)], 2, (0, 2), "0,1"),
        ([("0",), ("0",)], 2, (0,), "0"),
    ],
)
def test_slots_are_taken_until_the_gpus_are_enough(
    shares: list[tuple[str, ...]], wanted: int, expected: tuple[int, ...], seen: str
):
    slots = Slots(shares)
    assert slots.free == len({gpu for share in shares for gpu in share})
    taken = slots.take_together(wanted)
    assert taken == expected
    assert slots.environment(*taken) == {"CUDA_VISIBLE_DEVICES": seen}
    slots.give_back(*taken)
    assert slots.free == len({gpu for share in shares for gpu in share})


def test_a_claim_of_one_gpu_passes_a_larger_job_over(service: Service) -> None:
    large(service, 2, created_at=1.0)
    small = service.add_job(created_at=2.0)
    claim = holding.claim_next("a release of before")
    assert claim and (claim.id, claim.gpus) == (small, 1)
    assert holding.any_due() and not holding.any_due(1)


def test_a_run_on_a_ray_cluster_is_taken_where_one_answers_and_holds_one_slot(service: Service) -> None:
    worker = Worker("a", slots=2)
    spec = {"run_id": "x", "total_steps": 3, "resources": {"gpus": 16, "nodes": 2, "launcher": "ray"}}
    run = service.add_job(run_spec=spec, wanted_gpus=1, least_gpus=0, created_at=1.0)
    small = service.add_job(created_at=2.0)
    assert (claim := worker.claim()) is not None and claim.id == small
    assert worker.claim() is None and not worker.room.any_due()
    worker.room.on_ray = True
    assert worker.room.any_due()
    assert (claim := worker.claim()) is not None and (claim.id, claim.gpus) == (run, 1)
    assert worker.room.free == 0


def test_a_run_that_waits_for_a_ray_cluster_keeps_no_large_job_from_its_turn(service: Service) -> None:
    worker = Worker("a", slots=2)
    service.add_job(created_at=1.0)
    assert worker.claim() is not None
    service.add_job(wanted_gpus=1, least_gpus=0, created_at=2.0)
    job = large(service, 2, created_at=3.0)
    worker.look()
    assert texts(service, job) == ["The job waits for 2 slots; the largest free block is 1."]


def test_the_command_line_of_a_run_on_a_ray_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    own = get_settings().trainer_command
    sixteen = Resources(gpus=16, nodes=2, min_gpus=8, launcher="ray")
    line = command_line(own, sixteen, 1)
    assert line[1:4] == ["-P", "-m", "trainer.gang"]
    tail = ["--spec", "s", "--run-dir", "r", "--events", "e", "--attempt", "3"]
    told = options_of([*line[4:], *tail])
    assert (told.ranks, told.min_ranks, told.nodes, told.cpu, told.attempt) == (16, 8, 2, False, 3)
    monkeypatch.setenv("POLICYSPLIT_RAY_DEVICE", "cpu")
    get_settings.cache_clear()
    told = options_of([*command_line(["other", "program"], sixteen, 1)[4:], *tail])
    assert told.cpu and told.trainer == ["other", "program"]
    engines = Resources(gpus=6, rollout_gpus=4, tensor_parallel=2, launcher="ray")
    told = options_of([*command_line(own, engines, 1)[4:], *tail])
    assert (told.ranks, told.nodes, told.rollout_gpus, told.tensor_parallel) == (2, 1, 4, 2)
    monkeypatch.undo()
    get_settings.cache_clear()
