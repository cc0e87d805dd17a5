"""Runs jobs: claims a lease, supervises a trainer process, relays its events to the database."""
