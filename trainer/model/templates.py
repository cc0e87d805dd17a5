"""Does the model's chat template do what the run asks of it? Asked at set-up, by rendering."""

import re
from collections.abc import Mapping, Sequence

from jinja2 import TemplateError

from trainer.data.items import Item
from trainer.errors import InvalidSpec
from trainer.model.policy import Policy
from trainer.spec.messages import PROBE
from trainer.spec.modes import Mode, messages_for_mode

_MARK = "xyzzy"


def fit_template(
    policy: Policy, items: Mapping[str, Sequence[Item]], *, needs_high_entropy: bool
) -> list[str]:
    """Check everything below; returns what the user should know. ``items`` are named by their field.

    A model that cannot be prompted into the high-entropy mode loses it where the run has no need of it.
    """
    notes = list(policy.notes)
    check_variables(policy)
    problem = placement_problem(policy) if policy.high_entropy_prompt else None
    if problem is not None and needs_high_entropy:
        raise problem
    if problem is not None:
        policy.high_entropy_prompt = ""
        notes.append(f"The result will have no high-entropy mode: {problem}.")
    for param, of_param in items.items():
        check_items(policy, of_param, param)
    if reads_the_clock(policy):
        notes.append(
            "The model's chat template writes the current date into each prompt, so a run resumed on "
            "another day continues with different prompts; date_string in chat_template_kwargs fixes the "
            "date."
        )
    return notes


def check_variables(policy: Policy) -> None:
    """Raise InvalidSpec unless the template reads every variable of ``chat_template_kwargs``."""
    template = policy.tokenizer.get_chat_template()
    for name in policy.chat_template_kwargs:
        if not re.search(rf"\b{re.escape(name)}\b", template):
            raise InvalidSpec(
                f"chat_template_kwargs has {name!r}, which this model's chat template does not read: leave "
                "it out",
                "chat_template_kwargs",
            )


def reads_the_clock(policy: Policy) -> bool:
    """Whether the same conversation is another prompt tomorrow."""
    template = policy.tokenizer.get_chat_template()
    return "strftime_now" in template and "date_string" not in policy.chat_template_kwargs


def probe_ids(policy: Policy) -> dict[Mode, list[int]]:
    """Token ids of a conversation that each engine has to render alike; none where they change by the day."""
    if reads_the_clock(policy):
        return {}
    try:
        return {mode: policy.prompt_ids(list(PROBE), mode) for mode in Mode}
    except TemplateError:  # it takes no turns of an assistant, say
        return {}


def placement_problem(policy: Policy) -> InvalidSpec | None:
    """Why the high-entropy mode cannot be prompted as the run asks; None where it can."""
    user = [{"role": "user", "content": "Hello"}]
    marked = messages_for_mode(user, Mode.HIGH_ENTROPY, _MARK, policy.placement)
    try:
        reason = None if _MARK in policy.render(marked) else "the template omits it from the prompt"
    except TemplateError as error:
        reason = f"the template says: {error}"
    if reason is None:
        return None
    if policy.placement == "system":
        message = (
            f"this model's chat template has no system role for the high-entropy prompt ({reason}): set "
            "high_entropy_placement to 'user_prefix', which puts it before the first user message"
        )
    else:
        message = f"this model's chat template does not accept a user message ({reason})"
    return InvalidSpec(message, "high_entropy_placement")


def check_items(policy: Policy, items: Sequence[Item], param: str) -> None:
    """Raise InvalidSpec naming the first row whose messages the template refuses, or shows in part only.

    One conversation of each form that occurs is rendered (its roles, and what its messages have besides
    text). Items made on demand have one user message each, and only the first is looked at.
    """
    seen: set[tuple[object, ...]] = set()
    for index, item in enumerate(items if isinstance(items, list) else [items[0]]):
        form = _form(item)
        if form in seen:
            continue
        seen.add(form)
        where = f"item {index}" if item.line is None else f"line {item.line}"
        for mode in Mode:
            try:
                policy.render(policy.messages(item.messages, mode), item.tools)
                left_out = _left_out(policy, item, mode)
            except (TemplateError, AttributeError, TypeError) as error:
                raise InvalidSpec(
                    f"the model's chat template does not accept the messages of {where} in {mode} mode: "
                    f"{error}",
                    param,
                ) from error
            if left_out is not None:
                raise InvalidSpec(
                    f"the model's chat template omits {left_out} of {where} from the prompt in {mode} "
                    "mode: leave it out of the data, put it in a message's content, or train a model "
                    "whose template shows it",
                    param,
                )


def _form(item: Item) -> tuple[object, ...]:
    """What a template may treat in its own way: items of the same form are shown alike."""
    messages = (
        (m["role"], bool(m["content"]), "name" in m, len(m.get("tool_calls", ()))) for m in item.messages
    )
    return (len(item.tools or ()), *messages)


def _left_out(policy: Policy, item: Item, mode: Mode) -> str | None:
    """The first field that is not in the prompt, found by rendering marks in their places; None: all are."""
    marks: dict[str, str] = {}

    def mark(field: str) -> str:
        return marks.setdefault(f"'{field}'", f"{_MARK}{len(marks)}{_MARK}")

    messages = []
    for index, message in enumerate(item.messages):
        marked, path = dict(message), f"messages.{index}"
        if message["content"]:
            marked["content"] = mark(f"{path}.content")
        if "name" in message:
            marked["name"] = mark(f"{path}.name")
        if "tool_calls" in message:
            marked["tool_calls"] = [
                {**call, "function": {**call["function"], "name": mark(f"{path}.tool_calls.{number}")}}
                for number, call in enumerate(message["tool_calls"])
            ]
        messages.append(marked)
    tools = [
        {**tool, "function": {**tool["function"], "name": mark(f"tools.{number}")}}
        for number, tool in enumerate(item.tools or ())
    ]
    prompt = policy.render(policy.messages(messages, mode), tools or None)
    return next((field for field, text in marks.items() if text not in prompt), None)
