"""What can be imported inside a sandbox is found as Python's metadata lists it, and by one thread for all."""

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution

import pytest

from trainer.sandbox import packages


@pytest.mark.parametrize("name", ["sympy", "reasoning-gym", "pyyaml", "nltk"])
def test_the_folders_of_a_package_are_those_that_its_list_of_files_names(name: str):
    files = distribution(name).files or ()
    tops = {file.parts[0] for file in files} - {"..", "/", "__pycache__"}
    found = packages.entries((name,))
    assert tops <= found.keys()
    assert all(path.exists() for path in found.values())


def test_threads_that_start_sandboxes_at_once_look_once(monkeypatch: pytest.MonkeyPatch):
    searched: list[str] = []
    find = packages._found
    monkeypatch.setattr(packages, "_found", lambda name: searched.append(name) or find(name))
    packages._entries.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: packages.entries(("sympy",)), range(4)))
    assert found == [found[0]] * 4
    assert searched.count("sympy") == 1
