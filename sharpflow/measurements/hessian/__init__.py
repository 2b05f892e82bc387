"""Top eigenvalues of the Hessian of the full-batch loss, warm-started along the run.

Source of the preconditioned sharpness: Cohen et al. 2022, "Adaptive Gradient Methods at the Edge of
Stability".
"""

import torch

from sharpflow.curvature import LinearOperator, hessian_operator, top_eigenpairs
from sharpflow.curvature.warm_start import WarmStart
from sharpflow.measurements.base import Measurement, Options, Snapshot, Values


class Hessian(Measurement):
    """The k largest algebraic eigenvalues of H, and if asked of P^-½ H P^-½; largest first.

    P is the optimiser's preconditioner. Before it has one there is no row of the latter.
    """

    def __init__(self, k: int, tol: float, preconditioned: bool):
        self.k = k
        self.tol = tol
        self.preconditioned = preconditioned
        self.restart()

    def restart(self) -> None:
        """Forget the last eigenvectors."""
        self._starts = {"hessian": WarmStart(), "preconditioned": WarmStart()}

    def measure(self, snapshot: Snapshot) -> Values:
        """Eigenvalues and the solver's report at one state."""
        values = self._solve("hessian", _operator(snapshot))
        if self.preconditioned and (root := _root(snapshot)) is not None:
            operator = _general(snapshot)
            scaled = LinearOperator(
                operator.shape[0],
                lambda v: root * operator.matvec(root * v),
                operator.dtype,
                operator.device,
            )
            values |= self._solve("preconditioned", scaled)
        return values

    def _solve(self, name: str, operator: LinearOperator) -> Values:
        start = self._starts[name]
        result = top_eigenpairs(operator, k=self.k, tol=self.tol, initial=start.guess())
        start.update(result.refined)
        return {
            f"{name}_sharpness": result.values.cpu().numpy(),
            f"{name}_sharpness_converged": result.pair_converged.numpy(),
            f"{name}_residual": result.residuals.cpu().numpy(),
            f"{name}_products": result.matvecs,
        }


def _root(snapshot: Snapshot) -> torch.Tensor | None:
    """P^-½, flat, in the order of the trained parameters."""
    metric = snapshot.preconditioner
    if metric is None:
        return None
    names = [name for name in snapshot.parameters if name in metric]
    return torch.cat([metric[name].flatten() for name in names]).rsqrt()


def _general(snapshot: Snapshot) -> LinearOperator:
    """The Hessian in the trained parameters, in the model's order."""
    frozen = snapshot.problem.frozen
    trained = {n: t for n, t in snapshot.parameters.items() if n not in frozen}
    return hessian_operator(snapshot.loss, trained)


def _operator(snapshot: Snapshot) -> LinearOperator:
    net = snapshot.dense_curvature
    if net is None:
        return hessian_operator(snapshot.loss, snapshot.parameters)
    shape = net.outputs.shape
    curvature = snapshot.loss_curvature
    if snapshot.problem.loss.diagonal:
        curvature = curvature.reshape(shape)
    return net.hessian_operator(snapshot.loss_slope.reshape(shape), curvature)


def build(options: Options) -> Hessian:
    """The measurement of `{every, k, tol, preconditioned}`."""
    return Hessian(options["k"], options["tol"], options["preconditioned"])
