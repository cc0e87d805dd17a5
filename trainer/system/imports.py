"""Importing large libraries without collecting garbage meanwhile."""

import gc
import importlib.metadata
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec

_scan = importlib.metadata.packages_distributions


@contextmanager
def large_imports() -> Iterator[None]:
    """For imports of torch, transformers and vLLM at a process's start: they take a sixth less time.

    They make a million objects that stay: the collector would go through all of them again and again and
    find nothing. What exists at the end it leaves out for good, which makes later collections shorter, too.

    transformers imports sklearn, and that pandas, wherever they are installed, for a way of decoding that is
    not used here, and scipy for losses of images; vLLM imports scipy for sound. They are for graders and
    statistics, which run elsewhere: not to see them saves two seconds. transformers also reads the lists of
    files of all installed packages, to know a few: see :class:`Distributions`.

    Within another such block this one does nothing.
    """
    if importlib.metadata.packages_distributions is Distributions:
        yield
        return
    gc.disable()
    try:
        with _unseen("sklearn"), _unseen("scipy"), _distributions_when_asked():
            yield
        gc.freeze()
    finally:
        gc.enable()


@contextmanager
def _unseen(package: str) -> Iterator[None]:
    """As if the package were not installed; unless it has been imported already."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # what Python has for "do not look for it"
    try:
        yield
    finally:
        del sys.modules[package]


class Distributions(Mapping[str, list[str]]):
    """``importlib.metadata.packages_distributions()``, which takes most of a second, when it is asked.

    A module whose distribution has its name is found without it.
    """

    @cached_property
    def _all(self) -> Mapping[str, list[str]]:
        return _scan()

    def __getitem__(self, name: str) -> list[str]:
        if "_all" in self.__dict__:  # the scan has been made
            return self._all[name]
        try:
            importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if find_spec(name) is None:
                raise KeyError(name) from None
            return self._all[name]
        return [name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


@contextmanager
def _distributions_when_asked() -> Iterator[None]:
    """Of transformers 5.19, which asks at its import; to go once it asks when it wants to know."""
    importlib.metadata.packages_distributions = Distributions
    try:
        yield
    finally:
        importlib.metadata.packages_distributions = _scan
