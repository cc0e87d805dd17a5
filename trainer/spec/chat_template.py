"""A model folder's chat template, read without loading anything."""

import json
import re
from pathlib import Path
from typing import Any, cast


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
