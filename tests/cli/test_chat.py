"""``policysplit chat`` against a real service."""

import subprocess
import sys

import pytest

from tests.fixtures.engines import TALKATIVE, Deployment
from tests.fixtures.service import cli_environment


def chat(serving: Deployment, typed: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", "chat", *arguments, "--base-url", f"{serving.url}/v1"]
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
        f"normal: {normal}",
        f"high-entropy: {high}",
        f"normal: {normal_again}",
        f"high-entropy: {high_again}",
    ]
    at = 0
    for shown in order:
        assert shown in result.stdout[at:]
        at = result.stdout.index(shown, at) + len(shown)


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
