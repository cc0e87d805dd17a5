"""What graders did is told of each step and evaluation, grader by grader, and adds up."""

import itertools
import json
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from tests.fixtures.http_server import Reply, Request, Server, chat
from tests.fixtures.runs import events_of, tiny_spec, write_rows
from trainer.api import train
from trainer.graders.spec import Grader as GraderSpec
from trainer.spec.events import Rollouts, StepMetrics
from trainer.spec.modes import Mode
from trainer.spec.run import DiagnosticsSpec, PreflightSpec

EXACT = {
    "type": "string_check",
    "name": "exact",
    "input": "{{sample.output_text}}",
    "reference": "{{item.letter}}",
    "operation": "ilike",
}
JUDGE = {
    "type": "score_model",
    "name": "judge",
    "model": "judge-1",
    "input": [{"role": "user", "content": "{{sample.output_text}}"}],
    "max_retries": 0,
}


def test_each_grader_of_a_formula_is_told_apart(
    tiny_model: Path, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
):
    numbers = itertools.count()

    def every_fourth_fails(_: Request) -> Reply:
        number = next(numbers)
        return Reply(b"no", status=500) if number % 4 == 0 else chat({"result": (number % 4) / 4})

    server.answer = every_fourth_fails
    monkeypatch.setenv("POLICYSPLIT_GRADER_ENDPOINTS", json.dumps({"default": {"url": server.url}}))
    # A part may be called what the whole is.
    graders = {"exact": EXACT, "both": JUDGE | {"concurrency": 1}}
    formula = {
        "type": "multi",
        "name": "both",
        "graders": graders,
        "calculate_output": "exact / 2 + both / 2",
    }
    spec = tiny_spec(
        tiny_model,
        write_rows(tmp_path / "rows.jsonl"),
        grader=TypeAdapter[GraderSpec](GraderSpec).validate_python(formula),
        # What is probed is not of the step.
        diagnostics=DiagnosticsSpec(interval=1, probe_items=2),
        preflight=PreflightSpec(samples=0),
        total_steps=2,
    )
    train(spec, tmp_path / "run")
    events = events_of(tmp_path / "run")
    rollouts = {event.step: event.rollouts for event in events if isinstance(event, Rollouts)}
    first, *steps = [event for event in events if isinstance(event, StepMetrics)]
    assert (first.step, first.train) == (0, []) and first.valid
    for event in steps:
        assert [grading.mode for grading in event.train] == list(Mode)
        for grading in event.train:
            own = [one for one in rollouts[event.step] if one.mode is grading.mode]
            whole, exact, judge = grading.graders
            assert [use.name for use in grading.graders] == ["both", "exact", "both"]
            assert [use.type for use in grading.graders] == ["multi", "string_check", "score_model"]
            rewards = [one.reward for one in own if one.reward is not None]
            assert (grading.responses, whole.graded) == (len(own), len(rewards))
            assert whole.rewards == pytest.approx(sum(rewards))
            assert exact.graded == len(own) and exact.errors == {}
            failed = len(own) - len(rewards)
            assert whole.errors == judge.errors == ({"model_grader_server_error": failed} if failed else {})
            assert judge.tokens == whole.tokens
            assert judge.tokens["judge-1"]["total_tokens"] == 10 * len(rewards)
            assert whole.seconds == pytest.approx(exact.seconds + judge.seconds) and exact.seconds > 0
        failed = sum(grading.responses - grading.graders[0].graded for grading in event.train)
        assert event.values["train/grader_errors"] == failed
    assert steps[-1].valid and steps[-1].valid != first.valid


def test_a_reward_function_is_told_of_too(tiny_model: Path, tmp_path: Path):
    spec = tiny_spec(tiny_model, write_rows(tmp_path / "rows.jsonl"), grader=None, total_steps=1)
    train(spec, tmp_path / "run", reward=lambda item, text: float(str(item["letter"]) in text))
    (event,) = [e for e in events_of(tmp_path / "run") if isinstance(e, StepMetrics) and e.step == 1]
    for grading in event.train:
        (use,) = grading.graders
        assert (use.name, use.type, use.graded) == ("reward", "function", grading.responses)
        assert use.rewards / use.graded == pytest.approx(event.values[f"train/{grading.mode.label}/reward"])
