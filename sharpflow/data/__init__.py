"""Datasets: `photos` (embedded), `cifar10` (a local folder), `gaussian` (a
population), `whitened` (low-dimensional, for the proof)."""

from sharpflow.data.base import ImageSet, generate

__all__ = ["ImageSet", "generate"]
