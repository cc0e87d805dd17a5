"""Runs replays: one step done again and compared."""
