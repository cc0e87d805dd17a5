"""What a model, a data row or a job may say so that a library runs it: ``python -m tests.attack.payloads``.

Each payload writes a file of the host, copies a variable of the environment there, connects to a port of this
machine or starts a process, as soon as a library evaluates it. What it did is seen from outside. The order is
drawn from ``--seed``.
"""

import argparse
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.attack.attempt import Attempt
from trainer.errors import InvalidSpec
from trainer.graders.build import build_grader
from trainer.graders.grade import Grader, Sample
from trainer.graders.spec import EnvironmentGrader, MathVerifyGrader, PythonGrader
from trainer.sandbox.tasks import tasks

SECRET = "POLICYSPLIT_ATTACK_SECRET"
#: How an answer must look so that the task's own scorer evaluates ``{payload}``.
WAYS_IN = {
    "string_insertion": "[str({payload})]",
    "spiral_matrix": "[{payload}]",
    "binary_matrix": "[[{payload}]]",
    "n_queens": "[[str({payload})]]",
    "number_sorting": "[{payload}]",
    "countdown": "{payload}",
    "puzzle24": "{payload}",
    "polynomial_multiplication": "{payload}",
    "simple_integration": "{payload}",
    "intermediate_integration": "{payload}",
}
#: What a scorer reads of a row, beside the answer.
METADATA = {
    "valid_answers": ["Q"],
    "variable": "x",
    "integrand": "2*x",
    "numbers": [1, 2],
    "target": 3,
    "direction": "ascending",
}
_GRADE = "\ndef grade(sample, item):\n    return float(bool(eval({payload!r}) or 1))\n"


@dataclass(frozen=True)
class Traps:
    """Where a payload would be noticed."""

    folder: Path
    listener: socket.socket

    def payloads(self) -> dict[str, str]:
        """By what it does: an expression in Python that does it, through a library's parser, too."""
        path, port = str(self.folder / "written"), self.listener.getsockname()[1]
        programs = {
            "writes a file": f"open('{path}', 'w').write('x')",
            "reads a variable": f"open('{path}', 'w').write(__import__('os').environ['{SECRET}'])",
            "opens a socket": f"__import__('socket').create_connection(('127.0.0.1', {port}), 1)",
            "starts a process": f"__import__('os').system('touch {path}')",
        }
        return {name: f'eval("{program}")' for name, program in programs.items()}

    def sprung(self) -> str | None:
        """What a payload did, since this was asked last."""
        done = [path.name for path in self.folder.iterdir()]
        for name in done:
            (self.folder / name).unlink()
        try:
            self.listener.accept()[0].close()
        except BlockingIOError:
            return f"wrote {done[0]}" if done else None
        return "connected"


@contextmanager
def traps() -> Iterator[Traps]:
    """A folder and a port that nobody else uses, and a secret in the environment."""
    os.environ[SECRET] = "sk-secret"
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        try:
            yield Traps(Path(folder), listener)
        finally:
            del os.environ[SECRET]


def attempts(seed: int, families: tuple[str, ...] = tuple(WAYS_IN)) -> Iterator[Attempt]:
    """Every payload on every way in: a response, a row, a reference, a source, a job's parameters."""
    order = random.Random(seed)
    with traps() as set_:
        for task in order.sample(families, len(families)):
            grader = build_grader(EnvironmentGrader(task=task), workers=1)
            yield from on_grader(set_, task, grader, samples(set_, task))
        grader = build_grader(MathVerifyGrader(), workers=1)
        yield from on_grader(set_, "math_verify", grader, _mathematics(set_))
        for what, payload in set_.payloads().items():
            grader = build_grader(PythonGrader(source=_GRADE.format(payload=payload)), workers=1)
            yield from on_grader(set_, "python", grader, {f"{what}, in a source": Sample({}, "")})
        yield from parameters(set_)


def samples(set_: Traps, task: str) -> dict[str, Sample]:
    found = {}
    for what, payload in set_.payloads().items():
        text = WAYS_IN[task].format(payload=payload)
        places = dict.fromkeys(METADATA, text)
        found[f"{what}, in a response"] = Sample({"answer": "x", "metadata": METADATA}, text)
        found[f"{what}, in a row's answer"] = Sample({"answer": text, "metadata": METADATA}, "[1]")
        found[f"{what}, in a row's metadata"] = Sample({"answer": "x", "metadata": places}, "x")
    return found


def _mathematics(set_: Traps) -> dict[str, Sample]:
    found = {}
    for what, payload in set_.payloads().items():
        for form in ("\\boxed{{{}}}", "${}$", "{}"):
            text = form.format(payload)
            found[f"{what}, in a response as {form.format('…')}"] = Sample({"answer": "1"}, text)
            found[f"{what}, in a reference as {form.format('…')}"] = Sample({"answer": text}, "1")
    return found


def on_grader(set_: Traps, kind: str, grader: Grader, samples: dict[str, Sample]) -> Iterator[Attempt]:
    try:
        for name, sample in samples.items():
            (grade,) = grader.grade_many([sample])
            done = set_.sprung()
            seen = f"error: {grade.error}" if grade.reward is None else f"reward {grade.reward:g}"
            yield Attempt(kind, name, done is None, done or seen[:100])
    finally:
        grader.close()


def parameters(set_: Traps) -> Iterator[Attempt]:
    """A job's parameters: payloads as values, and files of the host."""
    values: dict[str, dict[str, Any]] = {
        f"{what}, in a parameter": {"min_terms": payload} for what, payload in set_.payloads().items()
    }
    for name, given in values.items():
        problem = tasks().problem_of("chain_sum", given)
        done = set_.sprung()
        yield Attempt("chain_sum", name, done is None and bool(problem), done or str(problem.get("message")))
    problem = tasks().problem_of("spell_backward", {"data_file": "/etc/passwd"})
    yield Attempt(
        "spell_backward", "reads a file, in a parameter", problem.get("file") is True, problem["message"]
    )
    try:
        build_grader(
            EnvironmentGrader(task="spell_backward", parameters={"data_file": "/etc/passwd"})
        ).close()
    except InvalidSpec as error:
        yield Attempt("spell_backward", "reads a file, in a grader", True, str(error)[:100])
    else:
        yield Attempt("spell_backward", "reads a file, in a grader", False, "it was built")


def main() -> int:
    """Print the table; 1 when something got through."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    table = Table("kind", "attempt", "held", "seen")
    got_through = 0
    for attempt in attempts(parser.parse_args().seed):
        table.add_row(attempt.kind, attempt.name, "yes" if attempt.held else "NO", attempt.seen)
        got_through += not attempt.held
    Console(width=160).print(table)
    return min(got_through, 1)


if __name__ == "__main__":
    raise SystemExit(main())
