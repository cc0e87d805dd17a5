"""Names of fine-tuned models: what is built can be taken apart again."""

import pytest

from app.checkpoints.naming import BadModelId, ModelId, base_of, model_id, parse_model_id
from trainer.spec.modes import Mode


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("ft:tiny:org:sums:AbC123", ModelId("tiny", "org", "sums", "AbC123")),
        ("ft:tiny:org::AbC123", ModelId("tiny", "org", "", "AbC123")),
        (
            "ft:Owner/Model-1.5B:org::A:high-entropy",
            ModelId("Owner/Model-1.5B", "org", "", "A", None, Mode.HIGH_ENTROPY),
        ),
        ("ft:tiny:org:s:A:ckpt-step-12", ModelId("tiny", "org", "s", "A", 12)),
        (
            "ft:tiny:org:high-entropy:A:ckpt-step-0:high-entropy",
            ModelId("tiny", "org", "high-entropy", "A", 0, Mode.HIGH_ENTROPY),
        ),
    ],
)
def test_there_and_back(name: str, parts: ModelId):
    assert parse_model_id(name) == parts
    assert str(parts) == name


@pytest.mark.parametrize(
    "name", ["ft:", "ft:tiny", "ft:tiny:org:A", "ft:tiny:org:s:A:normal", "ft:../x:o::A", "ft:t:o::A\n"]
)
def test_what_is_none(name: str):
    with pytest.raises(BadModelId, match="expected ft:BASE"):
        parse_model_id(name)


def test_names_of_a_job():
    job = "ftjob-abcdefghijklmnopqrstuvwx"
    first = model_id(model="tiny", organization="org", suffix=None, job_id=job)
    assert first == "ft:tiny:org::abcdefghij"
    again = model_id(model=f"{first}:ckpt-step-5", organization="org", suffix="s", job_id="ftjob-zz", step=3)
    assert again == "ft:tiny:org:s:zz:ckpt-step-3", "the base stays the base"
    assert base_of(first) == base_of("tiny") == "tiny"
