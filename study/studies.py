"""The studies there are: what each needs to be run and how it is read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import study.design as tiny
import study.smollm2 as smollm2
from study.base_model import build_base_model, write_items
from study.tasks import TASKS, reward_of
from trainer.statistics.run_results import Plan

HERE = Path(__file__).parent
RESULTS = HERE / "results"
#: Base models and items: made anew where they are missing, never committed.
WORK = HERE.parent / ".policysplit" / "study"


@dataclass(frozen=True)
class Study:
    """Runs on one base model that were pre-registered together."""

    name: str
    """Of its folder of results, and in the documents of its runs."""
    title: str
    prepare: Callable[[Path], None]
    """Puts the base model (``model``) and the items (``TASK-train.jsonl``, ``TASK-validation.jsonl``) into a
    folder."""
    reward: Callable[[str], Callable[[dict[str, Any], str], float]]
    """A task's reward function, of an item and a response."""
    plan: Callable[[], Plan]
    figures: Sequence[str]
    """The arms of which the report shows what the method's critics ask for."""

    @property
    def results(self) -> Path:
        """Where its results are committed."""
        return RESULTS / self.name

    @property
    def work(self) -> Path:
        """The folder for :attr:`prepare`."""
        return WORK / self.name


def _prepare_tiny(folder: Path) -> None:
    build_base_model(folder / "model")
    for task in TASKS.values():
        write_items(folder, task)


STUDIES = {
    "tiny": Study(
        name="tiny",
        title="All arms on a small model",
        prepare=_prepare_tiny,
        reward=lambda task: reward_of(TASKS[task]),
        plan=tiny.analysis_plan,
        figures=[*tiny.HEADLINE, "neutral_prompt", "no_prompt", "policy_split_eta_0.3"],
    ),
    "smollm2": Study(
        name="smollm2",
        title="The headline arms on SmolLM2-135M-Instruct",
        prepare=smollm2.prepare,
        reward=smollm2.reward_of,
        plan=smollm2.analysis_plan,
        figures=smollm2.ARMS,
    ),
}
