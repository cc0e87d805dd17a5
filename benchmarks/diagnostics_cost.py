"""What each diagnostic costs: ``python -m benchmarks.diagnostics_cost --model FOLDER``.

Runs a few real steps of Policy Split with every probe before each of them and prints, per diagnostic, its
seconds (medians over the steps after the first) and its share of a step without diagnostics, spread over the
default interval. The reward asks only for a common word, so that the rewards of a group differ and the
gradient probe has work to do.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from benchmarks.job import TOPICS
from trainer.graders.spec import StringCheckGrader
from trainer.loop import Run
from trainer.spec.data import JsonlData
from trainer.spec.events import EventWriter, StepMetrics, read_events
from trainer.spec.model import ModelSpec
from trainer.spec.run import CheckpointSpec, DiagnosticsSpec, RolloutSpec, RunSpec

DEFAULT = DiagnosticsSpec()
PARTS = ("sample", "hidden_states", "gradients")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="a model folder in Hugging Face format")
    parser.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--prompts", type=int, default=RolloutSpec().prompts_per_step)
    parser.add_argument("--samples", type=int, default=RolloutSpec().samples_per_prompt)
    parser.add_argument("--tokens", type=int, default=32, help="longest response")
    parser.add_argument("--stride", type=int, default=DEFAULT.divergence_stride)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        steps = measure(options, Path(folder))
    report(steps, options.stride)


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, float]]:
    """The metrics of each step, the first left out where there are others."""
    rows = [{"messages": [{"role": "user", "content": f"Tell me about {topic}."}]} for topic in TOPICS]
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = RunSpec(
        run_id="diagnostics-cost",
        model=ModelSpec(path=str(options.model), dtype=options.dtype),
        training_data=JsonlData(path=str(data)),
        grader=StringCheckGrader(input="{{sample.output_text}}", reference=" is ", operation="ilike"),
        rollout=RolloutSpec(
            prompts_per_step=options.prompts,
            samples_per_prompt=options.samples,
            max_response_tokens=options.tokens,
        ),
        preflight=None,
        diagnostics=DiagnosticsSpec(interval=1, divergence_stride=options.stride),
        checkpoint=CheckpointSpec(keep_best=0),
        total_steps=options.steps,
    )
    with EventWriter(folder / "events.jsonl") as events:
        Run(spec, folder, events).run()
    found = [e.values for e, _ in read_events(folder / "events.jsonl") if isinstance(e, StepMetrics)]
    return found[1:] or found


def report(steps: list[dict[str, float]], stride: int) -> None:
    """Print the table."""

    def seconds(name: str) -> float:
        return statistics.median(values.get(name, 0.0) for values in steps)

    step = statistics.median(
        v["train/step_seconds"] - v["time/diagnostics"] - v["time/divergence"] for v in steps
    )
    print(f"a step without diagnostics: {step:.2f} s")
    print(f"{'diagnostic':<34}{'seconds':>9}{'every':>7}{'share of step time':>20}")
    total = 0.0
    rows = [(f"inter-mode divergence, stride {stride}", seconds("time/divergence"), 1)]
    names = {"sample": "probe answers", "hidden_states": "hidden states", "gradients": "gradients"}
    rows += [(names[part], seconds(f"time/diagnostics/{part}"), DEFAULT.interval) for part in PARTS]
    for name, cost, interval in rows:
        total += cost / interval / step
        print(f"{name:<34}{cost:>9.2f}{interval:>7}{cost / interval / step:>20.2%}")
    print(f"{'all, at the default interval':<34}{'':>16}{total:>20.2%}")
    groups = statistics.mean(v.get("diag/grad_groups", 0.0) for v in steps)
    print(f"probe groups with a gradient: {groups:.1f} of {DEFAULT.probe_items}")


if __name__ == "__main__":
    main()
