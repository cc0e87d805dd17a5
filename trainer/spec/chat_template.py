"""A model folder's chat template, read without loading anything."""

import json
import re
from pathlib import Path
from typing import Any, cast

EFFORT = "reasoning_effort"


def chat_template(folder: Path) -> str | None:
    """The chat template, from its own file or the tokenizer's config; of several, the default one.

    None where there is none that can be read.
    """
    try:
        file = folder / "chat_template.jinja"
        if file.is_file():
            return file.read_text()
        found: Any = json.loads((folder / "tokenizer_config.json").read_bytes()).get("chat_template")
    except (OSError, ValueError):
        return None
    if isinstance(found, list):
        named = cast(list[dict[str, Any]], found)
        return next((one["template"] for one in named if one.get("name") == "default"), None)
    return found


def knows_developer(template: str | None) -> bool:
    """Whether the template has a place for messages of the role ``developer``."""
    return re.search(r"""['"]developer['"]""", template or "") is not None


def effort_switch(template: str) -> str | None:
    """The variable of a chat template that sets how, or whether, the model thinks; None if there is none.

    ``reasoning_effort`` takes a word (gpt-oss), the others take true or false (Qwen 3, SmolLM3; DeepSeek,
    Granite). The word ``thinking`` occurs in many templates: only a condition on it is a switch.
    """
    for name in (EFFORT, "enable_thinking"):
        if re.search(rf"\b{name}\b", template):
            return name
    condition = r"\{%-?\s*(?:el)?if\b[^%]*?(?<![.'\"\w])thinking\b(?!['\"\w])"
    return "thinking" if re.search(condition, template) else None
