"""``policysplit settings``: every setting, its value here, and the table for the documentation."""

from typing import Annotated

import typer
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from rich.markup import escape
from rich.padding import Padding

from app.cli.console import out
from app.cli.environment import settings_with
from app.cli.listing import JsonOption, say_json
from app.cli.schema import without_password
from app.core.settings import Settings


def settings(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a table in Markdown.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show every setting, the environment variable that changes it, and its value here."""
    if markdown:
        print(settings_markdown())
        return
    current = settings_with()
    if as_json:
        names = {name: environment_names(name, field)[0] for name, field in Settings.model_fields.items()}
        say_json({names[name]: _shown(getattr(current, name)) for name in names})
        return
    for name, field in Settings.model_fields.items():
        variables = " or ".join(f"[bold]{one}[/]" for one in environment_names(name, field))
        value = getattr(current, name)
        # Lines of their own that are never broken: a variable's name is there to be copied.
        shown = escape(_shown(value))
        is_default = value == field.get_default(call_default_factory=True)
        out.print(f"{variables} = {shown if is_default else f'[yellow]{shown}[/]'}", soft_wrap=True)
        out.print(Padding(escape(field.description or ""), (0, 0, 0, 4)))


def settings_markdown() -> str:
    """All settings as a markdown table."""
    rows = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        variables = " or ".join(f"`{variable}`" for variable in environment_names(name, field))
        default = "" if field.default_factory else _shown(field.default)
        rows.append(f"| {variables} | {f'`{default}`' if default else ''} | {field.description} |")
    return "\n".join(rows)


def environment_names(name: str, field: FieldInfo) -> list[str]:
    """The environment variables that set a field, the usual one first."""
    choices = getattr(field.validation_alias, "choices", None)
    if choices is None:
        return [f"POLICYSPLIT_{name.upper()}"]
    return sorted((str(choice) for choice in choices), key=len)


def _shown(value: object) -> str:
    if value is None:
        return ""
    return "***" if isinstance(value, SecretStr) else without_password(str(value))
