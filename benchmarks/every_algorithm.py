"""A few real steps of every algorithm and every ablation on one model: do they run, and tell everything?

``python -m benchmarks.every_algorithm --model DIR`` prints a table row each: reward and entropy per mode at
the last step, trained tokens, seconds a step, and metric names that are missing. A mode that trains must
have all of its names at some step. Exits 1 if a run fails or a name is missing.
"""

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path

from trainer.ablations import ablation_names, load_ablation
from trainer.algorithms import ALGORITHMS
from trainer.graders.spec import EnvironmentGrader
from trainer.loop import Run
from trainer.spec.data import EnvironmentData
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.events import EventWriter, StepMetrics, read_events
from trainer.spec.model import ModelSpec
from trainer.spec.run import DiagnosticsSpec, OptimizerSpec, RolloutSpec, RunSpec

TASK: dict[str, object] = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}
OF_A_MODE = ("reward", "length", "truncated", "entropy_nats", "entropy_bits", "surprisal", "advantage_abs")
OF_A_STEP = (
    *("train/zero_variance", "train/grad_norm", "train/lr", "train/tokens_generated"),
    *("train/tokens_trained", "train/tokens_per_second", "train/step_seconds"),
    *("time/generate", "time/score", "time/forward_backward", "time/optimizer", "time/sync"),
)


def base_spec(model: Path, steps: int) -> RunSpec:
    """The run that every algorithm and ablation is laid over."""
    return RunSpec(
        run_id="every-algorithm",
        model=ModelSpec(path=str(model)),
        training_data=EnvironmentData(task="chain_sum", parameters=TASK),
        validation_data=EnvironmentData(task="chain_sum", parameters=TASK, seed=10_000, size=4),
        grader=EnvironmentGrader(task="chain_sum", parameters=TASK, extract="last_number"),
        rollout=RolloutSpec(prompts_per_step=2, samples_per_prompt=8, max_response_tokens=16),
        optimizer=OptimizerSpec(learning_rate=4e-5),
        evaluation=EvaluationSpec(max_items=2),
        preflight=None,
        diagnostics=DiagnosticsSpec(interval=0),
        total_steps=steps,
    )


def specs(base: RunSpec) -> dict[str, RunSpec]:
    """Every run by name; an algorithm has all of its own defaults."""
    found = {
        name: RunSpec.model_validate(base.model_dump(mode="json") | {"algorithm": {"type": name}})
        for name in sorted(ALGORITHMS)
    }
    for name in ablation_names():
        found[f"ablation {name}"] = load_ablation(name, base.total_steps).run_spec(base)
    return found


def run(spec: RunSpec, run_dir: Path) -> list[StepMetrics]:
    """Train ``spec``; the metrics of its steps."""
    with EventWriter(run_dir / "events.jsonl") as events:
        Run(spec, run_dir, events).run()
    told = [event for event, _ in read_events(run_dir / "events.jsonl")]
    return [event for event in told if isinstance(event, StepMetrics)]


def missing_names(metrics: list[StepMetrics]) -> list[str]:
    """Names that no step has, of those that the run's modes ought to have."""
    steps = [event.values for event in metrics if event.step > 0]
    names = {name for values in steps for name in values}
    wanted = set(OF_A_STEP)
    for mode in "NH":
        if any(values.get(f"train/weight_{mode}") and f"train/{mode}/reward" in values for values in steps):
            wanted |= {f"train/{mode}/{name}" for name in OF_A_MODE}
    return sorted(wanted - names) if steps else []


def main() -> int:
    """Print the table; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="a model folder in Hugging Face format")
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    print("| run | steps | reward N / H | entropy N / H, nats | trained tokens | s a step | missing |")
    print("|---|---|---|---|---|---|---|", flush=True)
    faults = 0
    for name, spec in specs(base_spec(options.model, options.steps)).items():
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            metrics = run(spec, Path(folder))
            seconds = (time.perf_counter() - began) / max(spec.total_steps, 1)
        last = metrics[-1].values

        def pair(metric: str, values: dict[str, float] = last) -> str:
            prefix = "train" if "train/step_seconds" in values else "eval"
            both = (values.get(f"{prefix}/{mode}/{metric}", math.nan) for mode in "NH")
            return " / ".join("–" if math.isnan(value) else f"{value:.2f}" for value in both)

        missing = missing_names(metrics)
        done = metrics[-1].step
        faults += bool(missing) or done != spec.total_steps
        trained = sum(event.values.get("train/tokens_trained", 0.0) for event in metrics)
        cells = [name, str(done), pair("reward"), pair("entropy_nats"), f"{trained:.0f}", f"{seconds:.1f}"]
        print("| " + " | ".join([*cells, ", ".join(missing) or "none"]) + " |", flush=True)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())
