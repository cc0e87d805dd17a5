"""Does a loaded engine make the prompts that training made? Asked once for each checkpoint that it serves."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import aiohttp

from app.inference.engine_request import EngineRequest
from trainer.spec.manifest import IncompleteCheckpoint, Manifest, read_manifest
from trainer.spec.messages import PROBE
from trainer.spec.modes import Mode, messages_for_mode
from worker.inference.child import EngineProcess
from worker.inference.engines import Engine, Target
from worker.inference.errors import EngineUnavailable, RendersDifferently

log = logging.getLogger(__name__)

PROBE_SECONDS = 60.0


class Rendering:
    """Of one engine process: compares its token ids of a conversation with a checkpoint's manifest."""

    def __init__(self, engine: Engine, process: EngineProcess):
        self._engine = engine
        self._process = process
        self._checks: dict[Path, asyncio.Task[None]] = {}

    async def check(self, folder: Path, target: Target) -> None:
        """Raise RendersDifferently where the prompts of ``folder`` are not those of its training.

        Folders without a manifest, or with an older one, have nothing to compare with.
        """
        if (known := self._checks.get(folder)) is None:
            known = self._checks[folder] = asyncio.create_task(self._check(folder, target.adapter))
            known.add_done_callback(lambda task: self._keep(folder, task))
        # Others may wait for it: it goes on when this request is cancelled.
        await asyncio.shield(known)

    def _keep(self, folder: Path, task: "asyncio.Task[None]") -> None:
        """What could not be asked is asked again by the next request; an answer stands."""
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or (error is not None and not isinstance(error, RendersDifferently)):
            self._checks.pop(folder, None)

    async def _check(self, folder: Path, adapter: Path | None) -> None:
        try:
            manifest = await asyncio.to_thread(read_manifest, folder)
        except IncompleteCheckpoint:
            return
        for mode, trained in manifest.probe_ids.items():
            served = await self._ids(folder, adapter, mode, manifest)
            if served is not None and served != trained:
                raise RendersDifferently(_difference(self._engine.name, mode, trained, served))

    async def _ids(
        self, folder: Path, adapter: Path | None, mode: Mode, manifest: Manifest
    ) -> list[int] | None:
        request = EngineRequest(
            folder=str(folder),
            messages=messages_for_mode(
                list(PROBE), mode, manifest.high_entropy_prompt, manifest.high_entropy_placement
            ),
            chat_template_kwargs=manifest.chat_template_kwargs,
            temperature=1.0,
            top_p=1.0,
            seed=0,
            stop=[],
        )
        call = self._engine.tokenize(request, adapter)
        timeout = aiohttp.ClientTimeout(PROBE_SECONDS)
        try:
            async with self._process.client.post(call.path, json=call.body, timeout=timeout) as answer:
                if answer.status == 404:  # a command of the operator's own
                    log.warning(
                        "%s does not report token ids, so its prompts cannot be checked", self._engine.name
                    )
                    return None
                answer.raise_for_status()
                told: Any = await answer.json()
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            raise EngineUnavailable("the engine did not report its token ids", retry_after=1.0) from error
        return told["tokens"]


def _difference(engine: str, mode: Mode, trained: list[int], served: list[int]) -> str:
    pairs = zip(trained, served, strict=False)
    first = next((i for i, (one, other) in enumerate(pairs) if one != other), min(len(trained), len(served)))
    return (
        f"the {engine} engine renders a conversation in {mode} mode differently than training did "
        f"({len(served)} tokens instead of {len(trained)}, the first difference at {first}), so the model "
        "is not served: its chat template or tokenizer was changed, or the engine's arguments affect "
        "rendering"
    )
