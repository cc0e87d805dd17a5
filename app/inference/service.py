"""From a chat request to samples: which weights, which mode, which prompt, which inference worker."""

import hashlib
import random
import secrets
from dataclasses import dataclass

from app.db import read_session
from app.errors import BadRequest
from app.inference import repository
from app.inference.engine_request import EngineRequest
from app.inference.errors import NoInferenceWorker
from app.inference.schemas import ChatCompletionRequest
from app.models.service import Found, find_model, lacks_high_entropy
from trainer.modes import Mode, messages_for_mode


@dataclass(frozen=True)
class Plan:
    """All that is needed to answer: the mode, one engine request for each choice, where to send them."""

    model: str
    mode: Mode
    fingerprint: str | None
    samples: list[EngineRequest]
    urls: list[str]


def plan(request: ChatCompletionRequest, project_id: str) -> Plan:
    """Resolve the model and its mode and pick inference workers. Raises an ApiError."""
    with read_session() as session:
        found = find_model(session, project_id, request.model)
        workers = repository.live_workers(session)
    mode = _mode(request, found)
    if not workers:
        raise NoInferenceWorker
    folder = str(found.folder)
    # Where the model is loaded, then where least is; the rest stands by.
    workers.sort(key=lambda worker: (folder not in worker.loaded, len(worker.loaded), random.random()))
    messages = [message.templated() for message in request.messages]
    seed = secrets.randbits(63) if request.seed is None else request.seed
    samples = [
        EngineRequest(
            folder=folder,
            messages=messages_for_mode(
                messages, mode, found.high_entropy_prompt, found.high_entropy_placement
            ),
            chat_template_kwargs=dict(found.chat_template_kwargs),
            max_tokens=request.token_limit,
            temperature=1.0 if request.temperature is None else request.temperature,
            top_p=1.0 if request.top_p is None else request.top_p,
            seed=seed_of_choice(seed, index),
            stop=request.stops,
        )
        for index in range(request.n or 1)
    ]
    return Plan(request.model, mode, found.fingerprint, samples, [worker.url for worker in workers])


def seed_of_choice(seed: int, index: int) -> int:
    """A seed for each of ``n`` choices. The first is the request's own; the others don't meet those of
    neighbouring seeds."""
    if index == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}:{index}".encode()).digest()[:8]) >> 1


def _mode(request: ChatCompletionRequest, found: Found) -> Mode:
    wanted = request.wanted_mode
    if wanted is None or wanted is found.mode:
        return found.mode
    if wanted is Mode.NORMAL:
        plain = request.model.removesuffix(f":{Mode.HIGH_ENTROPY.value}")
        raise BadRequest(
            f"mode is 'normal', but the model's id {request.model!r} asks for the high-entropy mode. Leave "
            f"mode out, or ask {plain!r}.",
            param="mode",
            code="mode_contradiction",
        )
    if not found.high_entropy_prompt:
        raise lacks_high_entropy(request.model)
    return wanted
