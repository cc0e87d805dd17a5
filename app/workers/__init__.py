"""``/v1/workers`` and ``/v1/queue``: what works, what waits, and for what."""
