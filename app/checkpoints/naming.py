"""The names of fine-tuned models, built and taken apart here alone.

``ft:{base}:{organization}:{suffix}:{job}``                      the result of a job, normal mode
``ft:{base}:{organization}:{suffix}:{job}:ckpt-step-{N}``        one of its checkpoints
either with ``:high-entropy`` at the end                         the same weights in high-entropy mode

``suffix`` may be empty. ``job`` is the first ten characters of the job id's random part.
"""

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from trainer.spec.modes import Mode

FORM = "ft:BASE:ORGANIZATION:SUFFIX:JOB[:ckpt-step-N][:high-entropy]"
HIGH_ENTROPY_SUFFIX = f":{Mode.HIGH_ENTROPY.value}"
_JOB_CHARACTERS = 10
_PART = r"[A-Za-z0-9._-]"
_NAME = rf"[A-Za-z0-9]{_PART}*"
_PATTERN = re.compile(
    rf"ft:(?P<base>{_NAME}(?:/{_NAME})*):(?P<organization>{_PART}+):(?P<suffix>{_PART}*):"
    r"(?P<job>[A-Za-z0-9]+)(?::ckpt-step-(?P<step>\d{1,9}))?(?P<mode>:high-entropy)?"
)


class BadModelId(ValueError):
    """A name that starts with ``ft:`` but does not have the form of a fine-tuned model's id."""


@dataclass(frozen=True)
class ModelId:
    """A fine-tuned model's id in its parts; ``str()`` puts them together again."""

    base: str
    organization: str
    suffix: str
    job: str
    step: int | None = None
    mode: Mode = Mode.NORMAL

    def __str__(self) -> str:
        name = f"ft:{self.base}:{self.organization}:{self.suffix}:{self.job}"
        if self.step is not None:
            name += f":ckpt-step-{self.step}"
        return in_mode(name, self.mode)

    @property
    def stored(self) -> str:
        """The name as the database has it: without the mode."""
        return str(replace(self, mode=Mode.NORMAL))


def in_mode(stored: str, mode: Mode) -> str:
    """The id of a mode of a model that the database calls ``stored``."""
    return stored + HIGH_ENTROPY_SUFFIX if mode is Mode.HIGH_ENTROPY else stored


def organization_of(stored: str) -> str:
    """The organization in a name that :func:`model_id` made; a list's thousand are not all taken apart."""
    return stored.split(":", 3)[2]


def is_fine_tuned(name: str) -> bool:
    """Whether a model name claims to be a fine-tuned model rather than a base."""
    return name.startswith("ft:")


def parse_model_id(name: str) -> ModelId:
    """Take a fine-tuned model's id apart. Raises BadModelId, saying which form is expected."""
    match = _PATTERN.fullmatch(name)
    if match is None:
        raise BadModelId(f"{name!r} is not the id of a fine-tuned model; expected {FORM}")
    step = match["step"]
    return ModelId(
        base=match["base"],
        organization=match["organization"],
        suffix=match["suffix"],
        job=match["job"],
        step=None if step is None else int(step),
        mode=Mode.HIGH_ENTROPY if match["mode"] else Mode.NORMAL,
    )


def job_part(job_id: str) -> str:
    """The short form of a job's id that its models carry."""
    return job_id.removeprefix("ftjob-")[:_JOB_CHARACTERS]


@lru_cache
def base_of(model: str) -> str:
    """The base model's name behind ``model``, which may itself be fine-tuned."""
    return parse_model_id(model).base if is_fine_tuned(model) else model


def model_id(
    *, model: str, organization: str, suffix: str | None, job_id: str, step: int | None = None
) -> str:
    """The id of a job's result, or with ``step`` of one of its checkpoints.

    ``model`` is what the job was started from: a base, or an earlier fine-tuned model, whose base it keeps.
    """
    return str(ModelId(base_of(model), organization, suffix or "", job_part(job_id), step))
