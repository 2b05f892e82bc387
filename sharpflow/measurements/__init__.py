"""Measurements along a run; each is a module of this package, named in the configuration."""

from sharpflow.measurements.base import Measurement, Snapshot
from sharpflow.measurements.evaluate import Evaluation, evaluate

__all__ = ["Evaluation", "Measurement", "Snapshot", "evaluate"]
