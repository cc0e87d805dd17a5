"""``policysplit experiments`` against a running API."""

import json
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import httpx
import pytest
import yaml

from app.experiments.expansion import start_runs
from tests.documents.test_guides import EXPERIMENTS
from tests.fixtures.api import Api, jsonl, on_sqlite, sums
from tests.fixtures.experiments import finish
from tests.fixtures.service import cli_environment, run_cli


@on_sqlite
def test_from_a_file_to_the_report(api: Api, tmp_path: Path):
    """The guide's experiment, on files that lie beside it."""
    (text,) = re.findall(r"```yaml\n(name: .*?)```", EXPERIMENTS, re.S)
    body = yaml.safe_load(text) | {"model": "tiny", "seeds": [0, 1, 2], "split": {"dev": 8, "test": 24}}
    grader = {"type": "string_check", "input": "{{sample.output_text}}", "reference": "{{item.answer}}"}
    task = {"name": "sums", "training_file": "rows.jsonl", "validation_file": "rows.jsonl"}
    body |= {"tasks": [task | {"reinforcement": {"grader": grader}}], "arms": ["policy_split", "grpo"]}
    body["compare"] = {"against": "grpo"}
    (tmp_path / "rows.jsonl").write_bytes(jsonl(sums(40)))
    file = tmp_path / "experiment.yaml"
    file.write_text(yaml.safe_dump(body))
    at = ("--base-url", f"{api.url}/v1")
    made = run_cli("experiments", "run", str(file), "--no-follow", *at)
    assert made.returncode == 0, made.stderr
    (experiment_id,) = re.findall(r"Created (exp_\w+): 6 runs", made.stdout)
    start_runs(experiment_id)
    for run in httpx.get(f"{api.url}/v1/experiments/{experiment_id}").json()["runs"]:
        finish(run["job_id"], 0.8 if run["arm"] == "policy_split" else 0.4, run["seed"])

    shown = run_cli("experiments", "status", experiment_id, *at)
    assert shown.stdout.startswith("completed: 6 succeeded")
    said = run_cli("experiments", "report", experiment_id, *at)
    assert "policy_split is better than grpo on every task (sums)" in said.stdout
    followed = run_cli("experiments", "follow", experiment_id, *at)
    assert followed.returncode == 0, followed.stderr
    lines = followed.stdout.splitlines()
    assert lines[0] == "1/6  policy_split on sums, seed 0: succeeded" and lines[5].startswith("6/6  grpo on")
    assert lines[6].startswith("policy_split is better than grpo on every task")
    page = tmp_path / "report.html"
    assert run_cli("experiments", "report", experiment_id, "--output", str(page), *at).returncode == 0
    assert page.read_text().startswith("<!doctype html>")
    more = run_cli("experiments", "extend", experiment_id, "--seeds", "3", "--arm", "gspo", *at)
    assert more.stdout.startswith("running:"), more.stderr
    refused = run_cli("experiments", "report", experiment_id, "--output", "report.pdf", *at)
    assert refused.returncode != 0 and "give a name ending in .html, .csv or .json" in refused.stderr


@on_sqlite
def test_who_stops_watching_is_told_that_it_goes_on(api: Api, tmp_path: Path):
    environment = {"type": "environment", "task": "chain_sum", "size": 50}
    grader = {"type": "environment", "task": "chain_sum", "extract": "last_number"}
    task = {"name": "sums", "environment": environment, "reinforcement": {"grader": grader}}
    body = {"name": "x", "model": "tiny", "arms": ["policy_split", "grpo"], "tasks": [task], "seeds": [0]}
    file = tmp_path / "experiment.json"
    file.write_text(json.dumps(body | {"split": {"dev": 8, "test": 24}, "budget": {"steps": 2}}))
    command = [sys.executable, "-u", "-m", "app.cli", "experiments", "run", str(file)]
    with subprocess.Popen(
        [*command, "--base-url", f"{api.url}/v1"],
        env=cli_environment(),
        stdout=subprocess.PIPE,
        text=True,
        # What a script starts with & ignores Ctrl-C, and so do its children: this suite may be such a one.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as watching:
        assert watching.stdout is not None
        (experiment_id,) = re.findall(r"Created (exp_\w+): 2 runs", watching.stdout.readline())
        watching.send_signal(signal.SIGINT)
        said = watching.stdout.read()
    assert f"policysplit experiments follow {experiment_id}" in said
    assert watching.returncode == 130
    assert httpx.get(f"{api.url}/v1/experiments/{experiment_id}").json()["status"] == "running"


@on_sqlite
@pytest.mark.parametrize("arms", [["policy_split", "ppo"]])
def test_a_file_that_does_not_work_is_refused_in_one_sentence(api: Api, tmp_path: Path, arms: list[str]):
    file = tmp_path / "experiment.json"
    file.write_text(json.dumps({"name": "x", "model": "tiny", "arms": arms, "tasks": [], "seeds": [0]}))
    refused = run_cli("experiments", "run", str(file), "--base-url", f"{api.url}/v1")
    assert refused.returncode != 0 and "'ppo' is not an arm" in refused.stderr
    assert "Traceback" not in refused.stderr
