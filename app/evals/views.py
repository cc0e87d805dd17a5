"""Rows of evals, runs and items as the API shows them: the shapes of the SDK, and some fields of ours."""

from app.core.strict_json import JsonObject
from app.core.tables import Eval, EvalOutputItem, EvalRun
from app.evals.schemas import CustomConfig

_SAMPLE_SCHEMA = {
    "type": "object",
    "properties": {"output_text": {"type": "string"}, "choices": {"type": "array"}},
}


def eval_view(row: Eval) -> JsonObject:
    """An eval."""
    return {
        "id": row.id,
        "object": "eval",
        "created_at": int(row.created_at),
        "updated_at": int(row.updated_at),
        "name": row.name,
        "data_source_config": _config_view(CustomConfig.model_validate(row.data_source_config)),
        "testing_criteria": row.testing_criteria,
        "metadata": row.user_metadata,
    }


def _config_view(config: CustomConfig) -> JsonObject:
    """The schema of a whole row, as hosted evals show it."""
    properties: JsonObject = {"item": config.item_schema}
    if config.include_sample_schema:
        properties["sample"] = _SAMPLE_SCHEMA
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "custom", "schema": schema}


def run_view(row: EvalRun, criteria: list[JsonObject], page: str, *, rows: bool = False) -> JsonObject:
    """A run; ``criteria`` are its eval's, ``page`` the address of the dashboard.

    ``rows``: with those that stood in its request. Of lists they are left out, which may be 4 MiB each.
    """
    source = row.data_source
    if source["source"]["type"] == "file_content":
        content = row.inline_rows if rows else []
        source = source | {"source": source["source"] | {"content": content}}
    done = row.passed + row.failed + row.errored
    return {
        "id": row.id,
        "object": "eval.run",
        "eval_id": row.eval_id,
        "created_at": int(row.created_at),
        "started_at": None if row.started_at is None else int(row.started_at),
        "finished_at": None if row.finished_at is None else int(row.finished_at),
        "status": row.status,
        "name": row.name,
        "model": row.model,
        "mode": row.mode,
        "checkpoint": row.weights,
        "data_source": source,
        "seed": row.seed,
        "report_url": f"{page}#/evals/{row.eval_id}/runs/{row.id}",
        "result_counts": {
            "total": done,
            "passed": row.passed,
            "failed": row.failed,
            "errored": row.errored,
        },
        "progress": {"items": done, "total_items": row.total},
        "per_testing_criteria_results": [
            {
                "testing_criteria": criterion["name"],
                "passed": counted["passed"],
                "failed": counted["failed"],
                "errored": counted["errored"],
                "mean_score": _mean(counted),
            }
            for criterion, counted in zip(criteria, row.criteria, strict=True)
        ],
        "per_model_usage": [{"model_name": model} | counts for model, counts in row.usage.items()],
        "error": row.error,
        "metadata": row.user_metadata,
    }


def _mean(counted: JsonObject) -> float | None:
    graded = counted["passed"] + counted["failed"]
    return counted["score"] / graded if graded else None


def item_view(row: EvalOutputItem, eval_id: str) -> JsonObject:
    """What a run made of an item."""
    return {
        "id": row.id,
        "object": "eval.run.output_item",
        "created_at": int(row.created_at),
        "eval_id": eval_id,
        "run_id": row.run_id,
        "status": row.status,
        "datasource_item_id": row.position,
        "datasource_item": row.item,
        "results": row.results,
        "sample": row.sample,
    }
