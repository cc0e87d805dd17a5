"""How a job's status and its step read in a terminal, of jobs alone and of an experiment's runs."""

STATUS_STYLES = {"running": "cyan", "succeeded": "green", "failed": "red", "cancelled": "yellow"}


def coloured(status: str) -> str:
    """A status as markup."""
    style = STATUS_STYLES.get(status)
    return f"[{style}]{status}[/]" if style else status


def step_of(progress: object) -> str:
    """``3/100`` of a job's ``progress``; nothing where there is none yet."""
    return f"{progress['step']}/{progress['total_steps']}" if isinstance(progress, dict) else ""
