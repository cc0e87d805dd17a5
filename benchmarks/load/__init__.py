"""Load on an HTTP server of this machine: as much as it takes, or so much a second."""
