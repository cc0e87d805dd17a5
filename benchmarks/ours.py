"""Runs the job of ``benchmarks.job`` with this trainer; a JSON line a step."""

import json
import tempfile
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from benchmarks.job import Job, conversations, from_arguments, reward, say, say_memory
from trainer.loop import Run
from trainer.spec.events import EventWriter, StepMetrics, read_events
from trainer.spec.run import RunSpec
from trainer.system.heap import keep_freed_memory


def spec(job: Job, folder: Path) -> RunSpec:
    """The run; its rows are written to ``folder``."""
    model = {
        "path": job.model,
        "dtype": job.dtype,
        "logits_dtype": job.logits_dtype,
        "gradient_checkpointing": job.gradient_checkpointing,
    }
    fields = {
        "run_id": "benchmark",
        "model": model,
        "training_data": {"type": "jsonl", "path": str(folder / "rows.jsonl")},
        "grader": None,
        "algorithm": {"type": job.algorithm},
        "rollout": {
            "prompts_per_step": job.prompts,
            "samples_per_prompt": job.samples,
            "max_response_tokens": job.response_tokens,
        },
        "optimizer": {"learning_rate": 1e-6},
        "preflight": None,
        "diagnostics": {"interval": 0, "divergence_stride": 0},
        "checkpoint": {"keep_best": 0},
        "total_steps": job.warm_up + job.steps,
    }
    tokenizer: Any = AutoTokenizer.from_pretrained(job.model)
    rows = conversations(job, lambda messages: len(tokenizer.apply_chat_template(messages)["input_ids"]))
    (folder / "rows.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return RunSpec.model_validate(fields)


def steps_of(job: Job) -> list[dict[str, Any]]:
    """Run it here; what each step after warm-up took."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        asked = spec(job, folder)
        with EventWriter(folder / "events.jsonl") as events:
            run = Run(asked, folder, events, reward=lambda item, text: reward(text))
            run.run()
        steps = [event for event, _ in read_events(folder / "events.jsonl") if isinstance(event, StepMetrics)]
    return [
        {
            "seconds": event.values["train/step_seconds"],
            "tokens": event.values["train/tokens_generated"],
            "trained": event.values["train/tokens_trained"],
            "phases": {key[5:]: value for key, value in event.values.items() if key.startswith("time/")},
        }
        for event in steps[job.warm_up :]
    ]


def main() -> None:
    """Run and tell."""
    keep_freed_memory()
    for step in steps_of(from_arguments()):
        say(**step)
    say_memory()


if __name__ == "__main__":
    main()
