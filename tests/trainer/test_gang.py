"""A run on a Ray cluster, without one: what is refused, compared and placed (tests/e2e/test_ray has one)."""

import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fixtures.ray_nodes import needs_ray
from tests.fixtures.runs import events_of, tiny_spec, write_rows
from trainer.errors import ClusterFailed
from trainer.gang.__main__ import main
from trainer.gang.checks import check_hosts, clock_warnings
from trainer.gang.cluster import ADDRESS, Host
from trainer.gang.gang import visible
from trainer.gang.placement import Wanted
from trainer.gang.rank import facts
from trainer.spec.events import Failed
from trainer.spec.run import RunSpec


@pytest.fixture(scope="module")
def spec(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunSpec:
    data = write_rows(tmp_path_factory.mktemp("rows") / "data.jsonl")
    return tiny_spec(tiny_model, data, validation_data=None, total_steps=4)


@pytest.fixture
def failed(tmp_path: Path, spec: RunSpec) -> Callable[..., Failed]:
    """What a driver in this process fails with."""

    def run(code: int, *options: str) -> Failed:
        (tmp_path / "spec.json").write_text(spec.model_dump_json())
        handlers = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGUSR1)]
        try:
            found = main(["--spec", str(tmp_path / "spec.json"), "--run-dir", str(tmp_path), *options])
        finally:
            for number, handler in handlers:
                signal.signal(number, handler)
        assert found == code
        last = events_of(tmp_path)[-1]
        assert isinstance(last, Failed)
        return last

    return run


def test_a_host_without_ray_names_the_extra(failed, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv(ADDRESS, "127.0.0.1:1")
    assert "policysplit[ray]" in failed(2, "--ranks", "2").message


@needs_ray
@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        ("127.0.0.1:1", 1, "cannot be reached"),
        ("", 2, "is not set: give the address"),
        ("ray://127.0.0.1:10001", 2, "host:port"),
        ("127.0.0.1", 2, "host:port"),
    ],
)
def test_a_cluster_that_cannot_be_is_told_by_its_address(
    failed, monkeypatch: pytest.MonkeyPatch, address: str, code: int, words: str
):
    monkeypatch.setenv(ADDRESS, address)
    last = failed(code, "--ranks", "2")
    assert words in last.message and (address or ADDRESS) in last.message
    assert last.code == ("invalid_spec" if code == 2 else "cluster_failed")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--ranks", "3", "--nodes", "2"), "3 ranks cannot be divided evenly over 2 hosts"),
        (("--ranks", "2", "--min-ranks", "3"), "give 1 to 2"),
        (("--ranks", "4", "--nodes", "2", "--rollout-gpus", "2"), "need --nodes 1"),
        (("--ranks", "3", "--nodes", "1", "--tensor-parallel", "2"), "there are 3 ranks: give a divisor"),
    ],
)
def test_a_world_that_cannot_be_is_refused(failed, options: tuple[str, ...], words: str):
    assert words in failed(2, *options).message


def test_hosts_are_compared_before_anything_is_loaded(tiny_model: Path, tmp_path: Path):
    token = tmp_path / "seen"
    token.touch()
    good = facts(token, [str(tiny_model)])
    check_hosts(good, {"one": good, "two": good}, tmp_path)
    other = tmp_path / "model"
    other.mkdir()
    for file in tiny_model.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    assert facts(token, [str(other)]).paths[str(other)] == good.paths[str(tiny_model)]
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    changed = facts(token, [str(other)]).paths[str(other)]
    away = facts(tmp_path / "not-seen", [str(tmp_path / "none")])

    path = str(tiny_model)
    for bad, words in (
        (replace(good, trains=False), "torch is not installed on two"),
        (replace(good, versions=good.versions | {"policysplit": "0.0.9"}), "two has policysplit 0.0.9"),
        (replace(good, versions=good.versions | {"trainer code": "x"}), "two has trainer code x"),
        (replace(good, shared=away.shared), "two does not see the run directory"),
        (replace(good, paths={path: away.paths[str(tmp_path / "none")]}), f"{path} is not on two"),
        (replace(good, paths={path: changed}), f"{path} on two differs from the one on the worker's host"),
    ):
        with pytest.raises(ClusterFailed) as raised:
            check_hosts(good, {"one": good, "two": bad}, tmp_path)
        assert words in str(raised.value)


def test_clocks_that_differ_are_told_of():
    (one,) = clock_warnings({"one": 61.0, "two": 0.3})
    assert "one is 61 s ahead" in one
    (one,) = clock_warnings({"one": -5.0})
    assert "5 s behind" in one


def test_what_is_placed_fits_whole_blocks():
    hosts = [Host("a", "a", 8, 1), Host("b", "b", 5, 4)]
    free, total = [host.free for host in hosts], [host.total for host in hosts]
    assert (Wanted(16, 1).most(total), Wanted(8, 1).most(total), Wanted(8, 1).most(free)) == (13, 8, 5)
    two = Wanted(8, 4, nodes=2)
    assert (two.most(total), two.most(free), two.most([3, 4])) == (8, 4, 4)
    assert (two.size(hosts), two.size(hosts[:1]), Wanted(8, 8, nodes=2).size(hosts[:1])) == (8, 4, 8)
    one = Wanted(8, 4, nodes=1)
    assert (one.most(total), one.most(free), one.size(hosts[1:]), one.block(5)) == (8, 4, 5, 5)
    engines = Wanted(4, 1, nodes=1, beside=3)
    assert (engines.most(total), engines.most(free), engines.block(2), engines.together(2)) == (4, 1, 5, 2)
    assert Wanted(8, 2, nodes=1, multiple=2).most([7]) == 6


def test_ranks_of_a_host_see_the_gpus_that_train_before_those_of_engines():
    """As ``trainer.rollout.places`` counts them."""
    assert visible(["5", "3"]) == "5,3" and visible(["2,7,0", "4"]) == "2,4,7,0"
