"""Does the model's chat template do what the run asks of it? Asked at set-up, by rendering."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError

from trainer.data.items import Item
from trainer.errors import InvalidSpec
from trainer.modes import Mode, messages_for_mode
from trainer.policy import Policy

_MARK = "xyzzy"


def fit_template(
    policy: Policy, items: Mapping[str, Sequence[Item]], *, needs_high_entropy: bool
) -> list[str]:
    """Check everything below; returns what the user should know. ``items`` are named by their field.

    A model that cannot be prompted into the high-entropy mode loses it where the run has no need of it.
    """
    notes = []
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
            "The model's chat template writes the current date into each prompt, so a run that is resumed "
            "on another day goes on with other prompts; a date_string in chat_template_kwargs fixes it."
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


def placement_problem(policy: Policy) -> InvalidSpec | None:
    """Why the high-entropy mode cannot be prompted as the run asks; None where it can."""
    user = [{"role": "user", "content": "Hello"}]
    marked = messages_for_mode(user, Mode.HIGH_ENTROPY, _MARK, policy.placement)
    try:
        reason = None if _MARK in policy.render(marked) else "the template leaves it out of the prompt"
    except TemplateError as error:
        reason = f"the template says: {error}"
    if reason is None:
        return None
    if policy.placement == "system":
        message = (
            "this model's chat template has no system role, in which the high-entropy prompt would stand "
            f"({reason}): give high_entropy_placement 'user_prefix', which puts the prompt in front of the "
            "first user message"
        )
    else:
        message = f"this model's chat template does not accept a user message ({reason})"
    return InvalidSpec(message, "high_entropy_placement")


def check_items(policy: Policy, items: Sequence[Item], param: str) -> None:
    """Raise InvalidSpec naming the first item whose messages the template refuses.

    What a template refuses is an order of roles: one conversation of each order that occurs is rendered.
    Items made on demand have one user message each, and only the first is looked at.
    """
    seen: set[tuple[Any, ...]] = set()
    for index, item in enumerate(items if isinstance(items, list) else [items[0]]):
        roles = tuple(message.get("role") for message in item.messages)
        if roles in seen:
            continue
        seen.add(roles)
        for mode in Mode:
            try:
                policy.render(policy.messages(item.messages, mode))
            except (TemplateError, AttributeError, TypeError) as error:
                raise InvalidSpec(
                    f"the model's chat template does not accept the messages of item {index} in {mode} mode: "
                    f"{error}",
                    param,
                ) from error
