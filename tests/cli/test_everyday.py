"""Commands for every day: where the service is, which files there are, what is wrong with one."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import openai
import pytest

from app.cli.listing import size, when
from app.core.settings import get_settings
from app.core.tables import DEFAULT_PROJECT
from app.keys.service import create_key, create_project
from docs.site.reference import commands
from tests.fixtures.api import GRADER, Api, create_job, jsonl, on_sqlite, sums
from tests.fixtures.belongings import new_experiment
from tests.fixtures.fleet import training_worker
from tests.fixtures.service import cli_environment, run_cli

ROOT = Path(__file__).parents[2]


def test_the_version_is_that_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert run_cli("--version").stdout.strip() == version


@on_sqlite
@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_the_address_is_taken_with_v1_or_without(api: Api, suffix: str) -> None:
    listed = run_cli("files", "list", "--json", "--base-url", f"{api.url}{suffix}")
    assert (listed.returncode, json.loads(listed.stdout)) == (0, []), listed.stderr


@on_sqlite
def test_files_are_uploaded_listed_and_deleted_and_no_id_is_cut(api: Api, tmp_path: Path) -> None:
    at = ("--base-url", api.url)
    file = tmp_path / "train.jsonl"
    file.write_bytes(jsonl(sums(8)))
    made = json.loads(run_cli("files", "upload", str(file), "--json", *at).stdout)
    listed = run_cli("files", "list", *at, COLUMNS="20").stdout.splitlines()
    assert listed[0].split() == ["file", "name", "size", "rows", "purpose", "uploaded"]
    assert re.fullmatch(rf"{made['id']} +train\.jsonl +\d+ B +8 +fine-tune +just now", listed[1].strip())
    items = tmp_path / "items.jsonl"
    items.write_bytes(jsonl([{"item": row} for row in sums(2)]))
    made_of_items = json.loads(run_cli("files", "upload", str(items), "--evals", "--json", *at).stdout)
    assert (made_of_items["purpose"], made_of_items["rows"]) == ("evals", 2)
    target = tmp_path / "copy.jsonl"
    assert run_cli("files", "download", made["id"], "--to", str(target), *at).returncode == 0
    assert target.read_bytes() == file.read_bytes()
    again = run_cli("files", "download", made["id"], "--to", str(target), *at)
    assert again.returncode == 1 and str(target) in again.stderr and "Traceback" not in again.stderr
    nowhere = run_cli("files", "download", made["id"], "--to", str(tmp_path / "no/copy"), *at)
    assert nowhere.returncode == 1 and "no/copy" in nowhere.stderr and "Traceback" not in nowhere.stderr
    assert json.loads(run_cli("files", "delete", made["id"], "--json", *at).stdout)["deleted"] is True


@on_sqlite
def test_the_status_says_what_does_not_work_and_which_models_there_are(api: Api) -> None:
    said = run_cli("status", "--json", "--base-url", api.url)
    facts = json.loads(said.stdout)
    assert (facts["url"], facts["base_models"]) == (f"{api.url}/v1", ["tiny"])
    assert said.returncode == (0 if facts["status"] == "ready" else 1)
    shown = run_cli("status", "--base-url", api.url).stdout
    assert f"{api.url}/v1" in shown and "base models" in shown
    assert facts["queue"]["waits_for"] is None and "No job waits." in shown
    worker = training_worker()
    shown = run_cli("workers", "list", "--base-url", api.url).stdout.splitlines()
    assert shown[0].split()[:3] == ["worker", "status", "gpus"]
    assert shown[1].split()[:5] == [worker, "online", "2", "0/2", "slots"]
    assert shown[2] == "0 waiting, 0 running, 0 of 2 slots taken. No job waits."
    drained = run_cli("workers", "drain", worker, "--base-url", api.url).stdout
    assert drained.strip() == f"{worker} is draining; it runs nothing"


def test_a_dataset_is_checked_without_a_service(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(jsonl(sums(3)))
    assert json.loads(run_cli("datasets", "check", str(file), "--json").stdout)["rows"] == 3
    assert "{{item.answer}}" in run_cli("datasets", "check", str(file)).stdout
    file.write_bytes(jsonl([*sums(1), {"answer": "2"}]))
    wrong = run_cli("datasets", "check", str(file))
    assert wrong.returncode == 1 and "Line 2 has no 'messages'" in wrong.stderr
    missing = run_cli("datasets", "check", str(tmp_path / "nowhere.jsonl"))
    assert missing.returncode == 1 and "is not a file" in missing.stderr


@pytest.mark.parametrize(
    ("ago", "said"),
    [
        (0, "just now"),
        (59, "just now"),
        (60, "1 min ago"),
        (3599, "59 min ago"),
        (3600, "1 h ago"),
        (86_399, "23 h ago"),
    ],
)
def test_a_time_that_is_near_is_said_by_its_distance(ago: float, said: str) -> None:
    assert when(1e9 - ago, now=1e9) == said


def test_sizes_have_the_unit_that_people_use() -> None:
    assert [size(number) for number in (0, 999, 1000, 2_500_000)] == ["0 B", "999 B", "1 kB", "2 MB"]
    assert [size(number) for number in (1.5e9, 15.2e9, 2e12)] == ["1.5 GB", "15 GB", "2.0 TB"]


@on_sqlite
def test_lists_have_headers_and_json_and_cut_no_id(api: Api, client: openai.OpenAI) -> None:
    file = api.upload(client, sums(2))
    job = create_job(client, api, file, suffix="a-suffix")
    experiment = new_experiment(client)
    project = create_project("Others [red]with markup[/]").id
    key, secret = create_key("a key", DEFAULT_PROJECT)
    service, folder = ("--base-url", api.url), ("--data-dir", str(api.folder))
    environment = {
        "COLUMNS": "20",
        "DATABASE_URL": get_settings().database_url,
        "POLICYSPLIT_API_KEY": secret,
    }
    for words, header, identifier, where in (
        ("jobs", "job", job.id, service),
        ("experiments", "experiment", experiment, service),
        ("keys", "key", key.id, folder),
        ("projects", "project", project, folder),
    ):
        shown = run_cli(words, "list", *where, **environment)
        assert shown.returncode == 0, shown.stderr
        first, *lines = shown.stdout.splitlines()
        assert first.split()[0] == header
        (line,) = [line for line in lines if line.startswith(identifier)]
        assert "just now" in line
        found = json.loads(run_cli(words, "list", "--json", *where, **environment).stdout)
        assert identifier in [one["id"] for one in found]
        assert secret not in shown.stdout and secret not in json.dumps(found)
    for words in (("jobs", "show", job.id), ("experiments", "status", experiment)):
        assert json.loads(run_cli(*words, "--json", *service, **environment).stdout)["id"] == words[-1]
    assert "Others [red]with markup[/]" in run_cli("projects", "list", *folder, **environment).stdout


def test_what_is_begun_is_followed_alike() -> None:
    """A job and an experiment: with the same options, of the same default and in the same words."""
    options = {
        words: next(one for one in command.params if "--follow" in one.opts)
        for words, command in commands()
        if words in ("policysplit jobs create", "policysplit experiments run")
    }
    create, run = options.values()
    assert (create.secondary_opts, create.default, create.help) == (run.secondary_opts, run.default, run.help)
    assert create.secondary_opts == ["--no-follow"] and create.default is True


@on_sqlite
def test_a_job_is_followed_when_it_is_created_unless_that_is_not_wanted(
    api: Api, client: openai.OpenAI, tmp_path: Path
) -> None:
    file = tmp_path / "job.json"
    method = {"type": "reinforcement", "reinforcement": {"grader": GRADER}}
    body = {"model": api.model, "training_file": api.upload(client, sums(2)), "method": method}
    file.write_text(json.dumps(body))
    alone = run_cli("jobs", "create", "--file", str(file), "--no-follow", "--base-url", api.url)
    assert (alone.returncode, "Created ftjob-" in alone.stdout) == (0, True), alone.stderr
    command = [sys.executable, "-u", "-m", "app.cli", "jobs", "create", "--file", str(file)]
    with subprocess.Popen(
        [*command, "--base-url", api.url], stdout=subprocess.PIPE, text=True, env=cli_environment()
    ) as followed:
        assert followed.stdout is not None
        created = next(line for line in followed.stdout if line.startswith("Created "))
        assert "the job is queued" in "".join(followed.stdout.readline() for _ in range(2))
        client.fine_tuning.jobs.cancel(created.split()[1].rstrip(","))
        assert "has been cancelled" in followed.stdout.read()
    assert followed.returncode == 1
