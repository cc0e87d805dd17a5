"""The tokens that end an answer, read from a model's folder as the trainer takes them from the loaded model.

Both the generation config and the tokenizer may name some; a server looks at the former alone.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from worker.inference.engines.folders import read_json as _read


@lru_cache(maxsize=256)
def stop_token_ids(folder: Path) -> tuple[int, ...]:
    """Ids of the tokens at which training ended a response; empty where the folder names none."""
    generation = _read(folder / "generation_config.json") or _read(folder / "config.json")
    named = generation.get("eos_token_id")
    ids = set(named if isinstance(named, list) else [] if named is None else [named])
    end = _read(folder / "tokenizer_config.json").get("eos_token")
    end = end.get("content") if isinstance(end, dict) else end
    if end is not None and (found := _token_id(_read(folder / "tokenizer.json"), end)) is not None:
        ids.add(found)
    return tuple(sorted(ids))


def _token_id(tokenizer: dict[str, Any], token: str) -> int | None:
    for added in tokenizer.get("added_tokens", []):
        if added["content"] == token:
            return added["id"]
    vocabulary = tokenizer.get("model", {}).get("vocab")
    return vocabulary.get(token) if isinstance(vocabulary, dict) else None
