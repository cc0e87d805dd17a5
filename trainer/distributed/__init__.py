"""Several processes that train one run: what they do together, and noticing that one has ended."""
