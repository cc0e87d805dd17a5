"""Commands that need no service: what they say, and what they never do."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.demo.task import TASKS, Task
from app.jobs.schemas import CreateJob
from tests.fixtures.service import cli_environment, run_cli


def test_the_command_line_imports_no_torch() -> None:
    code = "import app.cli.main, sys; sys.exit(bool({'torch', 'transformers'} & sys.modules.keys()))"
    subprocess.run([sys.executable, "-c", code], check=True, env=cli_environment())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("jobs", "list", "--base-url", "http://127.0.0.1:9/v1"), "does not answer"),
        (("jobs", "pause", "ftjob-1", "--base-url", "http://127.0.0.1:9/v1"), "does not answer"),
        (("jobs", "resume", "ftjob-1", "--base-url", "http://127.0.0.1:9/v1"), "does not answer"),
        (("jobs", "create", "--file", "/nowhere.json"), "cannot read /nowhere.json"),
        (("models", "pull", "Nobody"), "SmolLM2-135M-Instruct"),
        (("models", "pull", "some/model"), "HF_HUB_OFFLINE is set"),
        (("demo", "--seeds", "1,x"), "'1,x' is not a list of whole numbers"),
        (("demo", "--task", "poems"), "'poems' is not a task of the demo; give one of numbers, sums"),
    ],
)
def test_errors_are_one_sentence(arguments: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    result = run_cli(*arguments, POLICYSPLIT_DATA_DIR=str(tmp_path))
    assert result.returncode == 1
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_a_setting_that_cannot_be_used_is_named() -> None:
    result = run_cli("settings", POLICYSPLIT_WORKER_SLOTS="none")
    assert result.returncode == 1
    assert "POLICYSPLIT_WORKER_SLOTS='none'" in result.stderr


def test_settings_are_whole_in_a_narrow_terminal_and_show_no_password() -> None:
    result = run_cli(
        "settings",
        COLUMNS="60",
        DATABASE_URL="postgresql+psycopg://me:pass:w@rd@host/jobs",
        BROKER_URL="redis://:passw@host/0",
    )
    assert "POLICYSPLIT_GRADER_ALLOWED_HOSTS = []\n" in result.stdout
    assert "= postgresql+psycopg://me:***@host/jobs\n" in result.stdout
    assert "= redis://:***@host/0\n" in result.stdout


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("job.json", "{", "cannot be parsed"),
        ("job.yaml", "a: [", "cannot be parsed"),
        ("job.yml", "- 1", "list"),
    ],
)
def test_a_broken_job_file_is_named(name: str, content: str, complaint: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(content)
    result = run_cli("jobs", "create", "--file", str(file))
    assert result.returncode == 1
    assert str(file) in result.stderr
    assert complaint in result.stderr


def test_migrate_makes_the_schema(tmp_path: Path) -> None:
    result = run_cli("migrate", POLICYSPLIT_DATA_DIR=str(tmp_path / "data"))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "data" / "policysplit.db").exists()


def test_models_list_shows_where_a_model_is_from(tmp_path: Path, tiny_model: Path) -> None:
    empty = run_cli("models", "list", "--data-dir", str(tmp_path))
    assert "models pull" in empty.stdout
    (tmp_path / "models" / "team").mkdir(parents=True)
    (tmp_path / "models" / "team" / "tiny").symlink_to(tiny_model)
    listed = run_cli("models", "list", "--data-dir", str(tmp_path))
    assert "team/tiny" in listed.stdout
    assert "put there by hand" in listed.stdout


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_demo_asks_for_a_valid_job(task: Task) -> None:
    CreateJob.model_validate(
        {**task.job_body(), "training_file": "file-1", "validation_file": "file-2", "seed": 0}
    )


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_demo_draws_the_same_rows_each_time_and_validates_on_others(task: Task, tmp_path: Path) -> None:
    training, validation = tmp_path / "training.jsonl", tmp_path / "validation.jsonl"
    rows, unseen = task.write_data(training, validation)
    assert (rows, unseen) == task.write_data(tmp_path / "again.jsonl", tmp_path / "too.jsonl")
    for path, items in ((training, rows), (validation, unseen)):
        assert [json.loads(line) for line in path.read_text().splitlines()] == items
    questions = [item["messages"][-1]["content"] for item in unseen]
    evaluation = task.job_body()["method"]["reinforcement"]["evaluation"]
    assert len(set(questions)) == len(questions) == evaluation["max_items"]
    assert not {item["messages"][-1]["content"] for item in rows} & set(questions)
