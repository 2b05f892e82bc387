"""Hessians of the full-batch loss of one run, by the quickest way known, and their eigenvalues."""

import torch
from torch import Tensor

from sharpflow.curvature import LinearOperator, hessian_operator, top_eigenpairs
from sharpflow.curvature.warm_start import WarmStart
from sharpflow.errors import PartError
from sharpflow.measurements.base import Snapshot, Values


def whole_hessian(snapshot: Snapshot) -> LinearOperator:
    """The Hessian in all parameters: in closed form for dense stacks, else from a retained graph.

    The order of its vectors is its own.
    """
    net = snapshot.dense_curvature
    if net is None:
        return hessian_operator(snapshot.loss, snapshot.parameters)
    shape = net.outputs.shape
    curvature = snapshot.loss_curvature
    if snapshot.problem.loss.diagonal:
        curvature = curvature.reshape(shape)
    return net.hessian_operator(snapshot.loss_slope.reshape(shape), curvature)


def preconditioned_hessian(snapshot: Snapshot) -> LinearOperator | None:
    """P^-½ H P^-½ in the trained parameters, P the optimiser's preconditioner at this state.

    Source: Cohen et al. 2022, "Adaptive Gradient Methods at the Edge of Stability". None where the
    optimiser has no preconditioner yet.

    Raises:
        PartError: the optimiser is not the same in every basis and gives no P, or gives one that
            lacks a parameter, has another shape, or is not positive.
    """
    metric, frozen = snapshot.preconditioner, snapshot.problem.frozen
    if metric is None:
        return None
    plain = not metric and snapshot.problem.optimiser.rotation_invariant
    if plain and not frozen:
        return whole_hessian(snapshot)
    trained = {n: t for n, t in snapshot.parameters.items() if n not in frozen}
    operator = hessian_operator(snapshot.loss, trained)
    if plain:
        return operator
    for name, tensor in trained.items():
        _check_metric(snapshot.problem.optimiser, metric.get(name), name, tensor)
    root = torch.cat([metric[name].flatten() for name in trained]).rsqrt()
    return LinearOperator(
        operator.shape[0],
        lambda vector: root * operator.matvec(root * vector),
        operator.dtype,
        operator.device,
    )


def _check_metric(rule: object, metric: Tensor | None, name: str, like: Tensor) -> None:
    """Refuse what is no positive diagonal for a parameter; NaN is of a run that diverged."""
    if metric is not None and metric.shape == like.shape and not bool((metric <= 0).any()):
        return
    found = "none" if metric is None else f"one of the shape {tuple(metric.shape)}"
    if metric is not None and metric.shape == like.shape:
        found = f"one with {float(metric.min()):g} in it"
    raise PartError(
        f"The optimiser {type(rule).__name__} gives no preconditioner for {name!r} that "
        f"P^-½ H P^-½ can be made with: it must be positive and of the shape {tuple(like.shape)}, "
        f"and there is {found}; its method `preconditioner` has to give it."
    )


class Eigenvalues:
    """The k largest algebraic eigenvalues of a matrix along a run, warm-started.

    Args:
        name: before `_sharpness` and the rest of the quantities.
        k: number of eigenvalues.
        tol: relative residual at which an eigenpair counts as converged.
    """

    def __init__(self, name: str, k: int, tol: float):
        self.name = name
        self.k = k
        self.tol = tol
        self.restart()

    def restart(self) -> None:
        """Forget the last eigenvectors."""
        self._warm = WarmStart()

    def of(self, operator: LinearOperator) -> Values:
        """Eigenvalues, largest first, and the solver's report at one state."""
        result = top_eigenpairs(operator, k=self.k, tol=self.tol, initial=self._warm.guess())
        self._warm.update(result.refined)
        return {
            f"{self.name}_sharpness": result.values.cpu().numpy(),
            f"{self.name}_sharpness_converged": result.pair_converged.numpy(),
            f"{self.name}_residual": result.residuals.cpu().numpy(),
            f"{self.name}_products": result.matvecs,
        }
