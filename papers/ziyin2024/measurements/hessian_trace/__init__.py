"""Trace of the Hessian of the population's loss in closed form.

Source: ziyin2024, figures 3 and 4: Tr H = 2(‖U‖² Tr Σx + d2 Tr[W Σx Wᵀ]).
"""

from sharpflow.measurements.base import Measurement, Options, Snapshot, Values
from sharpflow.symmetry import hessian_trace

from .._population import factors, population_of


class HessianTrace(Measurement):
    """Tr H of a two-layer linear network, exact at every state."""

    def measure(self, snapshot: Snapshot) -> Values:
        """The trace."""
        population = population_of(snapshot.problem)
        trace = hessian_trace(*factors(snapshot), population.input_covariance)
        return {"hessian_trace": float(trace)}


def build(options: Options) -> HessianTrace:
    """The measurement of `{every}`."""
    return HessianTrace()
