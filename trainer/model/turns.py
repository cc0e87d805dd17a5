"""Which tokens of a conversation its assistant says: by the template's own marks, or by rendering prefixes.

A template with ``{% generation %}`` marks them itself. Of any other a turn is what it writes behind its own
prompt for that turn, up to the token that ends turns: with the messages m_1 ... m_n,

    said(i) = render(m_1 ... m_i)  without its beginning  render(m_1 ... m_i-1, add_generation_prompt)

which is exactly what the model is to say when it is asked. Where a template writes another beginning, what is
said cannot be told, and the row is refused. A conversation is one row while the tokens of a later prompt
begin with those of the row so far; where they do not (a template that leaves earlier thoughts out), the later
turn begins a row of its own, with the prompt that it would be asked with.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jinja2 import TemplateError

from trainer.model.policy import Policy, Tools
from trainer.model.rows import Row
from trainer.spec.modes import Message, Mode

_MARKS = re.compile(r"\{%-?\s*generation\s*-?%\}")


class Unclear(ValueError):
    """What a row's assistant says cannot be told: a sentence."""


@dataclass(frozen=True)
class _Tokens:
    """Token ids that are read, and which of them are learnt; the first token never is."""

    ids: list[int]
    learnt: list[bool]

    def row(self) -> Row:
        first = self.learnt.index(True)
        return Row(self.ids[:first], self.ids[first:], self.learnt[first:])


def marks_turns(template: str) -> bool:
    """Whether the template says itself what the assistant says."""
    return _MARKS.search(template) is not None


def learnt_rows(
    policy: Policy, messages: list[Message], learnt: Sequence[bool], mode: Mode, tools: Tools = None
) -> list[Row]:
    """The rows of a conversation in ``mode``; ``learnt`` says it of each message. Raises Unclear."""
    shown = policy.messages(messages, mode)
    # The high-entropy prompt may be a message of its own in front.
    wanted = [False] * (len(shown) - len(messages)) + list(learnt)
    try:
        if marks_turns(policy.tokenizer.get_chat_template()):
            return [_marked(policy, shown, wanted, tools).row()]
        turns = [_turn(policy, shown, index, tools) for index, one in enumerate(wanted) if one]
        return [turn.row() for turn in _merged(turns)]
    except (TemplateError, AttributeError, TypeError) as error:
        raise Unclear(f"the model's chat template does not accept the messages: {error}") from error


def missing_ends(policy: Policy, rows: Iterable[Row]) -> str | None:
    """What to tell of a template whose marks leave the end of turns out; None where some row learns one."""
    if not marks_turns(policy.tokenizer.get_chat_template()):
        return None  # a turn without its end is refused there
    for row in rows:
        learnt = row.trained or [True] * len(row.response_ids)
        if any(one and token in policy.stop_ids for token, one in zip(row.response_ids, learnt, strict=True)):
            return None
    return (
        "The model's chat template marks what the assistant says with {% generation %}, but not the token "
        "that ends a turn. Training follows it: the model learns what to say, but not where to end. Put "
        "the end of the turn before {% endgeneration %} to train that, too."
    )


def _marked(policy: Policy, shown: list[Message], wanted: list[bool], tools: Tools) -> _Tokens:
    """One row, by the template's marks: as many pieces as the assistant has messages, in their order."""
    told = policy.tokenizer.apply_chat_template(
        shown,
        tools=tools,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        **policy.chat_template_kwargs,
    )
    ids = [int(token) for token in told["input_ids"]]
    pieces = _pieces([bool(one) for one in told["assistant_masks"]])
    said = [one for message, one in zip(shown, wanted, strict=True) if message["role"] == "assistant"]
    if not all(said):
        if len(pieces) != len(said):
            raise Unclear(
                f"it has {len(said)} assistant messages, some with the weight 0, but the model's chat "
                f"template marks {len(pieces)} pieces, so they cannot be matched; give no weights"
            )
        pieces = [piece for piece, one in zip(pieces, said, strict=True) if one]
    learnt = [False] * len(ids)
    for piece in pieces:
        learnt[piece] = [True] * (piece.stop - piece.start)
    if learnt:
        learnt[0] = False
    if not any(learnt):
        raise Unclear("the model's chat template marks none of what the assistant says")
    return _Tokens(ids, learnt)


def _pieces(mask: list[bool]) -> list[slice]:
    """The runs of True."""
    edges = [
        at
        for at, (before, now) in enumerate(zip([False, *mask], [*mask, False], strict=True))
        if before != now
    ]
    return [slice(*pair) for pair in zip(edges[::2], edges[1::2], strict=True)]


def _turn(policy: Policy, shown: list[Message], index: int, tools: Tools) -> _Tokens:
    """What message ``index`` says, behind its own prompt."""
    prompt = policy.render(shown[:index], tools)
    text = policy.render(shown[: index + 1], tools, asks=False)
    if not text.startswith(prompt):
        raise Unclear(
            "the model's chat template starts the assistant's turn differently than the generation "
            "prompt, so what is said cannot be located: leave the template's variables as they are, or "
            "mark the turns in it with {% generation %}"
        )
    said = text[len(prompt) :]
    for part in _parts(shown[index]):
        if part.strip() not in said:
            raise Unclear(
                f"the model's chat template leaves {part.strip()[:40]!r} out of the assistant's message: "
                "leave it out of the data"
            )
    prompt_ids, said_ids = (
        [int(one) for one in policy.tokenizer(part, add_special_tokens=False)["input_ids"]]
        for part in (prompt, said)
    )
    ends = [at for at, token in enumerate(said_ids) if token in policy.stop_ids]
    if not ends:
        raise Unclear(
            "the model's chat template puts no end-of-turn token after the assistant's message: the model "
            "would not learn to stop"
        )
    said_ids = said_ids[: ends[-1] + 1]
    return _Tokens(prompt_ids + said_ids, [False] * len(prompt_ids) + [True] * len(said_ids))


def _parts(message: Message) -> list[str]:
    names = [call["function"]["name"] for call in message.get("tool_calls", ())]
    return [*([message["content"]] if message["content"] else []), *names]


def _merged(turns: list[_Tokens]) -> list[_Tokens]:
    """Turns in one row, while a prompt continues the row before it token by token."""
    rows: list[_Tokens] = []
    for turn in turns:
        before = rows[-1] if rows else None
        if before is not None and turn.ids[: len(before.ids)] == before.ids:
            learnt = before.learnt + turn.learnt[len(before.ids) :]
            rows[-1] = _Tokens(turn.ids, learnt)
        else:
            rows.append(turn)
    return rows
