"""The Gauss-Newton sharpness Λ and the residual split along its eigenvector.

Source: li2022, section 3: Λ = (2/n) λ_max(J Jᵀ) with eigenvector v₁, D = (Dᵀv₁) v₁ + R.
"""

import torch
from torch import Tensor

from sharpflow.curvature import EigenResult, LinearOperator, gauss_newton_matrix, top_eigenpairs
from sharpflow.measurements.base import Options, Snapshot, Values


class GaussNewton:
    """Top eigenpairs of S^½ J Jᵀ S^½ with S = ∂²L/∂F², warm-started along the run.

    For MSE this is (2/n) J Jᵀ. The sign of v₁ is continuous along the run; where the run is
    restarted it is such that v₁ sums to a positive number.
    """

    def __init__(self, k: int, tol: float):
        self.k = k
        self.tol = tol
        self._vectors: Tensor | None = None

    def restart(self) -> None:
        """Forget the last eigenvectors."""
        self._vectors = None

    def measure(self, snapshot: Snapshot) -> Values:
        """Sharpness, solver report and residual split at one state."""
        result = self._solve(snapshot)
        first = result.vectors[:, 0]
        previous = self._vectors
        reference = first.sum() if previous is None else first @ previous[:, 0]
        if float(reference) < 0:
            first = -first
        self._vectors = torch.cat([first[:, None], result.vectors[:, 1:]], dim=1)
        outputs = snapshot.outputs.reshape(-1)
        residual = outputs - snapshot.targets.reshape(-1)
        along = residual @ first
        rest = residual - along * first
        values: Values = {
            "gauss_newton_sharpness": result.values.cpu().numpy(),
            "gauss_newton_residual": result.residuals.cpu().numpy(),
            "gauss_newton_products": result.matvecs,
            "gauss_newton_converged": result.converged,
            "residual_along_v1": float(along),
            "residual_norm_squared": float(residual @ residual),
            "rest_norm_squared": float(rest @ rest),
            "residual_dot_outputs": float(residual @ outputs),
        }
        if previous is not None:
            values["eigenvector_alignment"] = abs(float(first @ previous[:, 0]))
        return values

    def _solve(self, snapshot: Snapshot) -> EigenResult:
        net = snapshot.dense_net
        if net is None:
            raise TypeError("gauss_newton is written for dense networks")
        matrix = gauss_newton_matrix(net.gram_matrix(), snapshot.loss_curvature.reshape(-1))
        return top_eigenpairs(
            LinearOperator.from_dense(matrix), k=self.k, tol=self.tol, initial=self._vectors
        )


def build(options: Options) -> GaussNewton:
    """The measurement of `{every, k, tol}`."""
    return GaussNewton(options["k"], options["tol"])
