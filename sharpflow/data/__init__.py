"""Datasets: `photos` (embedded), `cifar10` (a local folder), `gaussian` (a population)."""

from sharpflow.data.base import ImageSet, generate

__all__ = ["ImageSet", "generate"]
