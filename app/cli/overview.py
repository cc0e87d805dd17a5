"""``policysplit status``: is there a service, where, and what does it do."""

from typing import TYPE_CHECKING

import typer

from app.cli.client import BaseUrlOption, DataDirOption, Told, api_errors, connect, get
from app.cli.listing import JsonOption, say_json, say_table
from app.cli.status import coloured

if TYPE_CHECKING:
    import openai

_STATUSES = ("running", "queued", "validating_files", "paused")


def status(
    as_json: JsonOption = False, base_url: BaseUrlOption = None, data_dir: DataDirOption = None
) -> None:
    """Show the service's address and health, its models, and unfinished jobs."""
    client = connect(base_url, data_dir)
    with api_errors(client):
        models = [model.id for model in client.models.list()]
        jobs = list(client.fine_tuning.jobs.list(limit=100).data)
        ready = _readiness(client)
        queue = get(client, "/queue")
    url = str(client.base_url).rstrip("/")
    unfinished = {one: sum(job.status == one for job in jobs) for one in _STATUSES}
    base = [name for name in models if not name.startswith("ft:")]
    if as_json:
        say_json(
            {
                "url": url,
                **ready,
                "base_models": base,
                "models": len(models),
                "jobs": unfinished,
                "queue": queue,
            }
        )
    else:
        colour = "green" if ready["status"] == "ready" else "red"
        rows = [("service", url), ("status", f"[{colour}]{ready['status']}[/]"), *ready["checks"].items()]
        rows += [("base models", ", ".join(base) or "none: policysplit models pull SmolLM2-135M-Instruct")]
        rows += [(f"jobs {coloured(name)}", str(count)) for name, count in unfinished.items() if count]
        rows += [("queue", queue["message"])]
        say_table(("what", "now"), rows)
    if ready["status"] != "ready":
        raise typer.Exit(1)


def _readiness(client: "openai.OpenAI") -> Told:
    """What ``/readyz`` says: where the service cannot work it says it with 503."""
    import openai

    url = str(client.base_url.join("../readyz"))
    try:
        return get(client.with_options(max_retries=0), url)
    except openai.InternalServerError as error:
        if isinstance(error.body, dict) and "checks" in error.body:
            return error.body
        raise
