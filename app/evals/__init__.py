"""Evals: what models answer to items, graded by criteria; their runs, and runs compared."""
