"""Usage over HTTP: what projects, jobs and models used by day, and what it costs."""
