"""Runs the job of ``benchmarks.job`` with TRL's GRPOTrainer; a JSON line a step.

TRL computes in the precision of the weights, all completions in one micro-batch, without a reference model.
Its default recomputes layers on the way back; the job says whether to.
"""

import tempfile
import time
from typing import Any

import trl.import_utils as trl_parts
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback

from benchmarks.job import conversations, from_arguments, reward, say, say_memory

# Where it finds vLLM TRL imports it, and vLLM changes torch for the whole process.
trl_parts.is_vllm_available = lambda **_: False  # pyright: ignore[reportAttributeAccessIssue]

from trl.trainer.grpo_config import GRPOConfig  # noqa: E402
from trl.trainer.grpo_trainer import GRPOTrainer  # noqa: E402


class _Clock(TrainerCallback):
    def __init__(self, warm_up: int):
        self._warm_up = warm_up
        self._seconds: list[float] = []

    def on_step_begin(self, *arguments: Any, **options: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, *arguments: Any, **options: Any) -> None:
        self._seconds.append(time.perf_counter() - self._began)

    def on_log(self, *arguments: Any, logs: dict[str, float] | None = None, **options: Any) -> None:
        if logs and "completions/mean_length" in logs and len(self._seconds) > self._warm_up:
            say(seconds=self._seconds[-1], mean_length=logs["completions/mean_length"])


def main() -> None:
    """Run and tell."""
    job = from_arguments()
    tokenizer: Any = AutoTokenizer.from_pretrained(job.model)
    rows = conversations(job, lambda messages: len(tokenizer.apply_chat_template(messages)["input_ids"]))

    def rewards(completions: list[Any], **options: Any) -> list[float | None]:
        return [reward(completion[0]["content"]) for completion in completions]

    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=job.prompts * job.samples,
            gradient_accumulation_steps=1,
            num_generations=job.samples,
            max_completion_length=job.response_tokens,
            max_steps=job.warm_up + job.steps,
            learning_rate=1e-6,
            beta=0.0,
            temperature=1.0,
            bf16=False,  # no autocast: the weights have the precision already
            gradient_checkpointing=job.gradient_checkpointing,
            model_init_kwargs={"dtype": job.dtype},
            report_to=[],
            save_strategy="no",
            logging_steps=1,
            use_cpu=job.cpu,
            disable_tqdm=True,
        )
        trainer = GRPOTrainer(
            model=job.model,
            reward_funcs=rewards,
            args=config,
            train_dataset=Dataset.from_list([{"prompt": row} for row in rows]),
            callbacks=[_Clock(job.warm_up)],
        )
        trainer.train()
    say_memory()


if __name__ == "__main__":
    main()
