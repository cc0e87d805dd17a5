"""The control plane: takes job specs over HTTP, keeps the truth in a database, serves both modes."""
