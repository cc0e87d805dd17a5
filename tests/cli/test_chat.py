"""``policysplit chat`` against a real service."""

import subprocess

import pytest

from app.cli.chat import Side
from app.cli.console import visible
from tests.fixtures.engines import TALKATIVE, Deployment
from tests.fixtures.forks import forked
from tests.fixtures.service import cli_environment
from trainer.spec.modes import Mode


def chat(serving: Deployment, typed: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*forked("app.cli"), "chat", *arguments, "--base-url", f"{serving.url}/v1"]
    return subprocess.run(
        [*command, "--max-tokens", "8", "--seed", "3"],
        input=typed,
        env=cli_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_both_modes_side_by_side_each_with_a_memory_of_its_own(serving: Deployment):
    model = serving.add_finished(seed=TALKATIVE)
    client = serving.client()
    expected: list[str] = []
    for suffix in ("", ":high-entropy"):
        messages: list[dict[str, str]] = []
        for said in ("Hello", "Again"):
            messages.append({"role": "user", "content": said})
            answer = client.chat.completions.create(
                model=model + suffix,
                messages=messages,  # type: ignore[arg-type]
                max_completion_tokens=8,
                seed=3,
            )
            messages.append({"role": "assistant", "content": answer.choices[0].message.content or ""})
        expected += [m["content"] for m in messages if m["role"] == "assistant"]
    result = chat(serving, "Hello\nAgain\n/quit\nnever\n", model, "--both")
    assert result.returncode == 0, result.stderr
    normal, normal_again, high, high_again = expected
    order = [
        f"normal: {visible(normal)}",  # a random model says control characters, too
        f"high-entropy: {visible(high)}",
        f"normal: {visible(normal_again)}",
        f"high-entropy: {visible(high_again)}",
    ]
    at = 0
    for shown in order:
        assert shown in result.stdout[at:]
        at = result.stdout.index(shown, at) + len(shown)


def test_equal_answers_to_one_message_are_folded_and_the_commonest_is_remembered():
    side = Side("model", Mode.HIGH_ENTROPY, answers=["8 ", "7", "1 +  7", "7", "1 + 7", "7"])
    assert side.said() == "3 × 7\n2 × 1 +  7\n8 "
    assert side.remembered() == "7"


def test_several_answers_a_mode(serving: Deployment):
    model = serving.add_finished(seed=TALKATIVE)
    result = chat(serving, "Hello\n", model, "--both", "--samples", "3", "--temperature", "0")
    assert result.returncode == 0, result.stderr
    for mode in ("normal", "high-entropy"):
        assert f"{mode}: 3 × " in result.stdout


@pytest.mark.parametrize(
    ("model", "arguments", "named"),
    [("nosuch", (), "does not exist"), ("tiny", ("--both",), "no high-entropy mode")],
)
def test_a_model_that_cannot_be_talked_to_is_told_before_anything_is_typed(
    serving: Deployment, model: str, arguments: tuple[str, ...], named: str
):
    result = chat(serving, "", model, *arguments)
    assert result.returncode == 1
    assert named in result.stderr
