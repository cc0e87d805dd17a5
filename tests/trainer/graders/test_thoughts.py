"""Where a response's thoughts end, by the marks of the templates that there are."""

import pytest

from trainer.graders.thoughts import MARKS, opens_thought, split_thoughts


@pytest.mark.parametrize(("begin", "end"), MARKS)
def test_each_kind_of_thoughts_is_told_from_the_answer(begin: str, end: str):
    whole = f"{begin}\nFirst {{1}}.\n{end}\n\nThe answer."
    parts = split_thoughts(whole)
    assert (parts.reasoning, parts.answer) == ("First {1}.", "The answer.")
    assert whole[: parts.thought_end].endswith(end)
    # The template has opened them in the prompt; engines may leave its mark out.
    behind = whole.removeprefix(begin)
    assert split_thoughts(behind, opened=True).answer == "The answer."
    assert split_thoughts(behind).answer == "The answer."
    assert opens_thought(f"<|assistant|>{begin}\n")


@pytest.mark.parametrize(("begin", "end"), MARKS)
def test_thoughts_without_an_end_have_no_answer(begin: str, end: str):
    parts = split_thoughts(f"{begin}It is 4, I thi")
    assert (parts.reasoning, parts.answer) == ("It is 4, I thi", "")
    assert split_thoughts("It is 4, I thi", opened=True).answer == ""


@pytest.mark.parametrize(
    ("text", "reasoning", "answer"),
    [
        ("Plain.", None, "Plain."),
        ("", None, ""),
        (" spaces stay ", None, " spaces stay "),
        ("<think>\n\n</think>\n\nEmpty thoughts", None, "Empty thoughts"),
        ("\n<think>a</think>b", "a", "b"),
        ("<think>a</think>b</think>c", "a", "b</think>c"),
        ("The tag <think> is a tag.", None, "The tag <think> is a tag."),
        ("<think>a</think>", "a", ""),
        ("<think>a</think><response>b</response>", "a", "b"),
        ("<|START_THINKING|>a<|END_THINKING|><|START_RESPONSE|>b<|END_RESPONSE|>", "a", "b"),
        (
            "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b",
            "a",
            "b",
        ),
        ("<|channel|>final<|message|>b", None, "b"),
        (
            "<reasoning>asked for by the prompt</reasoning>",
            None,
            "<reasoning>asked for by the prompt</reasoning>",
        ),
    ],
)
def test_what_is_and_what_is_no_thought(text: str, reasoning: str | None, answer: str):
    parts = split_thoughts(text)
    assert (parts.reasoning, parts.answer) == (reasoning, answer)


@pytest.mark.parametrize("prompt", ["<|im_start|>assistant\n", "<think>\n\n</think>\n\n", "a <think> b", ""])
def test_a_prompt_that_opens_no_thoughts(prompt: str):
    assert not opens_thought(prompt)
