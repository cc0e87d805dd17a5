"""The trainer: Policy Split and its baselines, as a library and as a process of its own.

Nothing in this package imports the service (``app``, ``worker``). The modules ``spec``, ``modes``,
``events`` and ``manifest`` and the grader definitions in ``graders.spec`` stay free of torch, so the
service may read them.
"""
