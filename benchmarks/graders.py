"""Gradings per second of every local grader: ``python -m benchmarks.graders``.

Each grades the same samples in batches, as a training step does; the start of sandboxes and scorers is not
counted. The responses have about 60 words.
"""

import argparse
import time
from typing import Any

from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from trainer.graders.build import build_grader
from trainer.graders.grade import Sample
from trainer.graders.spec import Grader, TextMetric

RESPONSE = (
    "To add the numbers, first add the tens, which makes fifty, and then the units, which make seven. So the "
    "sum of the two is fifty-seven, as one can check by taking one of them away again. It is always good to "
    "check a result, and here the check agrees with what was found. The answer is \\boxed{{{}}}."
)
TEXTS = {"input": "{{sample.output_text}}", "reference": "{{item.answer}}"}
METRICS: list[TextMetric] = ["fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_5", "rouge_l"]
PYTHON = """
import json, re
def grade(sample, item):
    found = re.findall(r"boxed\\{(-?\\d+)\\}", sample["output_text"])
    return float(bool(found) and found[-1] == item["number"])
"""
EXACT = {"type": "string_check", "operation": "like", **TEXTS, "reference": "{{item.number}}"}


def definitions() -> list[tuple[str, dict[str, Any], int]]:
    """Name, definition, and how many samples for every second of measuring."""
    alike = {"type": "text_similarity", **TEXTS}
    return [
        ("string_check", EXACT, 200_000),
        *((f"text_similarity {m}", alike | {"evaluation_metric": m}, 2_000) for m in METRICS),
        (
            "multi of two string_check",
            {"type": "multi", "graders": {"a": EXACT, "b": EXACT}, "calculate_output": "0.5 * a + 0.5 * b"},
            50_000,
        ),
        ("python", {"type": "python", "source": PYTHON}, 600),
        ("math_verify", {"type": "math_verify", "reference": "{{item.number}}"}, 300),
        (
            "environment chain_sum",
            {"type": "environment", "task": "chain_sum", "extract": "last_number"},
            5_000,
        ),
    ]


def measure(definition: dict[str, Any], count: int, seconds: float) -> tuple[float, float]:
    """Gradings per second, and seconds to start."""
    spec = TypeAdapter(Grader).validate_python(definition)
    samples = [
        Sample(
            {"number": str(n % 7), "answer": RESPONSE.format(n % 7), "metadata": {}}, RESPONSE.format(n % 5)
        )
        for n in range(count)
    ]
    started = time.perf_counter()
    grader = build_grader(spec)
    ready = time.perf_counter()
    try:
        graded, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            grades = grader.grade_many(samples)
            assert all(grade.reward is not None for grade in grades), grades[0]
            graded += count
        return graded / (time.perf_counter() - began), ready - started
    finally:
        grader.close()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="measuring time of each grader")
    options = parser.parse_args()
    table = Table("grader", "gradings/s", "start, s")
    for name, definition, count in definitions():
        rate, start = measure(definition, count, options.seconds)
        table.add_row(name, f"{rate:,.0f}", f"{start:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
