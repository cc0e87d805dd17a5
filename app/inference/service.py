"""From a request to samples: which weights, which modes, which prompts, what an engine must have for it."""

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from app.core.errors import BadRequest
from app.core.settings import get_settings
from app.inference.completion_schemas import CompletionRequest, OnePrompt
from app.inference.engine_request import EngineRequest
from app.inference.gateway import Gateway, able, is_loaded
from app.inference.repository import Worker
from app.inference.sampling import MIXED, SamplingRequest
from app.inference.schemas import ChatCompletionRequest, Effort
from app.models.service import Found, lacks_high_entropy
from trainer.spec.chat_template import EFFORT
from trainer.spec.modes import Mode, messages_for_mode


@dataclass(frozen=True)
class Sample:
    """One answer to be drawn."""

    mode: Mode
    request: EngineRequest
    prompt: int = 0
    """Which of the request's prompts it answers."""


@dataclass(frozen=True)
class Plan:
    """All that is needed to answer: what each choice is drawn from, and who can draw it."""

    model: str
    mode: str
    """Of the whole answer: a mode's name, or mixed."""
    fingerprint: str | None
    checkpoint: str | None
    samples: list[Sample]
    workers: list[Worker] = field(repr=False)
    needs: frozenset[str]
    """Features that a worker's engine must have for it."""
    count: Callable[[str, int, int], None] = field(repr=False)
    """Puts a choice's mode, and the tokens that it read and wrote, into the books."""
    trace: str | None = None
    """Of the job that trained the model."""


async def plan_chat(gateway: Gateway, request: ChatCompletionRequest, project_id: str) -> Plan:
    """What a chat request comes to. Raises an ApiError."""

    def prompts_of(mode: Mode, found: Found) -> list[dict[str, object]]:
        messages = [message.templated(knows_developer=found.knows_developer) for message in request.messages]
        placed = messages_for_mode(messages, mode, found.high_entropy_prompt, found.high_entropy_placement)
        return [{"messages": placed, "chat_template_kwargs": _variables(found, request.reasoning_effort)}]

    return await _plan(gateway, request, project_id, {}, prompts_of)


def _variables(found: Found, effort: Effort | None) -> dict[str, object]:
    """Variables of the chat template: as in training, but for the effort that the request wants."""
    if effort is None or found.effort_switch is None:
        return dict(found.chat_template_kwargs)
    value = effort if found.effort_switch == EFFORT else effort not in ("none", "minimal")
    return {**found.chat_template_kwargs, found.effort_switch: value}


async def plan_completion(gateway: Gateway, body: CompletionRequest, project_id: str) -> Plan:
    """What a completion request comes to. Raises an ApiError."""
    of_ids = any(isinstance(prompt, list) for prompt in body.prompts)
    needs = {"prompt_token_ids": "prompt"} if of_ids else {}

    def prompts_of(mode: Mode, found: Found) -> list[dict[str, object]]:
        before = "" if mode is Mode.NORMAL else f"{found.high_entropy_prompt}\n\n"
        return [_raw(prompt, before, body.tells_prompt) for prompt in body.prompts]

    return await _plan(gateway, body, project_id, needs, prompts_of)


def _raw(prompt: OnePrompt, before: str, is_told: bool) -> dict[str, object]:
    """A raw prompt has no turns: the text that switches the mode on stands in front of it, as in training it
    stands in front of the first message of models without a system role."""
    if before and (is_told or isinstance(prompt, list)):
        return {"prompt": prompt, "prefix": before}
    return {"prompt": before + prompt if isinstance(prompt, str) else prompt}


async def _plan(
    gateway: Gateway, request: SamplingRequest, project_id: str, needs: dict[str, str], prompts_of: Any
) -> Plan:
    found = await gateway.directory.model(project_id, request.model)
    modes = modes_of(request, found)
    workers = await gateway.directory.workers()
    extras = dict(request.extras())
    needs = {**{name: name for name in extras}, **needs}
    workers = able(workers, needs)
    found = _servable(gateway, found, workers)
    seed = secrets.randbits(63) if request.seed is None else request.seed
    shared: dict[str, object] = {
        "folder": found.place,
        "max_tokens": request.token_limit,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "stop": request.stops,
        "extras": extras,
    }
    prompts = {mode: prompts_of(mode, found) for mode in modes}
    samples = [
        Sample(
            modes[index % len(modes)],
            # Each mode's choices are those that it gives to the same seed alone.
            EngineRequest(
                **shared,
                **prompts[modes[index % len(modes)]][prompt],
                seed=seed_of_choice(seed, index // len(modes)),
            ),
            prompt,
        )
        for prompt in range(len(prompts[modes[0]]))
        for index in range(request.choices)
    ]
    mode = modes[0].value if len(modes) == 1 else MIXED
    count = partial(gateway.meter.answered, project_id, found.checkpoint or found.shown.id)
    return Plan(
        request.model,
        mode,
        found.fingerprint,
        found.checkpoint,
        samples,
        workers,
        frozenset(needs),
        count,
        found.trace,
    )


def _servable(gateway: Gateway, found: Found, workers: Sequence[Worker]) -> Found:
    """The checkpoint to answer with: while the latest one of a running job is loaded, the one before it.

    No request waits for the change, unless it takes longer than a cold start may.
    """
    if not found.earlier or is_loaded(workers, found.place) or found.saved_at is None:
        return found
    if time.time() - found.saved_at > get_settings().engine_start_seconds:
        return found
    for earlier in found.earlier:
        if is_loaded(workers, earlier.place):
            gateway.load(gateway.ranked(workers, earlier.place)[0], found.place)
            return earlier
    return found


def seed_of_choice(seed: int, index: int) -> int:
    """A seed for each of ``n`` choices. The first is the request's own; the others don't meet those of
    neighbouring seeds."""
    if index == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}:{index}".encode()).digest()[:8]) >> 1


def modes_of(request: SamplingRequest, found: Found) -> tuple[Mode, ...]:
    """The modes in which choices take turns. Raises BadRequest for one that the model does not have."""
    wanted = request.modes
    if wanted is None or wanted == (found.mode,):
        return (found.mode,)
    if found.mode is Mode.HIGH_ENTROPY:
        plain = request.model.removesuffix(f":{Mode.HIGH_ENTROPY.value}")
        raise BadRequest(
            f"mode is '{request.mode}', but the model's id {request.model!r} selects the high-entropy "
            f"mode. Leave mode out, or use {plain!r}.",
            param="mode",
            code="mode_contradiction",
        )
    if not found.high_entropy_prompt:
        raise lacks_high_entropy(request.model)
    return wanted
