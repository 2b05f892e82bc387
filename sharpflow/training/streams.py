"""Streams of random numbers, addressed so that any part can be drawn again by itself."""

import hashlib
import json

import torch

BLOCK = 50
"""Steps whose random numbers are drawn together."""


def generator(experiment: str, seed: int, purpose: str, block: int = 0) -> torch.Generator:
    """The CPU generator of one block of one stream.

    It depends on its address only: runs with one seed are paired across learning rates, widths
    and cases, and a run's numbers do not depend on its shard-mates.
    """
    address = json.dumps([experiment, seed, purpose, block]).encode()
    number = int.from_bytes(hashlib.blake2b(address, digest_size=8).digest(), "big")
    return torch.Generator().manual_seed(number >> 1)
