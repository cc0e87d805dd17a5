"""``policysplit evals`` against a running API."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import yaml
from sqlalchemy import update

from app.core.db import write_session
from app.core.tables import EvalRun
from tests.fixtures.api import GRADER, Api, on_sqlite
from tests.fixtures.evals import CONFIG, output_item
from tests.fixtures.service import run_cli
from tests.fixtures.workers import eventually


def end(run_id: str, passed: list[bool]) -> None:
    """Be the worker."""
    with write_session() as session:
        counts: dict[str, Any] = {"status": "completed", "finished_at": 2.0, "passed": sum(passed)}
        counts |= {"failed": len(passed) - sum(passed)}
        session.execute(update(EvalRun).where(EvalRun.id == run_id).values(**counts))
        for position, one in enumerate(passed):
            session.add(output_item(f"outputitem_{position}", run_id, position, one))


@on_sqlite
def test_from_files_to_results(api: Api, client: openai.OpenAI, tmp_path: Path) -> None:
    at = ("--base-url", f"{api.url}/v1")
    assert "no evals yet" in run_cli("evals", "list", *at).stdout
    body = {"name": "Sums", "data_source_config": CONFIG, "testing_criteria": [GRADER]}
    (tmp_path / "eval.yaml").write_text(yaml.safe_dump(body))
    made = run_cli("evals", "create", str(tmp_path / "eval.yaml"), *at)
    assert made.returncode == 0, made.stderr
    (eval_id,) = re.findall(r"Created (eval_\w+)\.", made.stdout)
    assert run_cli("evals", "runs", eval_id, *at).stdout.startswith("It has no runs yet")

    rows = [{"item": {"answer": "4"}, "sample": {"output_text": text}} for text in ("4", "5")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"type": "jsonl", "source": {"type": "file_id", "id": "rows.jsonl"}}
    (tmp_path / "run.json").write_text(json.dumps({"name": "first", "data_source": source}))
    started = run_cli("evals", "run", eval_id, str(tmp_path / "run.json"), "--json", *at)
    run = json.loads(started.stdout)
    uploaded = client.files.retrieve(run["data_source"]["source"]["id"])
    assert (uploaded.purpose, run["progress"]) == ("evals", {"items": 0, "total_items": 2})

    end(run["id"], [True, False])
    listed = run_cli("evals", "runs", eval_id, *at).stdout
    assert re.search(rf"{run['id']} +first +completed +1/2", listed), listed
    said = run_cli("evals", "results", eval_id, run["id"], "--items", *at).stdout
    assert "first is completed: 1 of 2 items passed, 1 failed" in said
    assert "outputitem_1  fail" in said and "exact did not pass" in said
    told = json.loads(run_cli("evals", "results", eval_id, run["id"], "--items", "--json", *at).stdout)
    assert [one["status"] for one in told["output_items"]] == ["pass", "fail"] and told["id"] == run["id"]
    assert re.search(rf"{eval_id} +Sums +exact", run_cli("evals", "list", *at).stdout)

    refused = run_cli("evals", "results", eval_id, "evalrun_none", *at)
    assert refused.returncode == 1 and "No such" in refused.stderr and "Traceback" not in refused.stderr
    source["source"]["id"] = "gone.jsonl"
    (tmp_path / "run.json").write_text(json.dumps({"data_source": source}))
    missing = run_cli("evals", "run", eval_id, str(tmp_path / "run.json"), *at)
    assert missing.returncode == 1 and "is neither a local file nor a file id" in missing.stderr


@on_sqlite
def test_a_run_is_followed_to_its_end(api: Api, client: openai.OpenAI, tmp_path: Path) -> None:
    eval_id = client.evals.create(data_source_config=CONFIG, testing_criteria=[GRADER]).id  # type: ignore[arg-type,list-item]
    content = [{"item": {"answer": "4"}, "sample": {"output_text": "4"}}]
    source = {"type": "jsonl", "source": {"type": "file_content", "content": content}}
    (tmp_path / "run.json").write_text(json.dumps({"name": "one", "data_source": source}))

    def fail() -> bool:
        with write_session() as session:
            error = {"code": "model_not_found", "message": "There is no such model."}
            change = update(EvalRun).values(status="failed", error=error, finished_at=2.0)
            return session.connection().execute(change).rowcount == 1

    with ThreadPoolExecutor() as pool:
        at = ("--base-url", f"{api.url}/v1")
        running = pool.submit(run_cli, "evals", "run", eval_id, str(tmp_path / "run.json"), *at)
        eventually(fail)
        done = running.result()
    assert "Created evalrun_" in done.stdout and done.returncode == 1
    assert "failed: There is no such model." in done.stderr
