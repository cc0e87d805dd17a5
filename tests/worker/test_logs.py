"""``POLICYSPLIT_LOG_FORMAT=json``: lines are objects, and say what they are about, in every part."""

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import httpx
import pytest

from app.core.tables import DEFAULT_PROJECT
from tests.fixtures.api import Api, jsonl, on_sqlite, sums
from tests.fixtures.service import cli_environment
from tests.fixtures.workers import Service
from trainer.system import logs
from worker.jobs import supervisor
from worker.shutdown import Shutdown

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """What this process has written so far, as objects."""
    monkeypatch.setenv(logs.FORMAT, "json")
    written = StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logs.formatter(process="test"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    root.removeHandler(handler)
    root.setLevel(level)


def test_what_a_line_is_about_goes_into_threads_and_children_and_ends_with_the_work(lines: Lines) -> None:
    log = logging.getLogger("some.where")
    with logs.about(job="j"):
        logs.note(project="p")
        with logs.about(attempt=2):
            thread = threading.Thread(target=logs.carried(lambda: log.warning("in %s", "a thread")))
            thread.start()
            thread.join()
            child = logs.environment()
        log.info("after")
    log.info("elsewhere")
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        log.exception("failed")
    inside, after, elsewhere, failed = lines()
    assert (inside["message"], inside["level"], inside["logger"]) == ("in a thread", "warning", "some.where")
    assert {"job": "j", "project": "p", "attempt": "2", "process": "test"}.items() <= inside.items()
    assert "attempt" not in after and after["project"] == "p"
    assert "job" not in elsewhere
    assert "ValueError: broken\nin two" in failed["exception"], "one line, whatever is in it"
    assert json.loads(child[logs.FIELDS]) == {"job": "j", "project": "p", "attempt": "2"}


@on_sqlite
def test_the_api_names_request_and_project(api: Api, lines: Lines) -> None:
    (api.folder / "files").write_text("")  # where a folder should be
    answer = httpx.post(
        f"{api.url}/v1/files",
        headers={"x-request-id": "mine-7"},
        data={"purpose": "fine-tune"},
        files={"file": ("a.jsonl", jsonl(sums(1)))},
    )
    assert answer.status_code == 500
    (failed,) = (line for line in lines() if "exception" in line)
    assert (failed["request"], failed["project"]) == ("mine-7", DEFAULT_PROJECT)


def test_a_worker_names_project_job_and_attempt_and_its_trainer_does_too(
    local_service: Service, lines: Lines
) -> None:
    local_service.script(default={"print_environment": [logs.FORMAT, logs.FIELDS]})
    job = local_service.add_job()
    assert supervisor.run_next("me", Shutdown()) == "succeeded"
    (ended,) = (line for line in lines() if "succeeded" in line["message"])
    about = {"job": job, "attempt": "1", "project": DEFAULT_PROJECT}
    assert about.items() <= ended.items()
    log = (local_service.run_dir(job) / "trainer-1.log").read_text()
    told = json.loads(log.splitlines()[0])
    assert (told[logs.FORMAT], json.loads(told[logs.FIELDS])) == ("json", about)


def test_a_trainer_and_an_api_write_objects(tmp_path: Any) -> None:
    """By their own configuration, as processes: a trainer without a spec, and uvicorn's for the API."""
    given = {logs.FORMAT: "json", logs.FIELDS: json.dumps({"job": "ftjob-1", "attempt": "3"})}
    command = [sys.executable, "-P", "-m", "trainer", "--spec", "none", "--run-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **given})
    (line,) = (json.loads(one) for one in done.stderr.splitlines())
    assert (line["process"], line["job"], line["attempt"]) == ("trainer", "ftjob-1", "3")
    code = (
        "import json, logging, logging.config; from pathlib import Path;"
        "logging.config.dictConfig(json.loads(Path('app/cli/api_logging.json').read_text()));"
        "logging.getLogger('app').warning('a warning')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=cli_environment(**given)
    )
    assert json.loads(done.stderr)["process"] == "api"
