"""The metric names of the design notes (section 6), all of them and memory, from real steps."""

from pathlib import Path

import pytest

from tests.fixtures.models import build_tiny_model
from tests.fixtures.runs import events_of, tiny_spec, write_rows
from trainer.diagnostics.hidden_states import probed_layers
from trainer.loop import Run
from trainer.spec.algorithm import Grpo, PolicySplit
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.events import EventWriter, StepMetrics
from trainer.spec.metric_names import METRICS
from trainer.spec.run import DiagnosticsSpec, RolloutSpec
from worker.integrations.mlflow_sink import TOTALS

PER_MODE = [
    *("reward", "length", "truncated", "entropy_nats", "entropy_bits", "surprisal"),
    *("clipfrac_low", "clipfrac_high", "advantage_abs"),
]
OF_A_STEP = [
    *("zero_variance", "weight_N", "grad_norm", "lr", "tokens_generated", "tokens_trained"),
    *("tokens_per_second", "step_seconds"),
]
TIMES = ["generate", "score", "forward_backward", "optimizer", "sync", "checkpoint"]
#: No maj@k: this grader knows no answers.
EVALUATED = ["accuracy", "pass@1", "pass@2", "entropy_bits", "distinct2", "self_bleu4"]


def both(*patterns: str) -> set[str]:
    return {pattern.format(mode) for pattern in patterns for mode in "NH"}


EVERY_STEP = {
    *both(*(f"train/{{}}/{name}" for name in PER_MODE)),
    *(f"train/{name}" for name in (*OF_A_STEP, "weight_H", "eta")),
    *(f"time/{name}" for name in TIMES),
    *(f"cross/{name}/{rows}" for name in ("ratio_mean", "ratio_p99", "ess") for rows in ("N_on_H", "H_on_N")),
    *both("diag/kl_H_N/prefix_{}", "diag/kl_N_H/prefix_{}", "diag/js/prefix_{}"),
    "memory/resident_gib",
    *("rollout/logprob_gap_mean", "rollout/logprob_gap_max"),
}
#: Only where rewards of a group differ is there a bonus.
SOME_STEPS = {f"train/H/{name}" for name in ("bonus_abs", "bonus_clipfrac", "bonus_max")}
PROBED = {
    *(
        f"diag/hidden_{kind}{control}/L{n}"
        for kind in ("cos", "cka")
        for control in ("", "_neutral")
        for n in (1, 2)
    ),
    *(f"diag/grad_{name}" for name in ("cos", "cos_bonus", "bonus_ratio", "conflict_rate")),
    *("diag/grad_conflict_rate_null", "diag/grad_cos/L1", "diag/grad_cos/L2"),
}
EVALUATION = {
    *both(*(f"eval/{{}}/{name}" for name in EVALUATED), "eval/only_{}"),
    *("eval/mix/pass@2", "eval/mix/pass@4"),
}


def step_metrics(spec, run_dir: Path) -> list[StepMetrics]:
    with EventWriter(run_dir / "events.jsonl") as events:
        assert Run(spec, run_dir, events).run()
    return [event for event in events_of(run_dir) if isinstance(event, StepMetrics)]


@pytest.fixture
def settings(tmp_path: Path) -> dict:
    return {
        "model_path": build_tiny_model(tmp_path / "model", spread=0.3),
        "data": write_rows(tmp_path / "data.jsonl"),
        "rollout": RolloutSpec(prompts_per_step=3, samples_per_prompt=6, max_response_tokens=48),
        "evaluation": EvaluationSpec(max_items=3, samples_per_item=2),
        "diagnostics": DiagnosticsSpec(interval=1, probe_items=6),
        "total_steps": 3,
    }


def test_policy_split_has_every_name(settings: dict, tmp_path: Path):
    assert probed_layers(2) == [1, 2]
    settings["total_steps"] = 4
    metrics = step_metrics(tiny_spec(**settings, algorithm=PolicySplit(eta=0.3)), tmp_path / "run")
    assert metrics[0].values.keys() >= EVALUATION
    for step in metrics[1:]:
        assert step.values.keys() >= EVERY_STEP
    assert metrics[-1].values.keys() >= EVALUATION
    assert metrics[-1].values["time/evaluate"] > 0 and metrics[-1].values["time/diagnostics"] > 0
    together = {name for step in metrics for name in step.values}
    assert together >= SOME_STEPS | PROBED
    # MLflow keeps a metric as a file, and a name before a slash as a folder.
    both_kinds = {name for name in together if any(other.startswith(f"{name}/") for other in together)}
    assert both_kinds == {"diag/grad_cos", "time/diagnostics"}
    # The others have names below them where a grader failed, which this one does not.
    assert both_kinds | {"train/grader_errors", "eval/grader_errors"} == TOTALS
    # The checkpoint of step 2 shows in the metrics of step 3, and in no others.
    times = [step.values["time/checkpoint"] for step in metrics[1:]]
    assert times[0] == times[1] == times[3] == 0.0 < times[2]
    for step in metrics[1:]:
        parts = sum(step.values[f"time/{name}"] for name in TIMES if name != "checkpoint")
        assert 0 < parts < step.values["train/step_seconds"]
        # The speed is that of training: a step that evaluates or probes is not a slower one.
        other = step.values.get("time/evaluate", 0.0) + step.values.get("time/diagnostics", 0.0)
        seconds = step.values["train/step_seconds"] - other
        speed = step.values["train/tokens_generated"] / seconds
        assert step.values["train/tokens_per_second"] == pytest.approx(speed)
        assert step.values["rollout/logprob_gap_mean"] <= step.values["rollout/logprob_gap_max"] < 1e-3


def test_one_mode_has_every_name_of_one_mode(settings: dict, tmp_path: Path):
    metrics = step_metrics(tiny_spec(**settings, algorithm=Grpo()), tmp_path / "run")
    two_modes = ("cross/", "diag/", "train/H/")
    expected = {n for n in EVERY_STEP if not n.startswith(two_modes)} - {"train/weight_H", "train/eta"}
    for step in metrics[1:]:
        assert step.values.keys() >= expected
        assert not [name for name in step.values if name.startswith(two_modes)]
    assert metrics[-1].values.keys() >= {name for name in EVALUATION if name.startswith("eval/N/")}


def test_every_metric_is_described_once(settings: dict, tmp_path: Path):
    settings["total_steps"] = 1
    (*_, last) = step_metrics(tiny_spec(**settings, algorithm=PolicySplit(eta=0.3)), tmp_path / "run")
    for name in (*last.values, *EVERY_STEP, *SOME_STEPS, *PROBED, *EVALUATION):
        assert len([one for one in METRICS if one.matches(name)]) == 1, name
