"""What is measured, in one line."""

from collections.abc import Mapping
from typing import Any

from sharpflow.measurements.base import Measurement, Snapshot
from sharpflow.parts.options import MeasurementOptions, Stride


class Options(MeasurementOptions):
    """Length of all parameters together."""

    every: Stride = 1
    """Stride, in steps."""

    def gives(self) -> frozenset[str]:
        """Names of the quantities that the table will have."""
        return frozenset({"parameter_length"})


class Length(Measurement):
    """Sees one run at one step: its parameters, samples, loss, optimiser state."""

    def measure(self, snapshot: Snapshot) -> dict[str, Any]:
        """A number, or a list of numbers, for each quantity."""
        squares = (p.double().square().sum() for p in snapshot.parameters.values())
        return {"parameter_length": float(sum(squares)) ** 0.5}


def build(options: Mapping[str, Any]) -> Length:
    """The measurement of its options."""
    return Length()
