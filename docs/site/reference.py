"""The pages of the reference, each written from what runs."""

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import typer.main

from app.cli.main import app as command_line
from app.cli.settings import settings_markdown
from app.main import create_app
from trainer.spec.metric_names import METRICS

_METHODS = ("get", "post", "delete")


@lru_cache
def description() -> dict[str, Any]:
    """The API's own description."""
    return create_app().openapi()


def api_page() -> str:
    """Every operation, then every schema that one of them names."""
    lines = [
        "# API",
        "",
        "Written from `/openapi.json`, which a running service shows at `/docs`. Where "
        "OpenAI's API has the same route, the unmodified `openai` SDK calls it.",
        "",
    ]
    for path, operations in description()["paths"].items():
        for method in _METHODS:
            if method in operations:
                lines += _operation(method, path, operations[method])
    lines += ["## Schemas", ""]
    for name, schema in description()["components"]["schemas"].items():
        lines += _schema(name, schema)
    return "\n".join(lines)


def job_page() -> str:
    """The body of a job with all that it may hold, from the top down."""
    schemas = description()["components"]["schemas"]
    lines = [
        "# Job",
        "",
        "What `POST /v1/fine_tuning/jobs` takes, as JSON, and `policysplit jobs create --file`, as JSON or "
        "YAML. Unknown fields are refused. A default of the trainer is the vetted one.",
        "",
    ]
    for name in _reachable("CreateJob", schemas):
        lines += _schema(name, schemas[name])
    return "\n".join(lines)


def settings_page() -> str:
    """Every setting."""
    return (
        "# Settings\n\nFrom the environment; `policysplit settings` shows the values in use. The client "
        "commands find the service by its data directory, or take `--base-url` or `POLICYSPLIT_BASE_URL`.\n\n"
        f"{settings_markdown()}\n"
    )


def metrics_page() -> str:
    """Every metric with its unit and its meaning."""
    lines = [
        "# Metrics",
        "",
        "By name, as `GET …/metrics?name=…`, the CSV and the dashboard have them. `{N,H}` is a mode, normal "
        "or high-entropy; `k` a number of answers, `L` a layer.",
        "",
        "| metric | unit | meaning |",
        "|---|---|---|",
    ]
    lines += [f"| `{one.pattern}` | {one.unit} | {_cell(one.meaning)} |" for one in METRICS]
    return "\n".join(lines) + "\n"


def commands() -> Iterator[tuple[str, Any]]:
    """Each command with the words that call it."""

    def walk(words: str, command: Any) -> Iterator[tuple[str, Any]]:
        children = getattr(command, "commands", None)
        if children is None:
            yield words, command
            return
        for name, child in children.items():
            yield from walk(f"{words} {name}", child)

    yield from walk("policysplit", typer.main.get_command(command_line))


def cli_page() -> str:
    """Every command with its options."""
    lines = ["# Command line", "", "`policysplit COMMAND --help` says the same.", ""]
    for words, command in commands():
        lines += [f"## {words}", "", _paragraphs(command.help or ""), ""]
        rows = [_parameter(one) for one in command.params if not getattr(one, "hidden", False)]
        if rows:
            lines += ["| argument or option | default | what it is |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


PAGES: dict[str, Callable[[], str]] = {
    "reference/api.md": api_page,
    "reference/job.md": job_page,
    "reference/metrics.md": metrics_page,
    "reference/settings.md": settings_page,
    "reference/cli.md": cli_page,
}


def _operation(method: str, path: str, operation: dict[str, Any]) -> list[str]:
    lines = [f"## {method.upper()} {path} {{: #{operation['operationId']} }}", ""]
    summary = operation.get("summary", "")
    lines += [f"**{_cell(summary)}** {_paragraphs(operation.get('description', ''))}", ""]
    parameters = operation.get("parameters", [])
    if parameters:
        lines += ["| parameter | in | type | what it is |", "|---|---|---|---|"]
        for one in parameters:
            name = f"`{one['name']}`" + (" (required)" if one.get("required") else "")
            text = one.get("description") or one["schema"].get("description", "")
            lines.append(f"| {name} | {one['in']} | {_type(one['schema'])} | {_cell(text)} |")
        lines.append("")
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        lines += [f"Body ({kind}): {_type(content['schema'])}", "", *_example(content.get("example"))]
    for status, answer in operation["responses"].items():
        for kind, content in answer.get("content", {}).items():
            if status[0] == "2":
                lines += [f"Answer {status} ({kind}): {_type(content.get('schema', {}))}", ""]
                lines += _example(content.get("example"))
    return lines


def _example(value: Any) -> list[str]:
    """A block with an example, where there is one; what is not JSON as it stands."""
    if value is None:
        return []
    text = value.rstrip("\n") if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return [f"```{'text' if isinstance(value, str) else 'json'}", text, "```", ""]


def _schema(name: str, schema: dict[str, Any]) -> list[str]:
    lines = [f"### {_shown(name)} {{: #{_anchor(name)} }}", ""]
    if text := schema.get("description"):
        lines += [_paragraphs(text), ""]
    properties = schema.get("properties")
    if not properties:
        return [*lines, f"Type: {_type(schema)}", ""]
    lines += ["| field | type | default | what it is |", "|---|---|---|---|"]
    for field, one in properties.items():
        if one.get("default") is not None:
            default = f"`{_cell(_json(one['default']))}`"
        else:
            default = "required" if field in schema.get("required", ()) else ""
        lines.append(f"| `{field}` | {_type(one)} | {default} | {_cell(one.get('description', ''))} |")
    lines.append("")
    # A list's is that of its elements.
    examples = [] if name.startswith("ListOf") else schema.get("examples", [])
    return [*lines, *(line for one in examples for line in _example(one))]


def _reachable(name: str, schemas: dict[str, Any]) -> list[str]:
    """``name`` and every schema below it, as they come up."""
    found = [name]
    for one in found:  # grows
        found += [other for other in dict.fromkeys(_references(schemas[one])) if other not in found]
    return found


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"].rpartition("/")[2]
        for one in part.values():
            yield from _references(one)
    elif isinstance(part, list):
        for one in part:
            yield from _references(one)


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{_shown(name)}](#{_anchor(name)})"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_type(one) for one in schema[key]))
    if "const" in schema:
        return f"`{_json(schema['const'])}`"
    if "enum" in schema:
        return " or ".join(f"`{_json(one)}`" for one in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"array of {_type(schema.get('items', {}))}"
    bounds = [
        f"{sign} {schema[key]}"
        for key, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if key in schema
    ]
    return f"{kind} {', '.join(bounds)}".strip()


def _parameter(one: Any) -> str:
    names = " ".join(f"`{name}`" for name in [*one.opts, *one.secondary_opts])
    if one.param_type_name == "argument":
        names = f"`{one.name}`"
    default = "" if one.default in (None, False, ()) or callable(one.default) else f"`{one.default}`"
    if one.required:
        default = "required"
    return f"| {names} | {default} | {_cell(getattr(one, 'help', '') or '')} |"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _paragraphs(text: str) -> str:
    return "\n\n".join(_cell(part).replace("``", "`") for part in text.split("\n\n"))


def _shown(name: str) -> str:
    return name.replace("_", " ").strip()


def _anchor(name: str) -> str:
    return f"schema-{name}"
