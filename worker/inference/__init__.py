"""The inference worker: engine servers as supervised children, and one address in front of them.

It holds no model itself and never imports torch; each engine is a process of its own.
"""
