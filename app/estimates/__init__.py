"""What a job would take, measured before it is created."""
