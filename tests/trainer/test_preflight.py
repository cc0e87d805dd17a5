"""The preflight check: what ends a run, what is told, and that training is untouched."""

from pathlib import Path

import pytest

from tests.fixtures.models import build_tiny_model
from tests.fixtures.runs import events_of, tiny_spec, write_rows
from trainer.errors import GraderFailed, ZeroVariance
from trainer.graders.spec import MultiGrader, StringCheckGrader
from trainer.loop import Run
from trainer.spec.algorithm import Grpo
from trainer.spec.events import EventWriter, MessageEvent, Phase, StepMetrics
from trainer.spec.run import DiagnosticsSpec, PreflightSpec, RunSpec

NEVER = StringCheckGrader(input="{{sample.output_text}}", reference="no model says this", operation="like")
ALWAYS = StringCheckGrader(input="x", reference="x")
ERRS = StringCheckGrader(input="{{sample.output_json.x}}", reference="1")


@pytest.fixture
def spec(tmp_path: Path) -> RunSpec:
    model = build_tiny_model(tmp_path / "model")
    quiet = DiagnosticsSpec(interval=0)
    data = write_rows(tmp_path / "data.jsonl")
    return tiny_spec(
        model, data, total_steps=1, preflight=PreflightSpec(), validation_data=None, diagnostics=quiet
    )


def run(spec: RunSpec, run_dir: Path) -> None:
    with EventWriter(run_dir / "events.jsonl") as events:
        assert Run(spec, run_dir, events).run()


def told_of(run_dir: Path) -> list[MessageEvent]:
    return [e for e in events_of(run_dir) if isinstance(e, MessageEvent) and "preflight" in e.data]


def test_a_rubric_without_its_range_is_refused_as_a_whole(spec: RunSpec, tmp_path: Path):
    """Where the best responses alone are above 1, the rest would be trained on without them."""
    vowel = StringCheckGrader(input="{{sample.output_text}}", reference="a", operation="like")
    rubric = MultiGrader(graders={"vowel": vowel}, calculate_output="1 + 4 * vowel")
    with pytest.raises(GraderFailed, match=r"not on the grader's scale; first: the grader gave 5.*its range"):
        run(spec.model_copy(update={"grader": rubric}), tmp_path / "run")
    assert not [e for e in events_of(tmp_path / "run") if isinstance(e, StepMetrics)]
    run(spec.model_copy(update={"grader": rubric.model_copy(update={"range": [1, 5]})}), tmp_path / "scaled")


@pytest.mark.parametrize(
    ("grader", "error", "says", "values"),
    [
        (NEVER, ZeroVariance, r"64 responses to 16 prompts .* \(reward 0 for 64; 0 errors\)", (0.0, {})),
        (ALWAYS, ZeroVariance, r"\(reward 1 for 64; 0 errors\).*on_zero_variance to 'warn'", (1.0, {})),
        (
            ERRS,
            GraderFailed,
            r"all 64 responses \(sample_parse_error: 64\)",
            (None, {"sample_parse_error": 64}),
        ),
    ],
)
def test_a_grader_that_teaches_nothing_ends_the_run_with_numbers(
    spec: RunSpec, tmp_path: Path, grader: StringCheckGrader, error: type[Exception], says: str, values: tuple
):
    with pytest.raises(error, match=says) as caught:
        run(spec.model_copy(update={"grader": grader}), tmp_path / "run")
    assert getattr(caught.value, "param", None) == "grader"
    (told,) = told_of(tmp_path / "run")
    numbers = told.data["preflight"]
    assert (numbers["prompts"], numbers["responses"], numbers["prompts_with_variance"]) == (16, 64, 0)
    assert (numbers["reward_mean"], numbers["errors"]) == values
    assert len(numbers["examples"]) == 3
    assert numbers["examples"][0]["prompt"].startswith("say ")
    assert not [e for e in events_of(tmp_path / "run") if isinstance(e, StepMetrics)]


def test_flat_rewards_may_be_wished_for(spec: RunSpec, tmp_path: Path):
    warn = PreflightSpec(samples=20, on_zero_variance="warn")
    run(spec.model_copy(update={"grader": ALWAYS, "preflight": warn}), tmp_path / "run")
    (told,) = told_of(tmp_path / "run")
    assert told.level == "warn"
    assert "the rewards of 20 responses to 5 prompts were the same" in told.message


@pytest.mark.parametrize("algorithm", [None, Grpo()])
def test_it_looks_at_a_few_responses_and_training_is_the_same(spec: RunSpec, tmp_path: Path, algorithm):
    update = {} if algorithm is None else {"algorithm": algorithm}
    with_look = spec.model_copy(update=update)
    run(with_look, tmp_path / "with")
    (told,) = told_of(tmp_path / "with")
    numbers = told.data["preflight"]
    assert (told.level, numbers["responses"] % 16) == ("info", 0)
    assert numbers["prompts_with_variance"] >= 1
    assert "mean reward" in told.message

    run(with_look.model_copy(update={"preflight": None}), tmp_path / "without")
    assert not told_of(tmp_path / "without")
    losses = [
        [e.values["train/loss"] for e in events_of(tmp_path / name) if isinstance(e, StepMetrics)]
        for name in ("with", "without")
    ]
    assert losses[0] == losses[1] != []


def test_there_is_no_look_where_nothing_is_trained_or_something_was(spec: RunSpec, tmp_path: Path):
    run(spec.model_copy(update={"grader": NEVER, "total_steps": 0}), tmp_path / "evaluation")
    off = spec.model_copy(update={"grader": NEVER, "preflight": PreflightSpec(samples=0)})
    run(off, tmp_path / "off")
    # What is trained is tried once, under the name of the same phase; the grader is not looked at.
    assert not told_of(tmp_path / "evaluation") and not told_of(tmp_path / "off")
    phases = {e.phase for e in events_of(tmp_path / "evaluation") if isinstance(e, Phase)}
    assert "preflight" not in phases
