"""Top eigenvalues of the loss's Hessian in the optimiser's metric, warm-started along the run.

Source: Cohen et al. 2022, "Adaptive Gradient Methods at the Edge of Stability".
"""

from sharpflow.measurements.base import Measurement, Options, Snapshot, Values
from sharpflow.measurements.hessians import Eigenvalues, preconditioned_hessian


class PreconditionedHessian(Measurement):
    """The k largest algebraic eigenvalues of P^-½ H P^-½; largest first.

    P is what the optimiser's state at that step gives, from the gradients of all steps before it;
    the identity for gradient descent with or without momentum. An optimiser that learns P has none
    at step 0, and no row there.
    """

    def __init__(self, k: int, tol: float):
        self._eigenvalues = Eigenvalues("preconditioned", k, tol)

    def restart(self) -> None:
        """Forget the last eigenvectors."""
        self._eigenvalues.restart()

    def measure(self, snapshot: Snapshot) -> Values:
        """Eigenvalues and the solver's report at one state."""
        operator = preconditioned_hessian(snapshot)
        return {} if operator is None else self._eigenvalues.of(operator)


def build(options: Options) -> PreconditionedHessian:
    """The measurement of `{every, k, tol}`."""
    return PreconditionedHessian(options["k"], options["tol"])
