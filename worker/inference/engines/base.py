"""What the inference worker needs to know of an engine server."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from app.inference.engine_request import EngineRequest


@dataclass(frozen=True)
class Launch:
    """How to start an engine: a command, the folder to start it in, and what to add to its environment."""

    command: list[str]
    cwd: Path
    environment: dict[str, str] = field(default_factory=dict)


class Engine(Protocol):
    """An existing, OpenAI-compatible server that is started on one model folder and streams chat answers."""

    name: str
    serial: bool
    """It answers one request at a time: the worker queues the others and hands it the next in turn."""
    health_path: str

    def launch(self, folder: Path, port: int) -> Launch:
        """How to start it for the model in ``folder`` on ``port`` of the loopback interface."""
        ...

    def chat_body(self, request: EngineRequest) -> dict[str, Any]:
        """The request in the engine's own dialect, streaming."""
        ...

    def barrier(self) -> tuple[str, dict[str, Any]] | None:
        """Path and body of a request that is answered once all work before it has ended; None: not needed."""
        ...

    def refusal(self, log: str) -> str | None:
        """What in its log says that the request was at fault, not the engine, as a sentence for the user."""
        ...
