"""One run of schemathesis against a target, and what came of it."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.configuration import configuration
from tests.fuzz.target import Target

REPOSITORY = Path(__file__).parents[2]


@dataclass
class Summary:
    """Figures of a run. ``cases`` are the requests whose answers were checked; ``accepted`` counts those that
    were answered with success, of those to operations that can fail; ``output`` is what it printed."""

    name: str
    operations: int
    cases: int
    accepted: int
    failures: int
    errors: int
    seconds: float
    exit_code: int
    output: str
    answers: dict[str, dict[str, int]] = field(default_factory=dict)
    """How often each operation answered with each class of status, such as 2xx."""

    @property
    def failed(self) -> bool:
        return bool(self.failures or self.errors or self.exit_code)

    def row(self) -> str:
        """A row of the table that ``make fuzz`` prints."""
        figures = (f"{self.cases:,}", f"{self.accepted:,}", str(self.failures + self.errors))
        return f"| {self.name} | {self.operations} | {' | '.join(figures)} | {self.seconds:.0f} |"


def fuzz(
    target: Target, name: str, *, cases: int, seed: int, options: tuple[str, ...] = (), quiet: bool = False
) -> Summary:
    """Run every check of schemathesis, and ours, on every operation."""
    with tempfile.TemporaryDirectory(prefix="schemathesis-") as folder:
        config, report, answers = (
            Path(folder) / name for name in ("schemathesis.toml", "report.json", "answers.json")
        )
        config.write_text(configuration(target))
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).strip(
                os.pathsep
            ),
            "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
            "FUZZ_ANSWERS": str(answers),
            "FUZZ_IDS": json.dumps({"read": target.ids, "removed": target.doomed}),
        }
        command = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
            *("run", f"{target.url}/openapi.json", "--max-examples", str(cases), "--seed", str(seed)),
            *("--report-json-path", str(report), "--no-color", *options),
        ]
        # In a folder of its own: it would read settings from where it is started.
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if not quiet:
                    print(line, end="", flush=True)
        exit_code = process.returncode
        found = json.loads(report.read_text()) if report.exists() else None
        answered = json.loads(answers.read_text()) if answers.exists() else {}
    if found is None or found["operations"] is None:
        return Summary(name, 0, 0, 0, 0, 1, 0.0, exit_code, "".join(lines))
    accepted = sum(
        phase["accepted"] for operation in found["valid_rates"].values() for phase in operation.values()
    )
    return Summary(
        name,
        found["operations"]["tested"],
        found["test_cases"]["generated"] - found["test_cases"]["without_checks"],
        accepted,
        found["test_cases"]["unique_failures"],
        len(found["errors"]),
        found["running_time"],
        exit_code,
        "".join(lines),
        answered,
    )


def answers_table(summaries: list[Summary]) -> list[str]:
    """Lines of a table: what each operation answered, over all runs."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in summaries:
        for operation, answers in one.answers.items():
            counts[operation].update(answers)
    classes = sorted({name for counted in counts.values() for name in counted})
    lines = [f"| operation | cases | {' | '.join(classes)} |", "|---" * (len(classes) + 2) + "|"]
    for operation, counted in sorted(counts.items(), key=lambda item: item[0].split()[::-1]):
        figures = (f"{counted.total():,}", *(f"{counted[name]:,}" for name in classes))
        lines.append(f"| `{operation}` | {' | '.join(figures)} |")
    return lines
