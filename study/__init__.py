"""Our own study of the method: what it is, how it runs, what came out. See README.md here."""
