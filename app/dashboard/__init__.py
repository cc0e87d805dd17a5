"""The dashboard: the page at ``/`` and its files. It uses the API as every client does."""
