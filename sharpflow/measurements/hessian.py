"""Top eigenvalues of the Hessian of the full-batch loss, warm-started along the run."""

from sharpflow.curvature import LinearOperator, WarmStart, hessian_operator, top_eigenpairs
from sharpflow.measurements.base import Options, Snapshot, Values


class Hessian:
    """The k largest algebraic eigenvalues; largest first."""

    def __init__(self, k: int, tol: float):
        self.k = k
        self.tol = tol
        self._start = WarmStart()

    def restart(self) -> None:
        """Forget the last eigenvectors."""
        self._start.clear()

    def measure(self, snapshot: Snapshot) -> Values:
        """Eigenvalues and the solver's report at one state."""
        result = top_eigenpairs(
            self._operator(snapshot), k=self.k, tol=self.tol, initial=self._start.guess()
        )
        self._start.update(result.refined)
        return {
            "hessian_sharpness": result.values.cpu().numpy(),
            "hessian_residual": result.residuals.cpu().numpy(),
            "hessian_products": result.matvecs,
            "hessian_converged": result.converged,
        }

    @staticmethod
    def _operator(snapshot: Snapshot) -> LinearOperator:
        net = snapshot.dense_net
        if net is None:
            return hessian_operator(snapshot.loss, snapshot.parameters)
        shape = net.outputs.shape
        return net.hessian_operator(
            snapshot.loss_slope.reshape(shape), snapshot.loss_curvature.reshape(shape)
        )


def build(options: Options) -> Hessian:
    """The measurement of `{every, k, tol}`."""
    return Hessian(options["k"], options["tol"])
