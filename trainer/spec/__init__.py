"""The contract with the service, torch-free: what determines a run, what it tells, what a checkpoint is."""
