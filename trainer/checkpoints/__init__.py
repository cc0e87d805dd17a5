"""What a run keeps on disk: models that are served, the state to resume from, fingerprints of steps."""
