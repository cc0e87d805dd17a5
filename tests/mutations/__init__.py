"""The mutation check: deliberate single-line faults in the trainer's mathematics, each caught by some test.

``python -m tests.mutations`` plants each in a temporary copy of the project, never in the working tree, runs
the tests of its subject there, and prints which test caught it; it exits with 1 if a fault survives.
"""
