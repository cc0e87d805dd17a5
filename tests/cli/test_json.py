"""``--json``: what a command has changed, for programs, and nothing else on standard output."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from app.cli.main import app
from app.core.settings import get_settings
from tests.fixtures.api import GRADER, Api, jsonl, on_sqlite, sums
from tests.fixtures.fleet import training_worker
from tests.fixtures.service import run_cli

#: They go on until somebody ends them, or show what goes on; a demo is for people.
WITHOUT = {
    *("serve", "api", "worker", "inference"),
    *("chat", "demo", "jobs follow", "experiments follow"),
}


def commands(command: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[str, set[str]]]:
    """Each command with the names of its options."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*names, name))
    if not hasattr(command, "commands"):
        yield " ".join(names), {option for parameter in command.params for option in parameter.opts}


def test_every_command_that_ends_has_it() -> None:
    found = dict(commands(typer.main.get_command(app)))
    assert len(found) > 35
    assert {name for name, options in found.items() if "--json" not in options} == WITHOUT


def told(*words: str, **environment: str) -> Any:
    done = run_cli(*words, "--json", **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@on_sqlite
def test_what_becomes_of_jobs_and_experiments_is_told(api: Api, tmp_path: Path) -> None:
    at = ("--base-url", api.url)
    rows, body, plan = tmp_path / "rows.jsonl", tmp_path / "job.json", tmp_path / "plan.json"
    rows.write_bytes(jsonl(sums(4)))
    method = {"type": "reinforcement", "reinforcement": {"grader": GRADER}}
    body.write_text(json.dumps({"model": api.model, "training_file": str(rows), "method": method}))
    job = told("jobs", "create", "--file", str(body), *at)
    assert job["id"].startswith("ftjob-") and job["training_file"].startswith("file-")
    for verb, status in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        after = told("jobs", verb, job["id"], *at)
        assert (after["id"], after["status"]) == (job["id"], status), verb
    copy = tmp_path / "copy.jsonl"
    wrote = told("files", "download", job["training_file"], "--to", str(copy), *at)
    assert wrote == {"id": job["training_file"], "file": str(copy), "bytes": copy.stat().st_size}

    task = {"name": "sums", "environment": {"type": "environment", "task": "chain_sum"}}
    definition = {"name": "x", "model": api.model, "reinforcement": {"grader": GRADER}}
    definition |= {"arms": ["policy_split", "grpo"], "tasks": [task], "seeds": [0], "budget": {"steps": 1}}
    plan.write_text(json.dumps(definition))
    experiment = told("experiments", "run", str(plan), *at)
    assert experiment["progress"]["runs"] == 2
    assert told("experiments", "extend", experiment["id"], "--seeds", "1,2", *at)["progress"]["runs"] == 6
    assert told("experiments", "cancel", experiment["id"], *at)["status"] == "cancelled"
    assert "claims" in told("experiments", "report", experiment["id"], *at)
    worker = training_worker()
    seen = told("workers", "list", *at)
    assert [one["id"] for one in seen["workers"]] == [worker] and seen["queue"]["slots"] == 2
    for verb, status in (("drain", "draining"), ("undrain", "online")):
        assert told("workers", verb, worker, *at)["status"] == status
    refused = run_cli("jobs", "pause", "ftjob-none", "--json", *at)
    assert (refused.returncode, refused.stdout) == (1, "") and "ftjob-none" in refused.stderr


def test_what_becomes_of_keys_and_the_data_directory_is_told(tmp_path: Path) -> None:
    data = tmp_path / "data"
    where = ("--data-dir", str(data))
    assert "policysplit.db" in told("migrate", POLICYSPLIT_DATA_DIR=str(data))["database"]
    project = told("projects", "create", "Team [bold]", *where)
    assert (project["object"], project["name"]) == ("project", "Team [bold]")
    key = told("keys", "create", "--name", "ci", "--project", project["id"], "--operator", *where)
    assert len(key["secret"]) == 46 and (key["project_id"], key["operator"]) == (project["id"], True)
    (listed,) = told("keys", "list", *where)
    assert listed == {name: value for name, value in key.items() if name != "secret"}
    assert told("keys", "revoke", key["id"], *where)["revoked_at"] is not None
    archive = tmp_path / "copy.tar"
    kept = told("backup", str(archive), *where)
    told_of = {"file": str(archive), "bytes": kept["bytes"], "missing": [], "not_in_it": None}
    assert kept == told_of and kept["bytes"] > 0
    back = told("restore", str(archive), "--data-dir", str(tmp_path / "back"))
    assert back["data_dir"] == str(tmp_path / "back")
    shown = told("settings", POLICYSPLIT_HOST="127.0.0.2")
    assert shown["POLICYSPLIT_HOST"] == "127.0.0.2"


@on_sqlite
def test_what_is_fetched_is_told(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    (get_settings().models_dir / "tiny" / "policysplit-source.json").write_text('{"license": "mit"}')
    where = ("--data-dir", str(api.folder))
    (api.folder / "models" / "team").mkdir()
    (api.folder / "models" / "tiny").rename(api.folder / "models" / "team" / "tiny")
    model = told("models", "pull", "team/tiny", *where)
    assert (model["name"], model["already"], model["license"]) == ("team/tiny", True, "mit")
