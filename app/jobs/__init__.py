"""Fine-tuning jobs: creation, status, events."""
