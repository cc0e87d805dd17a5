"""What goes wrong on the command line, said in a sentence and without a trace."""


class CliError(Exception):
    """Ends the command with ``message`` on standard error and ``exit_code``."""

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code


def cause_of(error: Exception) -> str:
    """What the database's driver says, or the operating system: its first line."""
    return str(getattr(error, "orig", None) or error).strip().splitlines()[0]
