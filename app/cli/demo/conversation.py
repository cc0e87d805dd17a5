"""Asking both modes of the finished model the same questions."""

import re
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from app.cli.demo.task import job_body
from app.cli.follow import MODES

if TYPE_CHECKING:
    import openai

QUESTIONS = 3
SAMPLES = 4
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def ask_both_modes(client: "openai.OpenAI", model: str, items: list[dict[str, Any]], seed: int) -> Table:
    """Several samples of each mode to the same questions, side by side; right answers are marked."""
    tokens = job_body()["method"]["reinforcement"]["rollout"]["max_response_tokens"]
    table = Table("question", *(f"[{style}]{name}[/]" for name, style in MODES.values()), show_lines=True)
    for item in items[:QUESTIONS]:
        cells = []
        for name, _ in MODES.values():
            answer = client.chat.completions.create(
                model=model if name == "normal" else f"{model}:{name}",
                messages=item["messages"],
                n=SAMPLES,
                seed=seed,
                temperature=1.0,
                max_tokens=tokens,
            )
            cells.append(
                "\n".join(_marked(choice.message.content, item["answer"]) for choice in answer.choices)
            )
        table.add_row(escape(item["messages"][-1]["content"]), *cells)
    return table


def _marked(text: str | None, expected: str) -> str:
    shown = " ".join((text or "").split())
    numbers = NUMBER.findall(shown)
    right = bool(numbers) and float(numbers[-1]) == float(expected)
    return f"{'[green]✓[/]' if right else '[red]✗[/]'} {escape(shown)}"
