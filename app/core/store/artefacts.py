"""What the service keeps: folders at a *place*, which is a path of this host or a reference into the store.

Without ``POLICYSPLIT_STORE`` all hosts have the data directory at the same path, places are paths, and
nothing here copies anything. With it places are references (``app.core.store.trees``): what is kept goes up
first, the row that names it is written then, and a host that needs it fetches it into its cache. A base
model's place is its name: a host has it in its own models folder, or fetches what was published.
"""

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from app.core.settings import get_settings
from app.core.store.cache import Cache
from app.core.store.errors import NotStored, StoreError
from app.core.store.published import forget, pointer, published
from app.core.store.remote import Remote, remote
from app.core.store.trees import Reference, Tree

_BASE = "store:base/"
_WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")
_log = logging.getLogger("app")


def cache() -> Cache | None:
    """This host's part of the store; None where there is none."""
    settings = get_settings()
    store = remote(settings)
    return None if store is None else Cache(settings.cache_dir, store, settings.store_cache_bytes)


def keep(name: str, folder: Path) -> str:
    """Have a folder that will not change any more in the store under ``name``; its place.

    What an earlier try that was cut off has put there already is not sent again. Raises StoreError.
    """
    if (store := remote()) is None:
        return str(folder)
    tree = Tree.of(folder)
    reference = Reference(name, tree.digest)
    put(store, reference, tree, folder)
    cache_of(reference).adopt(reference, tree, folder)
    return str(reference)


def put(store: Remote, reference: Reference, tree: Tree, folder: Path) -> None:
    """The files that are not there yet, and then their list, which makes the folder complete."""
    there = {one.path: one.bytes for one in store.list(reference.prefix)}
    if reference.tree_path in there:
        return
    for name, content in tree.files.items():
        path = reference.object_path(name)
        if there.get(path) != content.bytes:
            store.put_file(path, folder / name)
    store.put_bytes(reference.tree_path, tree.written())


def is_stored(place: str) -> bool:
    """Whether it lies in the store, where its row alone says that it is there."""
    return place.startswith("store:")


def local(place: str, wanted: Callable[[str], bool] = lambda _: True) -> Path:
    """The folder, or file, at ``place`` on this host, fetched with the files that are ``wanted`` by name.

    Raises StoreError, and OSError where the disk has no room.
    """
    if place.startswith(_BASE):
        return _base(place.removeprefix(_BASE), wanted)
    if (reference := Reference.parse(place)) is None:
        return Path(place)
    return cache_of(reference).fetch(reference, wanted) / reference.file


def described(place: str) -> Path:
    """As :func:`local`, with all but the weights: what prompts and settings are made from."""
    return local(place, lambda name: not name.endswith(_WEIGHTS))


@contextlib.contextmanager
def in_use(places: Iterable[str]) -> Iterator[None]:
    """Within the block none of the folders is evicted on this host."""
    with contextlib.ExitStack() as stack:
        for place in places:
            if (reference := _reference(place)) is not None:
                stack.enter_context(cache_of(reference).pinned(reference))
        yield


def base_place(name: str) -> str:
    """The place of a base model that this host has in its models folder, or that is published."""
    return str(get_settings().models_dir / name) if remote() is None else f"{_BASE}{name}"


def base_name(place: str) -> str | None:
    """The base model that is at ``place``; None: it is none's."""
    for start in (_BASE, f"{get_settings().models_dir}/"):
        if place.startswith(start):
            return place.removeprefix(start)
    return None


def publish_base(name: str, folder: Path) -> str:
    """Have a base model in the store, for hosts that do not have it; its place there."""
    if (store := remote()) is None:
        return str(folder)
    tree = Tree.of(folder)
    reference = Reference(f"models/{name}", tree.digest)
    put(store, reference, tree, folder)
    if _published(store, name) != str(reference):
        store.put_bytes(pointer(name), str(reference).encode())
        forget()
    return str(reference)


def remove(place: str, inside: Path) -> None:
    """Remove what lies at ``place``, which no row names any more; a path only ``inside`` of a folder of ours.

    Where the store does not answer it stays, and :mod:`app.core.store.sweeping` removes it.
    """
    reference = Reference.parse(place)
    if reference is not None:
        remove_below(reference.prefix)
    elif Path(place).resolve().is_relative_to(inside):
        shutil.rmtree(place, ignore_errors=True)
    else:
        _log.warning("%s is not in %s, so it is left alone", place, inside)


def remove_below(name: str) -> None:
    """Remove everything below ``name`` in the store, and what this host has of it at hand."""
    if (store := remote()) is None:
        return
    mine = cache()
    assert mine is not None
    mine.drop_below(name)
    try:
        store.remove([one.path for one in store.list(name)])
    except StoreError as error:
        _log.warning("cannot delete what is below %s from the store yet: %s", name, error)


def cache_of(reference: Reference) -> Cache:
    """The cache that has, or fetches, it; raises StoreError where there is none."""
    if (found := cache()) is None:
        raise StoreError(f"{reference} is in a store, but POLICYSPLIT_STORE is not set.")
    return found


def _base(name: str, wanted: Callable[[str], bool]) -> Path:
    folder = get_settings().models_dir / name
    if (folder / "config.json").is_file():
        return folder
    if (reference := _reference(f"{_BASE}{name}")) is None:
        raise NotStored(
            f"The base model {name} is neither on this host nor in the store: fetch it here with "
            f"'policysplit models pull {name}', or publish it with 'policysplit store migrate' on a host "
            "that has it."
        )
    return cache_of(reference).fetch(reference, wanted)


def _reference(place: str) -> Reference | None:
    """What ``place`` refers to in the store; None: it is a path, or nowhere but on this host."""
    if not place.startswith(_BASE):
        return Reference.parse(place)
    name = place.removeprefix(_BASE)
    store = remote()
    if store is None or (get_settings().models_dir / name / "config.json").is_file():
        return None
    # One that came a moment ago is not among those known.
    if (known := published().get(name)) is not None:
        return known.reference
    stored = _published(store, name)
    return None if stored is None else Reference.parse(stored)


def _published(store: Remote, name: str) -> str | None:
    try:
        return store.get_bytes(pointer(name)).decode()
    except NotStored:
        return None
