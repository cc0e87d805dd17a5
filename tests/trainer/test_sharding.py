"""Ranks that each have a part of the weights train as one process with all of them, and go on from each
other's states. Every world is started once (``tests.trainer.sharded_training``)."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.fixtures.architectures import build_architecture
from tests.fixtures.launched import on_ranks
from tests.fixtures.models import build_tiny_model
from tests.fixtures.runs import events_of, reproducible
from tests.trainer.sampling_beside import STEPS, Beside, built, spec_of
from tests.trainer.sharded_saving import KEPT, SAVED, Kept, Training, go_on, small_policy
from tests.trainer.sharded_training import CASES, FOUR, bytes_of, trained
from trainer.checkpoints import checkpoint
from trainer.distributed.ranks import ALONE
from trainer.loop import Run
from trainer.spec.events import EventWriter, Rollouts, StepMetrics

#: The worlds, in the order in which each goes on from what the one before has saved.
WORLDS = (4, 2, 3)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    build_tiny_model(folder / "tiny")
    build_tiny_model(folder / "untied", tied=False)
    build_architecture(folder / "qwen3-moe", "qwen3-moe")
    return folder


@pytest.fixture(scope="module")
def out(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all worlds left."""
    folder = tmp_path_factory.mktemp("worlds")
    for kept in KEPT:
        go_on(str(models / "tiny"), folder / kept, kept)
    for world in WORLDS:
        on_ranks(world, "tests.trainer.sharded_training", str(models), str(folder))
    return folder


@pytest.fixture(scope="module")
def found(out: Path) -> dict[int, list[dict[str, Any]]]:
    """What each rank of each world found."""
    return {world: [torch.load(out / f"{world}-{rank}.pt") for rank in range(world)] for world in WORLDS}


@cache
def trained_alone(model: str, name: str) -> dict[str, torch.Tensor | float]:
    """By one process."""
    return trained(model, CASES[name])


@pytest.mark.parametrize(("world", "name"), [*((2, name) for name in CASES), *((4, name) for name in FOUR)])
def test_r12_ranks_with_parts_of_the_weights_train_as_one_with_all(
    models: Path, found: dict[int, list[dict[str, Any]]], world: int, name: str
):
    """Gradients of the first step, losses, norms, metrics, entropies; weights after the last step of AdamW.

    In float64, but for norms and positions inside the model.
    """
    alone = trained_alone(str(models / "tiny"), name)
    assert any(
        key.startswith("gradient 0/") and bool(torch.as_tensor(value).any()) for key, value in alone.items()
    )
    for of_rank in found[world]:
        assert of_rank[name].keys() == alone.keys()
        for key, expected in alone.items():
            value = of_rank[name][key]
            if isinstance(expected, torch.Tensor):
                largest = float(expected.nan_to_num().abs().max())
                torch.testing.assert_close(
                    value, expected, rtol=0, atol=1e-6 * largest, equal_nan=True, msg=key
                )
            else:
                assert value == pytest.approx(expected, rel=1e-6, abs=1e-9), key


def test_what_a_rank_has_of_weights_gradients_and_moments_is_its_part(
    models: Path, found: dict[int, list[dict[str, Any]]]
):
    """To the rows that a number of ranks does not divide: 3 % of this model with three."""
    whole = bytes_of(str(models / "tiny"))
    assert whole["moments"] == 2 * whole["weights"] == 2 * whole["gradients"]
    for world, ranks in found.items():
        for kind, size in whole.items():
            assert sum(of_rank["bytes"][kind] for of_rank in ranks) == size
            assert max(of_rank["bytes"][kind] for of_rank in ranks) < 1.04 * size / world


@pytest.mark.parametrize("kept", KEPT)
def test_a_run_goes_on_with_any_number_of_ranks(
    models: Path, out: Path, found: dict[int, list[dict[str, Any]]], kept: Kept
):
    """One process, four ranks, two, three, and one again: a step each."""
    alone = Training(str(models / "tiny"), ALONE, kept)
    alone.steps(1)
    for world in WORLDS:
        alone.steps(1)
        for of_rank in found[world]:
            for name, expected in alone.weights().items():
                torch.testing.assert_close(of_rank["went on"][kept][name], expected, rtol=1e-9, atol=1e-12)
    alone.steps(1)
    again = go_on(str(models / "tiny"), out / kept, kept)
    for name, expected in alone.weights().items():
        torch.testing.assert_close(again[name], expected, rtol=1e-9, atol=1e-12)


def test_a_state_is_of_the_moment_it_was_asked_for_and_resumed_to_the_bit(
    models: Path, out: Path, found: dict[int, list[dict[str, Any]]]
):
    """It is written while the next step changes the weights."""
    for of_rank in found[2]:
        states = of_rank["states"]
        assert (states["problems"], states["resumed after"]) == ([], 2)
        for name, expected in states["undisturbed"].items():
            assert torch.equal(states["resumed"][name], expected), name
    first = Training(str(models / "tiny"), ALONE)
    counters, _ = checkpoint.load_state(out / "whole states", first.optimizer, up_to=1)
    assert counters is not None and counters.step == 1
    for name, expected in found[2][0]["states"]["saved"].items():
        assert torch.equal(first.weights()[name], expected), name


def test_a_torn_part_is_found_by_all_and_the_state_before_taken(
    models: Path, out: Path, found: dict[int, list[dict[str, Any]]]
):
    """By the ranks, of which one reads the part, and by a process alone."""
    alone = Training(str(models / "tiny"), ALONE)
    problems = alone.load(out / "states")
    for torn, step, weights in [
        *((r["states"]["torn"], r["states"]["before after"], r["states"]["before"]) for r in found[2]),
        (problems, alone.counters.step, alone.weights()),
    ]:
        assert step == 1
        assert len(torn) == 1 and "the state of step 2 is damaged (__1_0.distcp has SHA-256" in torn[0]
        for name, expected in found[2][0]["states"]["saved"].items():
            assert torch.equal(weights[name], expected), name


def test_ranks_with_parts_of_the_weights_train_what_is_sampled_beside_them_as_one_does(
    models: Path, out: Path, tmp_path: Path
):
    """Each batch is there before the second rank begins the update beside it (``sampling_beside.Waiting``):
    the thread takes part in nothing collective. States are written meanwhile, by a thread as well."""
    with EventWriter(tmp_path / "events.jsonl") as events:
        run = Run(spec_of(models / "tiny", tmp_path, 1), tmp_path, events)
        run._engine = built(run, Beside)
        assert run.run()
    alone, together = events_of(tmp_path), events_of(out / "ahead")
    texts = [
        [[one.response for one in event.rollouts] for event in told if isinstance(event, Rollouts)]
        for told in (alone, together)
    ]
    assert texts[0] == texts[1] and len(texts[0]) == STEPS
    one, other = ([e for e in told if isinstance(e, StepMetrics)] for told in (alone, together))
    for expected, found in zip(one, other, strict=True):
        assert reproducible(found) == pytest.approx(reproducible(expected), rel=1e-4, abs=1e-6)
        assert ("time/ahead" in found.values) == (0 < found.step < STEPS)
    last = f"checkpoints/step-{STEPS}/model.safetensors"
    expected = load_file(tmp_path / last)
    for name, weight in load_file(out / "ahead" / last).items():
        torch.testing.assert_close(weight, expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SAVED)
def test_checkpoints_written_layer_by_layer_are_those_of_one_process(
    models: Path, out: Path, found: dict[int, list[dict[str, Any]]], tmp_path: Path, name: str
):
    """Byte for byte, where they are one file; and an engine is sent the same."""
    model, dtype, lora, size = SAVED[name]
    small_policy(str(models / model), ALONE, dtype, lora).save(tmp_path)
    folder = out / "checkpoints" / name
    expected = load_file(tmp_path / "model.safetensors")
    sent = load_file(folder / "sent")
    assert sent.keys() == expected.keys()
    assert all(
        torch.equal(sent[key], expected[key]) and sent[key].dtype == expected[key].dtype for key in sent
    )
    files = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    others = {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()} - {Path("sent")}
    if size == min(size for *_, size in SAVED.values()):
        assert len([path for path in others if path.suffix == ".safetensors"]) > 2
        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").state_dict()
        assert all(torch.equal(loaded[key], value) for key, value in expected.items())
        return
    assert files == others
    for path in files:
        assert (folder / path).read_bytes() == (tmp_path / path).read_bytes(), path
