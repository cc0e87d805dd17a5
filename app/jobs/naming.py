"""A job's display name, and the words that a search finds it by."""

from app.core.strict_json import JsonObject
from app.core.tables import Job

#: Characters: an index contains them all, and PostgreSQL's pages limit an index's rows.
_NAME, _WORDS = 128, 600


def name_of(suffix: str | None, metadata: dict[str, str] | None, model: str, data: JsonObject) -> str:
    """The suffix; else what the job is in its experiment; else what it trains on, or the model."""
    told = metadata or {}
    if suffix:
        name = suffix
    elif told.get("experiment", "").startswith("exp_") and told.get("arm") and told.get("task"):
        name = f"{told['arm']} on {told['task']}"
    else:
        name = data["task"] if data["type"] == "environment" else model.rsplit("/", 1)[-1]
    return name[:_NAME]


def words_of(job: Job) -> str:
    """Name, ids, model, algorithm, files, tags, and as much of the note as there is room for."""
    algorithm = job.run_spec.get("algorithm", {}).get("type", "")
    files = (job.training_file, job.validation_file)
    parts = [
        job.name,
        job.id,
        job.model,
        job.fine_tuned_model,
        algorithm,
        *files,
        *(job.tags or ()),
        job.note,
    ]
    return "\n".join(filter(None, parts))[:_WORDS]
