"""Asking both modes of the finished model the same questions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from app.cli.demo.rows import Row
from app.cli.demo.task import Task
from app.cli.follow import MODES

if TYPE_CHECKING:
    import openai

QUESTIONS = 3


def ask_both_modes(client: "openai.OpenAI", task: Task, model: str, items: Sequence[Row], seed: int) -> Table:
    """Several samples of each mode to the same questions, side by side."""
    tokens = task.job_body()["method"]["reinforcement"]["rollout"]["max_response_tokens"]
    table = Table("question", *(f"[{style}]{name}[/]" for name, style in MODES.values()), show_lines=True)
    for item in items[:QUESTIONS]:
        cells = []
        for name, _ in MODES.values():
            answer = client.chat.completions.create(
                model=model if name == "normal" else f"{model}:{name}",
                messages=item["messages"],
                n=task.samples,
                seed=seed,
                temperature=1.0,
                max_tokens=tokens,
            )
            cells.append(folded(task, item, [choice.message.content or "" for choice in answer.choices]))
        table.add_row(escape(item["messages"][-1]["content"]), *cells)
    return table


def folded(task: Task, item: Row, texts: Sequence[str]) -> str:
    """Equal answers once with their count, right ones first and marked, each as it was first worded."""
    shown: dict[tuple[bool, str], list[str]] = {}
    for text in texts:
        right, answer = task.judge(item, text)
        # What has no answer is the same as its own words alone.
        shown.setdefault((right, answer if answer is not None else text), []).append(" ".join(text.split()))
    ordered = sorted(shown.items(), key=lambda one: (not one[0][0], -len(one[1])))
    lines = [_line(right, same) for (right, _), same in ordered]
    if (answers := sum(right for right, _ in shown)) > 1:
        lines.append(f"[bold]{answers} different right answers in {len(texts)}[/]")
    return "\n".join(lines)


def _line(right: bool, same: Sequence[str]) -> str:
    count = f"{len(same)} × " if len(same) > 1 else ""
    return f"{'[green]✓[/]' if right else '[red]✗[/]'} {count}{escape(same[0])}"
