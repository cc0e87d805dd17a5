"""A mode's prompt in front of a raw prompt's own tokens, for answers that tell of each of these.

Read as one text, the two could share a token where they meet, and a client that counts its tokens would count
others than the engine tells of.
"""

from functools import lru_cache
from pathlib import Path

from tokenizers import Tokenizer

from app.inference.engine_request import EngineRequest
from worker.inference.errors import RequestRefused


def joined(request: EngineRequest) -> tuple[EngineRequest, tuple[int, int]]:
    """The request with one list of token ids for ``prefix`` and ``prompt``, and where the prefix is in it.

    What tokenizers put in front of any text (BOS) comes first. Reads the disk. Raises RequestRefused.
    """
    if request.prefix is None or request.prompt is None:
        return request, (0, 0)
    file = Path(request.folder) / "tokenizer.json"
    try:
        tokenizer = _tokenizer(file, file.stat().st_mtime_ns)
    except Exception as error:  # the library's own, which is a plain Exception
        raise RequestRefused(f"The model's tokenizer.json cannot be read: {error}", param="prompt") from None
    first = tokenizer.encode("").ids
    prefix = tokenizer.encode(request.prefix, add_special_tokens=False).ids
    if isinstance(request.prompt, str):
        own = tokenizer.encode(request.prompt, add_special_tokens=False).ids
    else:  # as they are sent: with what comes first, or without
        first = first if request.prompt[: len(first)] == first else []
        own = request.prompt[len(first) :]
    ids = [*first, *prefix, *own]
    span = (len(first), len(first) + len(prefix))
    return request.model_copy(update={"prompt": ids, "prefix": None}), span


@lru_cache(maxsize=8)
def _tokenizer(file: Path, _written: int) -> Tokenizer:
    return Tokenizer.from_file(str(file))
