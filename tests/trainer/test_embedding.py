"""Embedding diversity: vectors against a BERT written in NumPy, values by hand, folders that cannot work."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.fixtures.groups import H, N
from tests.fixtures.runs import events_of, tiny_spec, write_rows
from trainer.errors import InvalidSpec
from trainer.evaluation.outcomes import embedding_metrics
from trainer.loop import Run
from trainer.model.embedding import Encoder, load_encoder
from trainer.spec.evaluation import EvaluationSpec
from trainer.spec.events import EventWriter, StepMetrics
from trainer.spec.model import ModelSpec
from trainer.spec.run import RunSpec
from trainer.statistics.diversity import embedding_diversity
from trainer.types import Group, Rollout

TEXTS = ["abc", "abcabcabc", "", "j", "unknown", "abcdefghij" * 4]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def encoder(tiny_encoder: Path) -> Encoder:
    return load_encoder(str(tiny_encoder), CPU)


def embedded_by_numpy(folder: Path, text: str) -> np.ndarray:
    """BERT (post-norm, exact GELU), mean over all its tokens, unit length; one text at a time, float64."""
    w = {name: value.astype(np.float64) for name, value in load_file(folder / "model.safetensors").items()}
    heads = json.loads((folder / "config.json").read_text())["num_attention_heads"]
    letters = [4 + "abcdefghij".index(c) if c in "abcdefghij" else 1 for c in text]
    ids = [2, *letters[:30], 3]

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    e = "embeddings"
    x = w[f"{e}.word_embeddings.weight"][ids] + w[f"{e}.position_embeddings.weight"][: len(ids)]
    x = norm(x + w[f"{e}.token_type_embeddings.weight"][0], f"{e}.LayerNorm")
    for layer in range(2):
        at = f"encoder.layer.{layer}"
        q, k, v = (
            np.stack(np.split(linear(x, f"{at}.attention.self.{part}"), heads, axis=-1))
            for part in ("query", "key", "value")
        )
        weights = np.exp(q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1]))
        mixed = np.concatenate(list(weights / weights.sum(-1, keepdims=True) @ v), axis=-1)
        x = norm(x + linear(mixed, f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm")
        inner = linear(x, f"{at}.intermediate.dense")
        inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        x = norm(x + linear(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def test_vectors_are_those_of_an_independent_computation(encoder: Encoder, tiny_encoder: Path):
    """Whatever else is in the batch; empty, unknown and too long texts among them."""
    found = encoder.embed(TEXTS).double().numpy()
    expected = np.stack([embedded_by_numpy(tiny_encoder, text) for text in TEXTS])
    assert np.abs(found - expected).max() < 1e-5
    cosines = expected @ expected.T
    assert np.abs(cosines[~np.eye(len(TEXTS), dtype=bool)]).max() < 0.999  # the texts are told apart
    pairs = [cosines[i, j] for i in range(len(TEXTS)) for j in range(i)]
    assert embedding_diversity(found.tolist()) == pytest.approx(1 - np.mean(pairs), abs=1e-5)


def test_diversity_of_vectors_by_hand():
    assert embedding_diversity([[0.6, 0.8]] * 3) == pytest.approx(0.0, abs=1e-12)
    assert embedding_diversity([[2.0, 0, 0], [0, 1, 0], [0, 0, 1]]) == pytest.approx(1.0, abs=1e-12)
    # cos 60, 0 and 150 degrees.
    third = [math.cos(math.radians(150)), math.sin(math.radians(150))]
    half = [math.cos(math.radians(60)), math.sin(math.radians(60))]
    mean = (0.5 + math.cos(math.radians(150)) + 0.0) / 3
    assert embedding_diversity([[1.0, 0.0], half, third]) == pytest.approx(1 - mean)
    assert embedding_diversity([[1.0, 0.0]]) is None


def answered(normal: list[tuple[str, float]], high: list[tuple[str, float]]) -> Group:
    """Responses a token a letter, 0 the end."""
    group = Group(0, 0, {}, [], {N: [1], H: [1, 2]})
    for mode, responses in ((N, normal), (H, high)):
        for text, reward in responses:
            ids = [*map(ord, text), 0]
            group.rollouts.append(Rollout(mode, ids, [0.0] * len(ids), False, text=text, reward=reward))
    return group


def test_the_modes_are_compared_on_all_on_as_long_and_on_correct_responses():
    """Texts stand for axes by their first two letters: the same axis 0, another 1."""
    asked: list[str] = []

    def embed(texts):
        asked.extend(texts)
        axes = sorted({text[:2] for text in texts})
        return torch.eye(len(axes))[[axes.index(text[:2]) for text in texts]]

    def text(ids) -> str:
        return "".join(map(chr, ids))

    group = answered(
        [("abxx", 1.0), ("abyy", 1.0), ("cdzz", 0.0)],
        [("ef", 1.0), ("gh", 1.0), ("ij", 0.0)],
    )
    found = embedding_metrics([group], (N, H), frozenset({0}), text, embed)
    assert found == pytest.approx(
        {
            "eval/N/embedding_diversity": 2 / 3,
            "eval/H/embedding_diversity": 1.0,
            "eval/N/embedding_diversity_matched": 2 / 3,
            "eval/H/embedding_diversity_matched": 1.0,
            "eval/N/embedding_diversity_correct": 0.0,
            "eval/H/embedding_diversity_correct": 1.0,
        }
    )
    # Matched: the normal mode's are cut to the others' two letters. Each text is embedded once.
    assert sorted(asked) == ["ab", "abxx", "abyy", "cd", "cdzz", "ef", "gh", "ij"]
    assert embedding_metrics([], (N, H), frozenset({0}), text, embed) == {}


def broken(tiny_encoder: Path, folder: Path, change) -> str:
    shutil.copytree(tiny_encoder, folder)
    change(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / "config.json").unlink(), "it has no config.json"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "no .safetensors weights"),
        (lambda f: (f / "tokenizer.json").unlink(), "does not work as a text encoder"),
        (lambda f: (f / "model.safetensors").write_bytes(b"torn"), "does not work as a text encoder"),
        (
            lambda f: (f / "1_Pooling/config.json").write_text('{"pooling_mode_cls_token": true}'),
            "pools by ['pooling_mode_cls_token']; only the mean",
        ),
        (
            lambda f: (f / "modules.json").write_text('[{"path": "2_Dense", "type": "a.Dense"}]'),
            "has a part 'Dense'",
        ),
    ],
)
def test_a_folder_that_cannot_work_is_refused(tiny_encoder: Path, tmp_path: Path, change, said: str):
    with pytest.raises(InvalidSpec, match=r".") as caught:
        load_encoder(broken(tiny_encoder, tmp_path / "broken", change), CPU)
    assert said in str(caught.value)
    assert caught.value.param == "evaluation.embedding_model"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"validation_data": None}, "there is no validation data"),
        ({"evaluation": EvaluationSpec(embedding_model="x")}, "samples_per_item is 1: give 2 or more"),
    ],
)
def test_an_encoder_without_anything_to_compare_is_refused(changes: dict, said: str):
    spec = tiny_spec(Path("model"), Path("data.jsonl")).model_dump()
    spec["evaluation"] |= {"embedding_model": "x", "samples_per_item": 2}
    with pytest.raises(ValueError, match=said):
        RunSpec.model_validate(spec | changes)


def test_a_run_reports_it_and_trains_as_without_it(tiny_model: Path, tiny_encoder: Path, tmp_path: Path):
    model = ModelSpec(path=str(tiny_model), dtype="float32")
    values, weights = {}, {}
    for name, folder in (("with", str(tiny_encoder)), ("without", None)):
        evaluation = EvaluationSpec(max_items=2, samples_per_item=2, embedding_model=folder)
        rows = write_rows(tmp_path / "data.jsonl")
        spec = tiny_spec(tiny_model, rows, model=model, evaluation=evaluation, total_steps=2)
        with EventWriter(tmp_path / name / "events.jsonl") as events:
            assert Run(spec, tmp_path / name, events).run()
        found = [e for e in events_of(tmp_path / name) if isinstance(e, StepMetrics)]
        values[name] = [{k: v for k, v in e.values.items() if "embedding" in k} for e in found]
        weights[name] = load_file(tmp_path / name / "checkpoints/step-2/model.safetensors")
    per_view = {f"eval/{m}/embedding_diversity{v}" for m in "NH" for v in ("", "_matched")}
    assert values["with"][0].keys() >= per_view and values["with"][-1].keys() >= per_view
    assert values["with"][1] == {}
    assert all(-1e-9 <= value <= 2 for value in values["with"][0].values())
    assert values["with"][0]["eval/N/embedding_diversity"] > 0
    assert not any(values["without"])
    assert all(np.array_equal(weights["with"][n], weights["without"][n]) for n in weights["with"])
