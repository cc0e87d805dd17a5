"""``/v1/files/{id}/prompt_lengths``: how long a file's prompts are in the tokens of a model to be trained."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from tokenizers import Tokenizer

from app.core.auth import ProjectId
from app.core.db import read_session
from app.core.description import Kind, answers
from app.core.errors import BadRequest
from app.core.parameters import FileId
from app.core.requests import StrictRoute
from app.core.scopes import READ
from app.core.settings import get_settings
from app.core.strict_json import JsonObject, parse
from app.files.jsonl import lines
from app.files.service import content
from app.models.catalog import weights_to_train
from trainer.spec.messages import Conversation, conversation
from trainer.spec.rows import TaughtMessage

router = APIRouter(prefix="/v1/files", tags=["files"], route_class=StrictRoute)
#: Of a file, so much is read from its beginning: a second's work at most.
_BYTES = 2**20


class PromptLengths(BaseModel):
    """Lengths of a file's prompts: their messages only, without what a chat template adds."""

    object: Kind[Literal["file.prompt_lengths"]]
    file_id: str = Field(description="The file that was read")
    model: str = Field(description="Model whose tokenizer was used")
    rows: int = Field(description="Number of rows read, starting with the first")
    complete: bool = Field(description="Whether all rows were read; for a long file only the first are")
    median: int = Field(description="Median number of tokens in a prompt")
    ninety_percent: int = Field(description="Number of tokens that nine out of ten prompts do not exceed")
    longest: int = Field(description="Tokens of the longest prompt")


@router.get("/{file_id}/prompt_lengths", **answers(PromptLengths), **READ)
def get_prompt_lengths(
    file_id: FileId,
    project: ProjectId,
    model: Annotated[str, Query(description="A base model, or one made by a job")],
) -> dict[str, object]:
    """Get the number of tokens in a file's prompts.

    For the first rows of the file, with the tokenizer of a model that may be trained on it.
    """
    file, path = content(project, file_id)
    if file.rows is None:
        raise BadRequest(
            f"Invalid value for 'file_id': '{file_id}' was written by a job and has no prompts. Give a "
            "file with the purpose 'fine-tune'.",
            param="file_id",
        )
    with read_session() as session:
        weights = weights_to_train(session, project, model)
    folder = weights.path
    prompts = list(_prompts(path))
    tokenizer = _tokenizer(folder / "tokenizer.json", model)
    lengths = sorted(len(one) for one in tokenizer.encode_batch(prompts, add_special_tokens=False))
    return {
        "object": "file.prompt_lengths",
        "file_id": file.id,
        "model": model,
        "rows": len(lengths),
        "complete": len(lengths) == file.rows,
        "median": lengths[len(lengths) // 2],
        "ninety_percent": lengths[(9 * len(lengths) - 1) // 10],
        "longest": lengths[-1],
    }


def _prompts(path: Path) -> Iterator[str]:
    """The text of each row's messages, of one row at least."""
    left = _BYTES
    for _, line in lines(path, get_settings().max_line_bytes):
        row = parse(line)
        assert isinstance(row, dict), "an upload's lines were checked"
        yield "".join(message["content"] for message in _conversation(row).templated())
        if (left := left - len(line)) <= 0:
            return


def _conversation(row: JsonObject) -> Conversation:
    """Of a row of any method."""
    return conversation(row if "messages" in row else row["input"], TaughtMessage)


def _tokenizer(path: Path, model: str) -> Tokenizer:
    try:
        return _read(path, path.stat().st_mtime_ns)
    except Exception as error:  # whatever the library makes of a file that is none of its own
        raise BadRequest(
            f"Invalid value for 'model': '{model}' has no tokenizer.json that can be read ({error}). Give "
            "another model.",
            param="model",
        ) from None


@lru_cache(maxsize=2)
def _read(path: Path, _changed: int) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
