"""A response's thoughts, its answer, and where the one ends: what models with reasoning write.

Graders see the answer as ``sample.output_text`` (what the hosted API shows of such a model, too), the
thoughts as ``sample.reasoning``, the name that vLLM's and OpenAI's APIs have for them, and both as they were
written as ``sample.full_text``. Thoughts without an end have no answer: its text is empty.
"""

from dataclasses import dataclass

#: How thoughts begin and end, by the kinds of templates. What may stand between them and the answer, and at
#: the answer's end, is in ``_FRAMES``.
MARKS: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),  # DeepSeek, Qwen, SmolLM3, GLM, Nemotron, Granite, MiniMax
    ("<thought>", "</thought>"),  # EXAONE Deep
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("[THINK]", "[/THINK]"),  # Magistral
    ("◁think▷", "◁/think▷"),  # Kimi
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A Reasoning
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
)
_FRAMES = (
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<response>", "</response>"),
)
#: Ends of a channel that belong to its thoughts.
_CHANNEL_END = "<|end|><|start|>assistant"
#: Tokens that channels are made of; elsewhere some of them end a turn.
CHANNEL_MARKS = frozenset({"<|channel|>", "<|message|>", "<|end|>", "<|start|>"})
#: Every mark that may be a special token, to be kept in the text (``Policy.response_text``).
ALL_MARKS = CHANNEL_MARKS | {"<|channel>"} | {mark for pair in (*MARKS, *_FRAMES) for mark in pair}


@dataclass(frozen=True)
class Parts:
    """A response, taken apart."""

    reasoning: str | None
    """None where there are no thoughts."""
    answer: str
    """Empty where the thoughts have no end."""
    thought_end: int = 0
    """Characters of the response up to and with the mark that ends the thoughts; 0: no thoughts."""


def opens_thought(prompt: str) -> bool:
    """Whether a prompt's text ends within thoughts, as where the template itself writes ``<think>``."""
    end = prompt.rstrip()
    return any(end.endswith(begin) for begin, _ in MARKS)


def split_thoughts(text: str, opened: bool = False) -> Parts:
    """Take a response apart.

    Thoughts stand at its beginning. ``opened``: the prompt has opened them already. A response that has their
    end mark and no beginning is read so in any case: engines may keep the prompt's mark from us.
    """
    begun = _beginning(text)
    for begin, end in MARKS:
        if begun is not None and begun != begin:
            continue
        start = text.index(begin) + len(begin) if begun else 0
        stop = text.find(end, start)
        if stop < 0:
            continue
        thoughts = text[start:stop].removesuffix(_CHANNEL_END)
        return Parts(thoughts.strip() or None, _unframed(text[stop + len(end) :]), stop + len(end))
    if begun or opened:
        return Parts(text.strip().removeprefix(begun or "").strip(), "", len(text))
    return Parts(None, text)


def _beginning(text: str) -> str | None:
    start = text.lstrip()
    return next((begin for begin, _ in MARKS if start.startswith(begin)), None)


def _unframed(answer: str) -> str:
    answer = answer.strip()
    for begin, end in _FRAMES:
        if answer.startswith(begin):
            return answer.removeprefix(begin).removesuffix(end).strip()
    return answer
