"""Trace of the Hessian of the loss in closed form.

Source: ziyin2024, figures 3 and 4: Tr H = 2(‖U‖² Tr Σx + d2 Tr[W Σx Wᵀ]).
"""

from torch import Tensor

from sharpflow.measurements.base import Measurement, Options, Snapshot, Values
from sharpflow.symmetry import hessian_trace, noise_equilibrium

from .._population import factors, linear_gammas, second_moment
from .options import EQUILIBRIUM


class HessianTrace(Measurement):
    """Tr H of a two-layer linear network, exact at every state.

    The loss is that of the population, and else that of the run's samples.
    """

    def __init__(self, equilibrium: bool):
        self.equilibrium = equilibrium

    def measure(self, snapshot: Snapshot) -> Values:
        """The trace; if asked, also that of the noise equilibrium with the same U W."""
        u, w = factors(snapshot)
        moment = second_moment(snapshot)
        values: Values = {"hessian_trace": float(hessian_trace(u, w, moment))}
        balanced = _balanced(snapshot, u, w) if self.equilibrium else None
        if balanced is not None:
            values[EQUILIBRIUM] = float(hessian_trace(*balanced, moment))
        return values


def _balanced(snapshot: Snapshot, u: Tensor, w: Tensor) -> tuple[Tensor, Tensor] | None:
    """Layers with the product of U and W in noise equilibrium; Γ depends on that product alone.

    None where there are none: Γ that are singular along the product, or that are not finite.
    """
    try:
        return noise_equilibrium(u @ w, *linear_gammas(snapshot))
    except ValueError:
        return None


def build(options: Options) -> HessianTrace:
    """The measurement of `{every, equilibrium}`."""
    return HessianTrace(options["equilibrium"])
