"""Folders of the store on an inference worker's host: fetched once, held while an engine may read them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from pathlib import Path

from app.core.store.artefacts import in_use, is_stored, local
from app.core.store.errors import NotStored, StoreError
from worker.inference.errors import EngineUnavailable, RequestRefused


@dataclass
class _Held:
    """A folder that no process of this host evicts until ``lock`` is closed."""

    folder: Path
    lock: contextlib.ExitStack
    users: int = 0


class Places:
    """Used on one event loop alone. A place that is a path is that folder, and nothing is held."""

    def __init__(self, seconds: float):
        """``seconds``: how long a request waits for a folder that is on its way."""
        self._seconds = seconds
        self._held: dict[str, _Held] = {}
        self._fetches: dict[str, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def use(self, place: str) -> AsyncIterator[Path]:
        """The folder at ``place``, whole, held at least to the end of the block.

        Raises EngineUnavailable while it cannot be had, RequestRefused where the store does not have it.
        """
        if not is_stored(place):
            yield Path(place)
            return
        await self._have(place)
        held = self._held[place]
        held.users += 1
        try:
            yield held.folder
        finally:
            held.users -= 1

    def name_of(self, folder: Path) -> str:
        """The place that ``folder`` is of."""
        return next((place for place, held in self._held.items() if held.folder == folder), str(folder))

    def release(self, needed: Collection[Path]) -> None:
        """Hold no longer what nobody uses and is not ``needed``."""
        for place, held in list(self._held.items()):
            if not held.users and held.folder not in needed:
                del self._held[place]
                held.lock.close()

    async def _have(self, place: str) -> None:
        if place in self._held:
            return
        if (fetch := self._fetches.get(place)) is None:
            fetch = self._fetches[place] = asyncio.create_task(self._fetch(place))
            fetch.add_done_callback(lambda _: self._fetches.pop(place))
        try:
            # It goes on when this request is cancelled: others may wait for it, and the next one will.
            await asyncio.wait_for(asyncio.shield(fetch), self._seconds)
        except TimeoutError:
            raise EngineUnavailable(
                f"the model is still being fetched from the store after {self._seconds:g} s", retry_after=5.0
            ) from None
        except NotStored as error:
            raise RequestRefused(error.message, code="model_missing") from None
        except StoreError as error:
            raise EngineUnavailable(error.message, retry_after=5.0, code=error.code) from None
        except OSError as error:
            raise EngineUnavailable(f"the model cannot be stored on this host: {error}") from None

    async def _fetch(self, place: str) -> None:
        self._held[place] = await asyncio.to_thread(_hold, place)


def _hold(place: str) -> _Held:
    with contextlib.ExitStack() as stack:
        stack.enter_context(in_use([place]))
        return _Held(local(place), stack.pop_all())
