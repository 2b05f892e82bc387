"""Streams of random numbers, addressed so that any part can be drawn again by itself."""

import hashlib
import json

import numpy as np
import torch

BLOCK = 50
"""Steps whose random numbers are drawn together."""


def number(stream: str, seed: int, purpose: str, block: int) -> int:
    """The 63 bits that stand for an address."""
    address = json.dumps([stream, seed, purpose, block]).encode()
    number = int.from_bytes(hashlib.blake2b(address, digest_size=8).digest(), "big")
    return number >> 1


def generator(stream: str, seed: int, purpose: str, block: int = 0) -> torch.Generator:
    """The CPU generator of one block of one stream.

    It depends on its address only: runs with one seed and stream are paired, and a run's numbers do
    not depend on its shard-mates.
    """
    return torch.Generator().manual_seed(number(stream, seed, purpose, block))


def normals(out: np.ndarray, stream: str, seed: int, purpose: str, block: int = 0) -> None:
    """Fill `out`, (n,) float32, with the standard normals of one block of one stream.

    Box and Muller's transform of 32-bit numbers of an SFC64 generator, which takes a fifth less
    time than `torch.randn`. The numbers depend on the address and on n only.
    """
    pairs = (out.size + 1) // 2
    source = np.random.SFC64(number(stream, seed, purpose, block))
    bits = source.random_raw(pairs).view(np.uint32).astype(np.float32)
    radius, angle = bits[:pairs], bits[pairs:]
    radius += np.float32(0.5)
    radius *= np.float32(2.0**-32)
    np.log(radius, out=radius)
    radius *= np.float32(-2.0)
    np.sqrt(radius, out=radius)
    angle *= np.float32(2.0**-31 * np.pi)
    first, second = out[:pairs], out[pairs:]
    np.multiply(np.cos(angle), radius, out=first)
    np.multiply(np.sin(angle[: second.size]), radius[: second.size], out=second)
