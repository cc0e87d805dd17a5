"""Webhooks: who is told of a job's end, and the telling."""
