"""The ground that everything stands on, torch-free: processes, files, locks, memory."""
