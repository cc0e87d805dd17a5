"""Sampling ahead of training: whose weights sample what, how it is weighed, and that a resumed run agrees."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.fixtures.groups import H, N, load_tiny_policy
from tests.fixtures.runs import events_of, reproducible
from tests.trainer.sampling_beside import STEPS, Beside, built, spec_of
from trainer.errors import EngineFailed
from trainer.loop import Run
from trainer.model.policy import Policy
from trainer.model.scoring import Scores, score_groups
from trainer.objective.metrics import MetricSums
from trainer.replay import replay
from trainer.rollout.engine import Sample, SampleRequest
from trainer.spec.algorithm import Dapo, PolicySplit
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.events import Event, EventWriter, Phase, StepMetrics, Stopped
from trainer.spec.modes import Mode
from trainer.spec.run import CheckpointSpec, DiagnosticsSpec, RolloutSpec, RunSpec
from trainer.steps.group_loss import formed
from trainer.steps.update import UpdateResult
from trainer.types import Group


class Watched(Run):
    """Keeps what every step trained."""

    trained: list[list[Group]]

    def _update(self, context: Any, groups: list[Group]) -> UpdateResult:
        self.trained.append(groups)
        return super()._update(context, groups)


def run(spec: RunSpec, folder: Path, engine: type[Beside] | None = None, events: EventWriter | None = None):
    with events or EventWriter(folder / "events.jsonl") as writer:
        found = Watched(spec, folder, writer)
        found.trained = []
        if engine is not None:
            found._engine = built(found, engine)
        assert found.run()
    return found


def steps_of(folder: Path) -> dict[int, StepMetrics]:
    return {e.step: e for e in events_of(folder) if isinstance(e, StepMetrics)}


def test_a_step_trains_what_the_weights_of_k_steps_before_sampled(tiny_model: Path, tmp_path: Path):
    """Log-probs as sampled are those of that checkpoint; omega is that ratio, cut at 2, in both prompts."""
    staleness = 2
    spec = spec_of(tiny_model, tmp_path, staleness)
    found = run(spec, tmp_path / "run")
    metrics = steps_of(tmp_path / "run")
    ages = [metrics[step].values["train/rollout_age"] for step in range(1, STEPS + 1)]
    assert ages == [min(step, staleness) for step in range(STEPS)]
    assert found._algorithm.rollout_importance_cap == 2
    assert any(metrics[step].values["train/grad_norm"] > 0 for step in range(1, STEPS))
    for step, groups in enumerate(found.trained):
        weights = max(0, step - staleness)
        folder = tmp_path / f"run/checkpoints/step-{weights}" if weights else tiny_model
        sampler = load_tiny_policy(folder, double=False)
        trainer = load_tiny_policy(
            tmp_path / f"run/checkpoints/step-{step}" if step else tiny_model, double=False
        )
        for group in groups:
            sampled_T = torch.tensor([x for r in group.rollouts for x in r.logprobs])
            normal_T = group.produced_by(N)[group.response_of_T]
            sampler_T, trainer_T = (
                torch.where(normal_T, scores[N].logp_T, scores[H].logp_T)
                for scores in (scores_of(policy, group) for policy in (sampler, trainer))
            )
            assert torch.allclose(sampled_T, sampler_T, atol=2e-5), step
            omega_T = (trainer_T - sampled_T).exp().clamp(max=2.0)
            moved = any(metrics[s].values["train/grad_norm"] > 0 for s in range(weights + 1, step + 1))
            assert bool(((omega_T - 1).abs() > 1e-3).any()) == moved, step
            scores = scores_of(trainer, group)
            old_logp_T = {mode: of_mode.logp_T for mode, of_mode in scores.items()}
            plan = found._algorithm.plan(group)
            for mode in (N, H):
                entropy_T = scores[mode].entropy_T
                given = formed(found._algorithm, plan, mode, old_logp_T, entropy_T, step, MetricSums())
                assert given.importance_T is not None
                assert torch.allclose(given.importance_T, omega_T, atol=1e-5)


def scores_of(policy: Policy, group: Group) -> dict[Mode, Scores]:
    """Of all response tokens under both prompts."""
    with torch.no_grad():
        return score_groups(policy, [group], (N, H), 1.0)[0]


def test_beside_the_update_it_samples_what_it_would_have_sampled_before_it(tiny_model: Path, tmp_path: Path):
    """To the bit, with groups that are dropped and sampled again; and it does not begin before the update."""
    began = threading.Event()

    class AtOnce(EventWriter):
        def write(self, event: Event) -> None:
            super().write(event)
            if isinstance(event, Phase) and event.phase in ("forward_backward", "sync"):
                began.set() if event.phase == "forward_backward" else began.clear()

    class Waiting(Beside):
        def generate(self, requests: Sequence[SampleRequest], **options: Any) -> list[Sample]:
            if threading.current_thread().name == "sample-ahead":
                assert began.wait(60), "the update does not begin while it samples"
            return super().generate(requests, **options)

    spec = spec_of(tiny_model, tmp_path, 1, algorithm=Dapo(resampling_rounds=1))
    ordered = run(spec, tmp_path / "ordered")
    beside = run(spec, tmp_path / "beside", Waiting, AtOnce(tmp_path / "beside/events.jsonl"))
    assert beside.counters == ordered.counters
    one, other = steps_of(tmp_path / "ordered"), steps_of(tmp_path / "beside")
    assert [one[step].digest for step in one] == [other[step].digest for step in one]
    for step in range(1, STEPS + 1):
        assert reproducible(one[step]) == reproducible(other[step])
        assert ("time/ahead" in other[step].values) == (step < STEPS)


def test_what_was_sampled_ahead_is_saved_and_trained_by_who_goes_on(tiny_model: Path, tmp_path: Path):
    """Stopped after each step and resumed, a run comes to the same; so does a step that is replayed."""
    spec = spec_of(tiny_model, tmp_path, 2)
    run(spec, tmp_path / "whole")
    stop = threading.Event()

    class Stopping(EventWriter):
        def write(self, event: Event) -> None:
            super().write(event)
            if isinstance(event, StepMetrics):
                stop.set()

    finished, third, attempt = False, None, 0
    for attempt in range(STEPS + 1):
        if finished:
            break
        stop.clear()
        with Stopping(tmp_path / "cut/events.jsonl") as events:
            finished = Run(spec, tmp_path / "cut", events, stop).run()
        if attempt == 2:
            third = replay(spec, tmp_path / "cut", 3)
            assert (third.source, third.from_step) == ("state", 2)
    assert finished and attempt >= STEPS - 1
    whole, cut = steps_of(tmp_path / "whole"), steps_of(tmp_path / "cut")
    assert [whole[step].digest for step in whole] == [cut[step].digest for step in whole]
    assert third is not None and third.digest == whole[3].digest
    digest = whole[4].digest
    assert digest is not None
    fourth = replay(spec, tmp_path / "whole", 4)
    assert (fourth.source, fourth.digest.rollouts) == ("beginning", digest.rollouts)


def test_a_stop_while_the_engine_beside_the_update_fails_saves_no_half_step(tiny_model: Path, tmp_path: Path):
    """The weights are after the update, the batch that was to be sampled with those before is not there."""
    third, stop = threading.Event(), threading.Event()

    class Failing(Beside):
        def generate(self, requests: Sequence[SampleRequest], **options: Any) -> list[Sample]:
            if third.is_set() and threading.current_thread().name == "sample-ahead":
                assert stop.wait(60), "the third update does not begin while it samples"
                raise EngineFailed("it was stopped")
            return super().generate(requests, **options)

    class Stopping(EventWriter):
        def write(self, event: Event) -> None:
            super().write(event)
            if isinstance(event, StepMetrics) and event.step == 2:
                third.set()
            if isinstance(event, Phase) and (event.step, event.phase) == (3, "forward_backward"):
                stop.set()

    spec = spec_of(tiny_model, tmp_path, 1, checkpoint=CheckpointSpec(interval=1))
    with Stopping(tmp_path / "run/events.jsonl") as events:
        cut = Run(spec, tmp_path / "run", events, stop)
        cut._engine = built(cut, Failing)
        cut._stop_if_asked = lambda: None  # asked within the step
        assert not cut.run()
    last = events_of(tmp_path / "run")[-1]
    assert isinstance(last, Stopped) and last.step == 2
    with EventWriter(tmp_path / "run/events.jsonl") as events:
        assert Run(spec, tmp_path / "run", events).run()
    run(spec, tmp_path / "whole")
    whole, resumed = steps_of(tmp_path / "whole"), steps_of(tmp_path / "run")
    assert [whole[step].digest for step in whole] == [resumed[step].digest for step in whole]


def test_zero_is_what_there_was():
    """Nothing is written of it, so that documents are as before; and modes are weighed as before."""
    assert "staleness" not in RolloutSpec().model_dump_json()
    assert PolicySplit().rollout_importance_cap is None


def test_an_engine_rests_while_the_model_is_trained_probed_and_measured(tiny_model: Path, tmp_path: Path):
    """And is woken before it samples: on a GPU that they share, its memory is theirs meanwhile."""
    phase = ""
    seen: set[str] = set()

    class Phases(EventWriter):
        def write(self, event: Event) -> None:
            nonlocal phase
            super().write(event)
            if isinstance(event, Phase):
                phase = event.phase

    class Sleeping(Beside):
        asleep = False

        @property
        def resting(self) -> bool:
            return self.asleep

        def rest(self) -> None:
            self.asleep = True

        def wake(self) -> None:
            self.asleep = False

        def sync(self) -> None:
            super().sync()
            self.asleep = False

        def generate(self, requests: Sequence[SampleRequest], **options: Any) -> list[Sample]:
            assert not self.asleep
            return super().generate(requests, **options)

    spec = spec_of(
        tiny_model, tmp_path, 0, total_steps=2, diagnostics=DiagnosticsSpec(interval=1, probe_items=1)
    )
    spec = spec.model_copy(
        update={"validation_data": spec.training_data, "evaluation": EvaluationSpec(interval=1, max_items=1)}
    )
    with Phases(tmp_path / "run/events.jsonl") as events:
        found = Run(spec, tmp_path / "run", events)
        engine = Sleeping(found.policy, tiny_model)
        found._engine = built(found, lambda *_: engine)

        def look(*_: object) -> None:
            if phase in ("forward_backward", "diagnostics", "evaluate"):
                assert engine.asleep, phase
                seen.add(phase)

        found.policy.model.get_input_embeddings().register_forward_pre_hook(look)
        assert found.run()
    assert seen == {"forward_backward", "diagnostics", "evaluate"}
