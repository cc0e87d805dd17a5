"""``python -m app.cli``: the same as the command ``policysplit``."""

from app.cli.main import main

main()
