"""Webhooks: who is told of the end of a job, or of a run of an eval, and the telling."""
