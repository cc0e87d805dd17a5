"""Do all prompts fit? Asked before training, of every row and in every mode that the run uses.

A prompt has room for ``rollout.max_prompt_tokens``, and for what the model's context leaves beside the
longest response. Of items that are made on demand the first that the run draws are looked at.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from jinja2 import TemplateError

from trainer.data.items import Item, Kept
from trainer.errors import InvalidSpec
from trainer.model.policy import Policy
from trainer.spec.modes import Mode
from trainer.spec.run import OverlongPrompts, RolloutSpec
from trainer.steps.generation import build_group

#: Of items that are made on demand, how many are looked at.
MADE_ON_DEMAND = 500
NAMED = 5
LISTED = 1_000


@dataclass(frozen=True)
class Room:
    """How many tokens a prompt may have, and the field of the spec that says so."""

    tokens: int
    param: str
    why: str


@dataclass(frozen=True)
class Dropped:
    """What was left out of the data, for the user."""

    message: str
    data: dict[str, object]


def prompt_room(policy: Policy, rollout: RolloutSpec) -> Room:
    """The room of a prompt. Raises InvalidSpec where the longest response alone fills the context."""
    room = Room(rollout.max_prompt_tokens, "rollout.max_prompt_tokens", "rollout.max_prompt_tokens")
    context = policy.context_length
    if context is None or context - rollout.max_response_tokens >= room.tokens:
        return room
    left = context - rollout.max_response_tokens
    if left < 1:
        raise InvalidSpec(
            f"rollout.max_response_tokens is {rollout.max_response_tokens}, but the model's context has "
            f"{context} tokens for prompt and response together: give less than {context}",
            "rollout.max_response_tokens",
        )
    why = f"what the model's context of {context} leaves besides rollout.max_response_tokens"
    return Room(left, "rollout.max_response_tokens", why)


def fit_prompts(
    policy: Policy,
    items: Sequence[Item],
    param: str,
    *,
    modes: Iterable[Mode],
    rollout: RolloutSpec,
    overlong: OverlongPrompts,
    drawn: Iterable[int] | None = None,
    on_progress: Callable[[], None] = lambda: None,
) -> tuple[Kept, Dropped | None]:
    """The items whose prompts have room, and what was left out where ``overlong`` is "drop".

    ``drawn``: the order in which items made on demand are drawn; the first of them are looked at. Raises
    InvalidSpec naming the rows, where they are not to be left out, or where none is left.
    """
    room = prompt_room(policy, rollout)
    made_on_demand = not isinstance(items, list)
    places: Sequence[int] = range(len(items))
    if made_on_demand:
        places = list(drawn or places[:MADE_ON_DEMAND])
    too_long: dict[int, str] = {}
    for number, place in enumerate(places):
        tokens, mode = _longest(policy, items[place], modes, param)
        if tokens > room.tokens:
            where = items[place].where
            too_long[place] = f"{where} ({tokens:,} tokens" + (f" in {mode} mode)" if mode else ")")
        if number % 256 == 255:
            on_progress()
    if not too_long:
        return Kept(items, ()), None
    rows = "; ".join(list(too_long.values())[:NAMED]) + ("; …" if len(too_long) > NAMED else "")
    of = f"of the first {len(places):,}" if made_on_demand else f"of {len(items):,}"
    what = (
        f"{len(too_long):,} {of} prompts of {param} have more than {room.tokens:,} tokens, {room.why}: {rows}"
    )
    if overlong == "fail":
        raise InvalidSpec(
            f"{what}. Shorten them, change {room.param}, or set overlong_prompts to 'drop' to train without "
            "them",
            room.param,
        )
    if len(too_long) == len(items):
        raise InvalidSpec(f"{what}. None is left", room.param)
    lines = [items[place].line or items[place].index for place in list(too_long)[:LISTED]]
    data = {"param": param, "dropped": len(too_long), "of": len(items), "lines": lines, "room": room.tokens}
    return Kept(items, too_long), Dropped(f"Left out: {what}.", {"overlong_prompts": data})


def _longest(policy: Policy, item: Item, modes: Iterable[Mode], param: str) -> tuple[int, Mode | None]:
    """Tokens of the item's longest prompt, and its mode where it is not the normal one."""
    modes = tuple(modes)
    try:
        ids = build_group(policy, item, 0, item.index, None).prompt_ids
    except (TemplateError, AttributeError, TypeError) as error:
        raise InvalidSpec(
            f"the model's chat template does not accept the messages of {item.where}: {error}", param
        ) from error
    mode = max(modes, key=lambda one: len(ids[one]))
    vocabulary = policy.output_VD.shape[0]
    if (highest := max(max(ids[one], default=0) for one in modes)) >= vocabulary:
        raise InvalidSpec(
            f"the prompt of {item.where} has the token "
            f"{policy.tokenizer.convert_ids_to_tokens(highest)!r} with id {highest}, but the model has "
            f"embeddings of {vocabulary} tokens: the tokenizer belongs to another model",
            "model.path",
        )
    return len(ids[mode]), None if len(ids[mode]) == len(ids[modes[0]]) else mode
