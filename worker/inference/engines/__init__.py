"""Engine servers behind one interface, and the registry of them."""

from collections.abc import Callable

from app.core.settings import Settings
from worker.inference.engines.base import Call, Engine, Host, Launch, Target
from worker.inference.engines.transformers import TransformersEngine
from worker.inference.engines.vllm import VllmEngine

#: Name in the settings to what builds the engine.
ENGINES: dict[str, Callable[[Settings], Engine]] = {
    "transformers": TransformersEngine,
    "vllm": VllmEngine,
}


def build_engine(settings: Settings) -> Engine:
    """The engine that the settings name. Raises ValueError when there is none, or it cannot work."""
    if settings.engine not in ENGINES:
        raise ValueError(f"POLICYSPLIT_ENGINE is {settings.engine!r}: give one of {', '.join(ENGINES)}")
    return ENGINES[settings.engine](settings)


__all__ = ["ENGINES", "Call", "Engine", "Host", "Launch", "Target", "build_engine"]
