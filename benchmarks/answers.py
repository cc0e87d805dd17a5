"""What finding equal answers costs of a step: ``python -m benchmarks.answers --model FOLDER``.

Runs a few real steps of the demo's job on numbers, whose high-entropy mode is rewarded for unique answers,
under a profiler, and prints the seconds of each part and its share of a step (median): the grader's
``answer()`` on a step's responses, as its sandbox calls it, the rewards (``unique_rewards``) and the metrics
(``answer_metrics``).
"""

import argparse
import cProfile
import pstats
import statistics
import tempfile
import timeit
from pathlib import Path
from typing import Any

from app.cli.demo.numbers_grader import answer
from app.cli.demo.task import TASKS
from trainer.loop import Run
from trainer.objective.uniqueness import unique_rewards
from trainer.spec.data import JsonlData
from trainer.spec.events import EventWriter, StepMetrics, read_events
from trainer.spec.model import ModelSpec
from trainer.spec.run import CheckpointSpec, DiagnosticsSpec, RunSpec
from trainer.steps.step_metrics import answer_metrics

REPEATS = 7


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="a model folder in Hugging Face format")
    parser.add_argument("--steps", type=int, default=3)
    options = parser.parse_args()
    asked = TASKS["numbers"].job_body()["method"]["reinforcement"]
    with tempfile.TemporaryDirectory() as folder:
        step, parts = profiled_steps(options, asked, Path(folder))
    parts = {"answer": answers_of_a_step(asked)} | parts
    total = sum(parts.values())
    for name, seconds in (parts | {"in all": total}).items():
        print(f"{name:28} {1000 * seconds:8.2f} ms a step   {100 * seconds / step:.3f} %")
    print(f"{'a step':28} {1000 * step:8.0f} ms")


def profiled_steps(
    options: argparse.Namespace, asked: dict[str, Any], folder: Path
) -> tuple[float, dict[str, float]]:
    """The seconds of a step, and of its parts that are about answers."""
    TASKS["numbers"].write_data(folder / "rows.jsonl", folder / "unseen.jsonl")
    spec = RunSpec(
        run_id="answers",
        model=ModelSpec(path=str(options.model)),
        training_data=JsonlData(path=str(folder / "rows.jsonl")),
        grader=asked["grader"],
        algorithm=asked["algorithm"],
        rollout=asked["rollout"],
        optimizer=asked["optimizer"],
        preflight=None,
        checkpoint=CheckpointSpec(keep_best=0),
        diagnostics=DiagnosticsSpec(interval=0),
        total_steps=options.steps,
    )
    profiler = cProfile.Profile()
    with EventWriter(folder / "events.jsonl") as events:
        run = Run(spec, folder / "run", events)
        profiler.runcall(run.run)
    found = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    metrics = [one.values for one, _ in read_events(folder / "events.jsonl") if isinstance(one, StepMetrics)]
    steps = [one["train/step_seconds"] for one in metrics if "train/step_seconds" in one]
    parts = {
        function.__name__: sum(
            cumulative
            for (file, line, _), (_, _, _, cumulative, _) in found.items()
            if (file, line) == (function.__code__.co_filename, function.__code__.co_firstlineno)
        )
        / len(steps)
        for function in (unique_rewards, answer_metrics)
    }
    return statistics.median(steps), parts


def answers_of_a_step(asked: dict[str, Any]) -> float:
    """The seconds of ``answer()`` for the responses of a step; the best of a few times."""
    row = TASKS["numbers"].rows()[0][0]
    count = asked["rollout"]["prompts_per_step"] * asked["rollout"]["samples_per_prompt"]
    samples = [{"output_text": f"{row['low'] + index % 5}."} for index in range(count)]
    return min(timeit.repeat(lambda: [answer(sample, row) for sample in samples], number=1, repeat=REPEATS))


if __name__ == "__main__":
    main()
