"""What the inference worker needs to know of an engine server."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from app.inference.engine_request import EngineRequest
from worker.inference.errors import InferenceError


@dataclass(frozen=True)
class Host:
    """What one engine process is started on: a model folder, and whether it takes LoRA adapters beside it."""

    folder: Path
    adapters: bool = False


@dataclass(frozen=True)
class Target:
    """Where a checkpoint is served: by its own process, or as an adapter of its base's."""

    host: Host
    adapter: Path | None = None

    @property
    def folder(self) -> Path:
        """The checkpoint's folder."""
        return self.host.folder if self.adapter is None else self.adapter.parent


@dataclass(frozen=True)
class Launch:
    """How to start an engine: a command, the folder to start it in, and what to add to its environment."""

    command: list[str]
    cwd: Path
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """A POST to an engine."""

    path: str
    body: dict[str, object]


def tools_of(request: EngineRequest) -> dict[str, object]:
    """What a request tells the model of tools: a part of its prompt."""
    return {"tools": request.extras["tools"]} if "tools" in request.extras else {}


class Engine(Protocol):
    """An existing, OpenAI-compatible server that is started on one model folder and streams answers."""

    name: str
    serial: bool
    """It answers one request at a time: the worker queues the others and hands it the next in turn."""
    features: frozenset[str]
    """Parameters that it has beyond those of every engine, by their names in OpenAI's API; "stop" where it
    takes stop sequences off the answer, "prompt_token_ids" where prompts may be token ids."""
    health_path: str

    load_metrics: ClassVar[Mapping[str, str]]
    """Samples of its own ``/metrics`` that are its "running" and "waiting" requests and the share of its
    "kv_cache" in use; empty where it tells of none."""

    def target(self, folder: Path) -> Target:
        """Where the checkpoint in ``folder`` is served. Reads the disk. Raises RequestRefused."""
        ...

    def memory_bytes(self, host: Host) -> int:
        """What a process takes once it is loaded, near enough. Reads the disk."""
        ...

    def gpus(self, host: Host) -> int:
        """How many a process is to have, where there are any. Reads the disk."""
        ...

    def launch(self, host: Host, socket: Path) -> Launch:
        """How to start it so that it listens at ``socket``, in a folder of its own, and nowhere else."""
        ...

    def call(self, request: EngineRequest, adapter: Path | None) -> Call:
        """The request in the engine's own dialect, streaming."""
        ...

    def tokenize(self, request: EngineRequest, adapter: Path | None) -> Call:
        """A request that is answered with the token ids of the prompt, as ``tokens`` of an object."""
        ...

    def barrier(self) -> Call | None:
        """A request that is answered once all work before it has ended; None: not needed."""
        ...

    def load_adapter(self, adapter: Path) -> Call:
        """The request that loads an adapter."""
        ...

    def unload_adapter(self, adapter: Path) -> Call:
        """The request that takes an adapter away."""
        ...

    def refusal(self, status: int, body: bytes) -> InferenceError:
        """What its answer with a status of 400 to 499 means."""
        ...

    def refusal_in_log(self, log: str) -> str | None:
        """What in its log says that the request was at fault, not the engine, as a sentence for the user."""
        ...
