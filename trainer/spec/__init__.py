"""The contract with the service, torch-free: what determines a run, its events, what a checkpoint is."""
