"""Randomness without state: every draw's seed is a hash of the run's seed and of what is drawn.

So a resumed run draws what the uninterrupted run would have drawn, an evaluation takes nothing from the
training stream, and a response does not depend on which others share its batch.
"""

import hashlib

import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive_seed(seed, "sample", step, group, index)``."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))
