"""The studies there are: what each needs to be run and how it is read."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import study.answers.design as answers
import study.answers.smollm2 as answers_smollm2
import study.design as tiny
import study.smollm2 as smollm2
from study.base_model import build_base_model
from study.planned_run import PlannedRun
from study.tasks import TASKS, AnsweringReward, reward_of, split_items
from trainer.statistics.run_results import Plan

HERE = Path(__file__).parent
RESULTS = HERE / "results"
#: Base models and items: made anew where they are missing, never committed.
WORK = HERE.parent / ".policysplit" / "study"


@dataclass(frozen=True)
class Study:
    """Runs on one base model that were pre-registered together."""

    name: str
    """Of its file of results, and in the documents of its runs."""
    title: str
    base_model: Callable[[Path], object]
    """Makes the base model in a folder, unless it is there."""
    items: Callable[[str], tuple[list[dict[str, Any]], list[dict[str, Any]]]]
    """A task's training and validation rows, as the trainer reads them."""
    reward: Callable[[str], Callable[[dict[str, Any], str], float]]
    """A task's reward function, of an item and a response."""
    plan: Callable[[], Plan]
    runs: Callable[[float | None], list[PlannedRun]]
    """All planned runs, done or not, at the learning rate that was chosen; None while it is not."""
    figures: Sequence[str] = ()
    """The arms of which the report shows what the method's critics ask for."""
    control: str | None = None
    """The arm beside which the report puts the hypotheses about the method: two prompts, without its bonus or
    without its meaning."""
    tuning: Sequence[PlannedRun] = ()
    """The runs that choose the learning rate; none where it was fixed beforehand."""

    @property
    def results(self) -> Path:
        """Where its results are committed."""
        return RESULTS / f"{self.name}.jsonl"

    @property
    def work(self) -> Path:
        """The folder for :func:`prepare`."""
        return WORK / self.name


def _tiny_items(task: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    training, validation = (
        [{"messages": [{"role": "user", "content": one["question"]}]} | one for one in items]
        for items in split_items(TASKS[task])
    )
    return training, validation


def _tiny_base_model(folder: Path) -> None:
    """The small model of the study of all arms, which is made once."""
    if not folder.exists():
        made = folder.parents[1] / "tiny" / "model"
        build_base_model(made)
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(os.path.relpath(made, folder.parent))


#: Of the method against its ablations and baselines: PREREGISTRATION.md.
OF_THE_METHOD = {
    "tiny": Study(
        name="tiny",
        title="All arms on a small model",
        base_model=build_base_model,
        items=_tiny_items,
        reward=lambda task: reward_of(TASKS[task]),
        plan=tiny.analysis_plan,
        # Before it is chosen no planned run has a result, and any rate lists them.
        runs=lambda rate: tiny.planned_runs(rate or tiny.LEARNING_RATES[0]),
        figures=[*tiny.HEADLINE, "neutral_prompt", "no_prompt", "policy_split_eta_0.3"],
        control="neutral_prompt",
        tuning=tiny.tuning_runs(),
    ),
    "smollm2": Study(
        name="smollm2",
        title="The headline arms on SmolLM2-135M-Instruct",
        base_model=smollm2.pull_base_model,
        items=smollm2.split_items,
        reward=smollm2.reward_of,
        plan=smollm2.analysis_plan,
        runs=lambda _: smollm2.planned_runs(),
        figures=smollm2.ARMS,
        control="prompt_only",
    ),
}
#: Of exploration by answers: answers/PREREGISTRATION.md and answers/PREREGISTRATION-smollm2.md.
OF_ANSWERS = {
    answers.NAME: Study(
        name=answers.NAME,
        title="Different right answers on a small model",
        base_model=_tiny_base_model,
        items=_tiny_items,
        reward=lambda task: AnsweringReward(TASKS[task]),
        plan=answers.analysis_plan,
        runs=lambda _: answers.planned_runs(),
    ),
    answers_smollm2.NAME: Study(
        name=answers_smollm2.NAME,
        title="Different right answers on SmolLM2-135M-Instruct",
        base_model=smollm2.pull_base_model,
        items=answers_smollm2.split_items,
        reward=lambda _: answers_smollm2.NumberReward(),
        plan=answers_smollm2.analysis_plan,
        runs=lambda _: answers_smollm2.planned_runs(),
    ),
}
STUDIES = OF_THE_METHOD | OF_ANSWERS


def prepare(name: str, folder: Path) -> None:
    """What the study's runs read: the base model (``model``) and each task's items (:func:`item_paths`)."""
    study = STUDIES[name]
    study.base_model(folder / "model")
    for task in study.plan().tasks:
        for path, rows in zip(item_paths(folder, task), study.items(task), strict=True):
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def item_paths(folder: Path, task: str) -> tuple[Path, Path]:
    """The files with a task's training and validation items, in JSONL."""
    return folder / f"{task}-train.jsonl", folder / f"{task}-validation.jsonl"
