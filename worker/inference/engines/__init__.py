"""Engine servers behind one interface, and the registry of them."""

from collections.abc import Callable

from app.settings import Settings
from worker.inference.engines.base import Engine, Launch
from worker.inference.engines.transformers import TransformersEngine

#: Name in the settings to what builds the engine.
ENGINES: dict[str, Callable[[Settings], Engine]] = {"transformers": TransformersEngine}


def build_engine(settings: Settings) -> Engine:
    """The engine that the settings name. Raises ValueError when there is none of that name."""
    if settings.engine not in ENGINES:
        raise ValueError(f"POLICYSPLIT_ENGINE is {settings.engine!r}: give one of {', '.join(ENGINES)}")
    return ENGINES[settings.engine](settings)


__all__ = ["ENGINES", "Engine", "Launch", "build_engine"]
