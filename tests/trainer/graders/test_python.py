"""Python from strangers: what it can do in the sandbox, what it cannot, and that one grading is one."""

import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from trainer.errors import InvalidSpec
from trainer.graders.grade import Grade, Grader, Sample
from trainer.graders.python import python
from trainer.graders.spec import PythonGrader
from trainer.sandbox import sandbox

Run = Callable[..., Grade]


@pytest.fixture
def build() -> Iterator[Callable[..., Grader]]:
    """Graders that are closed after the test."""
    built: list[Grader] = []

    def make(source: str, sandboxes: int = 1, **options) -> Grader:
        built.append(python(PythonGrader(source=source, **options), sandboxes))
        return built[-1]

    yield make
    for grader in built:
        grader.close()


@pytest.fixture
def run(build: Callable[..., Grader]) -> Run:
    """The grade of one response to the body of ``grade(sample, item)``."""

    def run_body(body: str, *, before: str = "", text: str = "text", item: dict | None = None, **options):
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        return build(f"{before}\ndef grade(sample, item):\n{lines}", **options)(item or {}, text)

    return run_body


def test_it_sees_sample_and_item_as_hosted(run: Run):
    body = """assert sample["output_text"] == '{"x": [1]}' and sample["output_json"] == {"x": [1]}
assert sample["choices"][0]["message"]["content"] == sample["output_text"] and sample["output_tools"] == []
return item["deep"]["list"][1]"""
    assert run(body, text='{"x": [1]}', item={"deep": {"list": [0, 0.25]}}).reward == 0.25
    assert run("return sample['output_json'] is None").reward == 1.0


@pytest.mark.parametrize(
    ("value", "reward"), [("1", 1.0), ("True", 1.0), ("0.25", 0.25), ("-3", -3.0), ("np.float32(0.5)", 0.5)]
)
def test_numbers_are_rewards(run: Run, value: str, reward: float):
    """Any number: a formula may stand around it. A job's reward has to be from 0 to 1 in the end."""
    before = "import numpy as np" if "np." in value else ""
    assert run(f"return {value}", before=before).reward == reward


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return None", "returned a NoneType; it should return a float"),
        ("pass", "returned a NoneType"),
        ("return '0.5'", "returned a str"),
        ("return [1.0]", "returned a list"),
        ("return float('nan')", "returned nan"),
        ("return float('-inf')", "returned -inf"),
        ("return 10 ** 400", "not a float: OverflowError"),
        ("return 1j", "returned a complex"),
        ("class Odd:\n  def __float__(self): raise ValueError('odd')\nreturn Odd()", "ValueError: odd"),
        ("return item['missing']", "KeyError: 'missing' (line 3)"),
        ("raise SystemExit(0)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("return grade(sample, item)", "RecursionError"),
        ("import os; os._exit(0)", "exited with code 0 before grade() returned"),
        ("import ctypes; ctypes.string_at(0)", "ended by signal 11"),
        ("raise ValueError('x' * 10**7)", "ValueError: xxx"),
    ],
)
def test_what_is_no_number_is_an_error(run: Run, body: str, says: str):
    grade = run(body)
    assert (grade.reward, grade.kind) == (None, "python_grader_runtime_error")
    assert grade.error is not None and says in grade.error and len(grade.error) < 4000


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("import os; os.fork()", "PermissionError"),
        ("import subprocess; subprocess.run(['/bin/true'])", "PermissionError"),
        ("import multiprocessing as m; m.Process(target=print).start()", "PermissionError"),
        ("while True: import os; os.fork()", "PermissionError"),
        ("import os; os.kill(1, 9)", "PermissionError"),
        ("import os; os.kill(-1, 9)", "PermissionError"),
        ("import socket; socket.create_connection(('127.0.0.1', 80), 1)", "PermissionError"),
        ("import socket; socket.socket(socket.AF_UNIX)", "PermissionError"),
        ("import socket; socket.socket(40, socket.SOCK_STREAM)", "PermissionError"),
        ("import urllib.request as u; u.urlopen('http://example.com', timeout=1)", "URLError"),
        ("open('/etc/passwd')", "FileNotFoundError"),
        ("open('/proc/1/environ')", "FileNotFoundError"),
        ("open('/new', 'w')", "Read-only file system"),
        ("open(__import__('json').__file__, 'a')", "Read-only file system"),
        ("bytearray(10**10)", "MemoryError"),
        ("x = []\nwhile True: x.append('a' * 10**6)", "MemoryError"),
        ("f = open('/tmp/big', 'w')\nwhile True: f.write('x' * 10**6)", "File too large"),
        ("for n in range(99): open(f'/tmp/{n}', 'w').write('x' * (8 << 20))", "No space left"),
        ("keep = []\nwhile True: keep.append(open('/dev/null'))", "Too many open files"),
        (
            "import threading, time\n"
            "while True: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
            "can't start new thread",
        ),
        ("import resource as r; r.setrlimit(r.RLIMIT_AS, (1 << 40, 1 << 40))", "ValueError"),
        (
            "import ctypes; c = ctypes.CDLL(None, use_errno=True)\n"
            "if c.unshare(0x10000000): raise OSError(ctypes.get_errno(), 'no namespaces')",
            "PermissionError",
        ),
        (
            "import ctypes; c = ctypes.CDLL(None, use_errno=True)\n"
            "if c.ptrace(16, 1, 0, 0): raise OSError(ctypes.get_errno(), 'no tracing')",
            "PermissionError",
        ),
    ],
)
def test_what_it_may_not_do_is_an_error(run: Run, body: str, says: str):
    grade = run(body, memory_mb=256)
    assert grade.reward is None
    assert grade.error is not None and says in grade.error


@pytest.mark.parametrize(
    "body", ["while True: pass", "import time; time.sleep(1000)", "'a' * 10**6 in 'b'; 9**9**9"]
)
def test_what_hangs_is_killed(run: Run, body: str):
    started = time.monotonic()
    grade = run(body, timeout_seconds=0.5)
    assert grade.error == "grade() took longer than 0.5 s and was killed"
    assert time.monotonic() - started < 20


def test_a_regex_bomb_is_killed(run: Run):
    assert "killed" in (
        run("return bool(re.match('(a+)+$', 'a' * 40 + 'b'))", before="import re", timeout_seconds=0.5).error
        or ""
    )


def test_it_prints_to_nowhere(run: Run, capfd: pytest.CaptureFixture[str]):
    body = "import sys\nfor _ in range(20): print('x' * 10**6); sys.stderr.write('y' * 10**6)\nreturn 0.5"
    assert run(body).reward == 0.5
    assert capfd.readouterr() == ("", "")


def test_nothing_of_the_host_is_to_be_seen(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    folder = Path(__file__).resolve().parents[3]
    body = f"""import os
seen = {{name: sorted(os.listdir(name)) for name in ("/", "/dev", "/tmp", "/etc")}}
assert seen["/dev"] == ["null", "urandom"] and seen["/tmp"] == [], seen
assert seen["/etc"] in ([], ["ld.so.cache"]) and not {{"home", "proc", "var", "sys"}} & set(seen["/"]), seen
assert not os.path.exists({str(folder)!r}) and os.getpid() < 10
assert "sk-secret" not in str(os.environ)
assert os.nice(0) > 0, "whoever waits for the service goes first"
return 1"""
    assert run(body) == Grade(1.0, {"python": 1.0})


@pytest.mark.parametrize("package", ["numpy", "rapidfuzz", "sympy", "regex", "yaml"])
def test_packages_that_are_offered(run: Run, package: str):
    assert run(f"return float(bool({package}.__name__))", before=f"import {package}").reward == 1.0


@pytest.mark.parametrize(
    "body", ["import torch", "if item:\n  from torch.nn import functional", "import requests, os"]
)
def test_an_import_that_a_sandbox_does_not_have_is_refused_beforehand(run: Run, body: str):
    """Not found out when the job has waited and its model is loaded; and it says what there is."""
    with pytest.raises(
        InvalidSpec, match=r"imports \w+, which a sandbox does not have.*numpy.*sympy"
    ) as caught:
        run(body)
    assert caught.value.param == "grader.source"


def test_an_import_that_the_source_can_do_without_is_its_own_affair(run: Run):
    before = "try:\n    import torch\nexcept ImportError:\n    torch = None"
    assert run("return torch is None", before=before).reward == 1.0


@pytest.mark.parametrize(
    ("body", "says"),
    [
        # More threads than the address space would forbid, were they not forbidden themselves.
        (
            "import threading, time; threading.stack_size(32768)\n"
            "while True: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
            "can't start new thread",
        ),
        ("for n in range(10**6): open(f'/tmp/{n}', 'w').close()", "No space left"),
        ("import os\nfor n in range(10**6): os.mkdir(f'/tmp/{n}')", "No space left"),
        ("import os\nfor n in range(10**6): os.symlink('x' * 4000, f'/tmp/{n}')", "No space left"),
        (
            "import ctypes\nif ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None): raise OSError()",
            "OSError",
        ),
    ],
)
def test_a_bomb_stays_inside(run: Run, body: str, says: str):
    started = len(psutil.pids())
    grade = run(body, memory_mb=2048)
    assert grade.reward is None and grade.error is not None and says in grade.error
    assert len(psutil.pids()) < started + 100


def test_what_is_imported_is_imported_under_limits(build: Callable[..., Grader]):
    """At a source's top: the process that does so for all gradings has a filter and limits, too."""
    grader = build("import numpy\ndef grade(sample, item):\n    return 1")
    (sandbox_,) = sandbox_processes()
    (first,) = sandbox_.children()
    status = Path(f"/proc/{first.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["Seccomp"] == "2" and int(fields["Seccomp_filters"]) >= 1 and fields["NoNewPrivs"] == "1"
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
    limits = Path(f"/proc/{first.pid}/limits").read_text()
    assert "unlimited" not in next(
        line for line in limits.splitlines() if line.startswith("Max address space")
    )
    assert grader({}, "").reward == 1.0


def test_one_grading_leaves_nothing_to_the_next(build: Callable[..., Grader]):
    """Not in the interpreter, not on its disk, not as a thread; also what the response itself does."""
    source = """
import builtins, json, os
seen = []
def grade(sample, item):
    assert not seen and not hasattr(builtins, "poison") and json.dumps({}) == "{}" and not os.listdir("/tmp")
    seen.append(1)
    exec(sample["output_text"])
    return 1
"""
    hostile = [
        "import builtins; builtins.poison = 1",
        "json.dumps = lambda value: 'poisoned'",
        "open('/tmp/poison', 'w').write('x')",
        "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
        "import os; os.closerange(0, 64)",
        "import os; os._exit(1)",
        "import signal, os; signal.raise_signal(9)",
    ]
    grader = build(source)
    samples = [Sample({}, text) for bad in hostile for text in (bad, "pass")]
    grades = grader.grade_many(samples * 3)
    assert [grade.reward for grade in grades[1::2]] == [1.0] * (3 * len(hostile))


def test_the_order_is_kept_and_progress_is_told(build: Callable[..., Grader]):
    source = (
        "import time\ndef grade(sample, item):\n    time.sleep(item['wait'])\n    return item['number'] / 10"
    )
    grader = build(source, sandboxes=2)
    beats: list[float] = []
    samples = [Sample({"wait": 1.5 if n == 0 else 0, "number": n}, "") for n in range(10)]
    grades = grader.grade_many(samples, lambda: beats.append(time.monotonic()))
    assert [grade.reward for grade in grades] == [n / 10 for n in range(10)]
    assert beats


def test_a_sandbox_that_was_killed_while_it_waited_is_replaced(build: Callable[..., Grader]):
    grader = build("def grade(sample, item):\n    return 1")
    assert grader({}, "").reward == 1.0
    (victim,) = sandbox_processes()
    victim.kill()
    victim.wait()
    assert [grader({}, "").reward for _ in range(3)] == [1.0] * 3


def test_closing_ends_everything(build: Callable[..., Grader]):
    grader = build("def grade(sample, item):\n    return 1", sandboxes=2)
    assert len(sandbox_processes()) == 2
    below = [one for process in sandbox_processes() for one in process.children(recursive=True)]
    grader.close()
    assert sandbox_processes() == []
    psutil.wait_procs(below, timeout=10)
    assert not [one for one in below if one.is_running()]


def test_nothing_outlives_an_owner_that_was_killed():
    """Not even what hangs: sandboxes and scorers end with kill -9 of the trainer."""
    code = """
from trainer.graders.build import build_grader
from trainer.graders.grade import Sample
from trainer.graders.spec import MathVerifyGrader, PythonGrader
hanging = PythonGrader(source="def grade(sample, item):\\n    while True: pass", timeout_seconds=100)
scorer, grader = build_grader(MathVerifyGrader(), workers=1), build_grader(hanging, workers=2)
print("ready", flush=True)
grader.grade_many([Sample({}, "")] * 2)
"""
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None and owner.stdout.readline() == "ready\n"
        below = psutil.Process(owner.pid).children(recursive=True)
        assert len([one for one in below if one.name() == "bwrap"]) == 3 and len(below) >= 6
    finally:
        owner.kill()
        owner.communicate()
    _, alive = psutil.wait_procs(below, timeout=20)
    assert alive == []


_OF_OTHERS: set[int] = set()


@pytest.fixture(autouse=True)
def tell_apart_what_was_there():
    """The process of the tests may have a sandbox already, which checks what a job asks for."""
    _OF_OTHERS.clear()
    _OF_OTHERS.update(one.pid for one in sandbox_processes())


def sandbox_processes() -> list[psutil.Process]:
    below = [one for one in psutil.Process().children() if one.name() == "bwrap"]
    return [one for one in below if one.pid not in _OF_OTHERS]


def test_half_a_surrogate_pair_and_deep_items_come_through(run: Run):
    lone = "\ud800"
    assert run("return sample['output_text'] == item['a']", text=lone, item={"a": lone}).reward == 1.0
    deep: list = []
    for _ in range(500):
        deep = [deep]
    assert run("return 1", item={"a": deep}).reward == 1.0


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def grade(sample, item)\n  return 1", "SyntaxError"),
        ("def grade(sample, item):\n  return " + "(" * 500 + "1" + ")" * 500, "does not load"),
        ("def grade(sample, item):\n  return " + "-" * 100_000 + "1", "does not load"),
        ("def grade(sample, item):\n  return 1\x00", "does not load"),
    ],
)
def test_a_source_that_does_not_compile_is_refused(source: str, says: str):
    with pytest.raises(InvalidSpec, match=says) as caught:
        python(PythonGrader(source=source), 1)
    assert caught.value.param == "grader.source"


def test_without_isolation_it_is_refused_and_never_run_bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A bwrap that cannot isolate, as where user namespaces are forbidden."""
    trace = tmp_path / "ran"
    broken = tmp_path / "bwrap"
    broken.write_text(f"#!/bin/sh\necho $# > {trace}.asked\necho 'bwrap: no permissions' >&2\nexit 1\n")
    broken.chmod(0o755)
    real = sandbox.command(())
    monkeypatch.setattr(sandbox, "command", lambda _packages: [str(broken), *real[1:]])
    sandbox.require_isolation.cache_clear()
    try:
        source = f"open({str(trace)!r}, 'w')\ndef grade(sample, item):\n    return 1"
        with pytest.raises(InvalidSpec, match=r"only runs isolated.*bwrap: no permissions"):
            python(PythonGrader(source=source), 1)
        assert Path(f"{trace}.asked").exists() and not trace.exists()
    finally:
        sandbox.require_isolation.cache_clear()


def test_an_item_that_is_no_json_is_an_error(run: Run):
    grade = run("return 1", item={"a": object()})
    assert grade.reward is None and grade.error is not None and "TypeError" in grade.error
    assert run("return item['a'][1]", item={"a": (0, 1)}).reward == 1.0


def test_a_pool_grades_hundreds_a_second(build: Callable[..., Grader]):
    """300/s and more on two cores of one's own (benchmarks/graders.py); shared, at least a fifth of that."""
    grader = build("def grade(sample, item):\n    return item['n'] % 2", sandboxes=2)
    started = time.perf_counter()
    grades = grader.grade_many([Sample({"n": n}, "text") for n in range(300)])
    assert 300 / (time.perf_counter() - started) > 60
    assert math.isclose(sum(grade.reward or 0 for grade in grades), 150)


ANSWERS = """
def grade(sample, item):
    return float(sample["output_json"]["capital"] == item["capital"])

def answer(sample, item):
    return sample["output_json"]["capital"].strip().lower() or None
"""


def test_what_a_response_answers_is_what_the_source_says(build: Callable[..., Grader]):
    grader = build(ANSWERS)
    assert grader.gives_answers
    texts = ['{"capital": "Paris"}', '{"capital": " PARIS"}', '{"capital": ""}', "no JSON"]
    grades = grader.grade_many([Sample({"capital": "Paris"}, text) for text in texts])
    assert [(grade.reward, grade.answer) for grade in grades] == [
        (1.0, "paris"),
        (0.0, "paris"),
        (0.0, None),
        (None, None),
    ]
    assert not build("def grade(sample, item):\n    return 1").gives_answers


@pytest.mark.parametrize(
    ("body", "answer", "says"),
    [
        ("return 7", "7", None),
        ("return 0.5", "0.5", None),
        ("return True", "True", None),
        ("return None", None, None),
        ("return ['a']", None, "answer() returned a list; it should return a text, or None"),
        ("return sample['nothing']", None, "answer(): KeyError: 'nothing' (line 5)"),
    ],
)
def test_an_answer_is_a_text_or_an_error(
    build: Callable[..., Grader], body: str, answer: str | None, says: str | None
):
    source = f"def grade(sample, item):\n    return 1\n\ndef answer(sample, item):\n    {body}"
    grade = build(source)({}, "")
    assert (grade.answer, grade.error) == (answer, says)
    assert grade.reward == (1.0 if says is None else None)
