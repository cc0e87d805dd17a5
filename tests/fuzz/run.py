"""One run of schemathesis against a target, and what came of it."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.configuration import configuration
from tests.fuzz.target import Target

REPOSITORY = Path(__file__).parents[2]


@dataclass
class Summary:
    """Figures of a run. ``accepted`` counts the requests that were answered with success, of those to
    operations that can fail; ``output`` is all that schemathesis printed."""

    name: str
    operations: int
    cases: int
    accepted: int
    failures: int
    errors: int
    seconds: float
    exit_code: int
    output: str

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
        config, report = Path(folder) / "schemathesis.toml", Path(folder) / "report.json"
        config.write_text(configuration(target))
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).strip(
                os.pathsep
            ),
            "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
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
    if found is None or found["operations"] is None:
        return Summary(name, 0, 0, 0, 0, 1, 0.0, exit_code, "".join(lines))
    accepted = sum(
        phase["accepted"] for operation in found["valid_rates"].values() for phase in operation.values()
    )
    return Summary(
        name,
        found["operations"]["tested"],
        found["test_cases"]["generated"],
        accepted,
        found["test_cases"]["unique_failures"],
        len(found["errors"]),
        found["running_time"],
        exit_code,
        "".join(lines),
    )
