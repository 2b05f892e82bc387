"""The angle by which a step turns parameters, which is all that it does under scale invariance.

Sources: Wan et al. 2021, "Spherical Motion Dynamics"; Kosson, Messmer and Jaggi 2024, "Rotational
Equilibrium".
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from sharpflow.curvature.linear_operator import check_finite
from sharpflow.errors import ConfigError
from sharpflow.measurements.base import Measurement, Options, Snapshot, Values


class AngularUpdate(Measurement):
    """`angular_update`, in radians, and `parameter_norm`, each with an index a chosen parameter.

    Nothing is given at the last state, after which no step is taken.
    """

    def __init__(self, patterns: Sequence[str]):
        self.patterns = tuple(patterns)

    def measure(self, snapshot: Snapshot) -> Values:
        """Both at one state; ConfigError where no parameter has such a name."""
        names = [n for n in snapshot.parameters if any(fnmatchcase(n, p) for p in self.patterns)]
        if not names:
            raise ConfigError(
                f"measurements.angular_update: no parameter is named like "
                f"{', '.join(self.patterns)}; there are {', '.join(snapshot.parameters)}."
            )
        for name in names:
            check_finite(snapshot.parameters[name], name)
        if snapshot.last:
            return {}
        pairs = [(snapshot.parameters[name], snapshot.after[name]) for name in names]
        return {
            "angular_update": [angle(*pair) for pair in pairs],
            "parameter_norm": [float(before.norm()) for before, _ in pairs],
        }


def angle(first: Tensor, second: Tensor) -> float:
    """The angle between two tensors as vectors, small ones without loss of digits."""
    a, b = (t.double().flatten() / t.double().norm() for t in (first, second))
    return float(2 * torch.atan2((a - b).norm(), (a + b).norm()))


def build(options: Options) -> AngularUpdate:
    """The measurement of `{every, parameters}`."""
    return AngularUpdate(options["parameters"])
