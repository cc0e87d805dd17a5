"""The command line: ``policysplit``. Imports no torch; heavy work runs in processes of its own."""
