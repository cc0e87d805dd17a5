"""The trainer: Policy Split and its baselines, as a library and as a process of its own.

Nothing in this package imports the service (``app``, ``worker``). The rooms ``spec``, ``statistics``,
``system`` and ``graders`` stay free of torch, so the service may read them.
"""
