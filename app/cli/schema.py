"""Bringing the schema up to date from the command line."""

from urllib.parse import urlsplit

from sqlalchemy.exc import SQLAlchemyError

from app.cli.errors import CliError, cause_of


def migrate_database(url: str) -> None:
    """Bring the database's schema up to date; raises CliError when it cannot be reached."""
    from app.core.migrate import SchemaIsNewer, upgrade_to_head

    try:
        upgrade_to_head(url)
    except SchemaIsNewer as error:
        raise CliError(str(error)) from error
    except SQLAlchemyError as error:
        raise CliError(
            f"the database {without_password(url)} cannot be brought up to date: {cause_of(error)}"
        ) from error


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":***@") if parts.password else url
