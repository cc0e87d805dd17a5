"""The tokens that end an answer, read from a model's folder as the trainer takes them from the loaded model.

Generation config, tokenizer and chat template may each name some; a server looks at the first alone.

A template is a program of whoever made the model: one that loops, or fills the memory, would hold up all
models of a worker. So a process of its own reads them.
"""

import json
import resource
import signal
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from app.core.strict_json import JsonObject
from trainer.spec.chat_template import chat_template
from trainer.spec.turn_end import turn_end
from trainer.system.environment import inherited
from worker.inference.engines.folders import read_json as _read
from worker.inference.errors import EngineFailed

#: For the template with two short messages.
SECONDS, _MEMORY_BYTES = 5, 1 << 30


@lru_cache(maxsize=256)
def stop_token_ids(folder: Path) -> tuple[int, ...]:
    """Ids of the tokens at which training ended a response; empty where the folder names none.

    Blocks for as long as a process takes to start, the first time. Raises EngineFailed for a folder that
    cannot be read, or whose template does not end.
    """
    command = [sys.executable, "-P", "-c", f"from {__name__} import main; main()", str(folder)]
    environment = inherited() | {"PYTHONPATH": ":".join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, timeout=3 * SECONDS, check=False, text=True
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode == -signal.SIGXCPU:
        raise EngineFailed(f"The model's chat template did not finish within {SECONDS} s.")
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise EngineFailed(f"The model's stop tokens cannot be read: {last}")
    return tuple(json.loads(done.stdout))


def read_stop_token_ids(folder: Path) -> tuple[int, ...]:
    """The same in this process."""
    generation = _read(folder / "generation_config.json") or _read(folder / "config.json")
    named = generation.get("eos_token_id")
    ids = set(named if isinstance(named, list) else [] if named is None else [named])
    end = _read(folder / "tokenizer_config.json").get("eos_token")
    end = end.get("content") if isinstance(end, dict) else end
    if end is not None and (found := _token_id(_read(folder / "tokenizer.json"), end)) is not None:
        ids.add(found)
    if (template := chat_template(folder)) is not None:
        added = _read(folder / "tokenizer.json").get("added_tokens", [])
        tokens = {token["content"]: token["id"] for token in added}
        if (turn := turn_end(template, tokens, special=_special_tokens(folder))) is not None:
            ids.add(turn)
    return tuple(sorted(ids))


def main() -> None:
    """Print the ids of the folder that is the only argument, within bounds of time and memory."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    print(json.dumps(read_stop_token_ids(Path(sys.argv[1]))))


def _special_tokens(folder: Path) -> dict[str, str]:
    """Names such as ``bos_token``, which templates read, with their texts."""
    config = _read(folder / "tokenizer_config.json")
    named = {name: value for name, value in config.items() if name.endswith("_token")}
    texts = {name: one.get("content") if isinstance(one, dict) else one for name, one in named.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _token_id(tokenizer: JsonObject, token: str) -> int | None:
    for added in tokenizer.get("added_tokens", []):
        if added["content"] == token:
            return added["id"]
    vocabulary = tokenizer.get("model", {}).get("vocab")
    return vocabulary.get(token) if isinstance(vocabulary, dict) else None
