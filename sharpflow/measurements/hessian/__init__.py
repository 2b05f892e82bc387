"""Top eigenvalues of the Hessian of the full-batch loss, warm-started along the run."""

from sharpflow.measurements.base import Measurement, Options, Snapshot, Values
from sharpflow.measurements.hessians import Eigenvalues, whole_hessian


class Hessian(Measurement):
    """The k largest algebraic eigenvalues of H; largest first."""

    def __init__(self, k: int, tol: float):
        self._eigenvalues = Eigenvalues("hessian", k, tol)

    def restart(self) -> None:
        """Forget the last eigenvectors."""
        self._eigenvalues.restart()

    def measure(self, snapshot: Snapshot) -> Values:
        """Eigenvalues and the solver's report at one state."""
        return self._eigenvalues.of(whole_hessian(snapshot))


def build(options: Options) -> Hessian:
    """The measurement of `{every, k, tol}`."""
    return Hessian(options["k"], options["tol"])
