"""The Gauss-Newton sharpness Λ and the residual split along its eigenvector.

Source: li2022, section 3: Λ = (2/n) λ_max(J Jᵀ) with eigenvector v₁, D = (Dᵀv₁) v₁ + R.
"""

from collections import defaultdict
from collections.abc import Sequence

from torch import Tensor

from sharpflow.curvature import EigenResult, top_eigenpairs
from sharpflow.curvature.direct import direct_eigenpairs, is_direct
from sharpflow.curvature.warm_start import WarmStart
from sharpflow.measurements.base import Measurement, Options, Snapshot, Values
from sharpflow.measurements.gram import gram_operator


class GaussNewton(Measurement):
    """Top eigenpairs of S^½ J Jᵀ S^½ with S = ∂²L/∂F², directly or warm-started along the run.

    For MSE this is (2/n) J Jᵀ. The sign of v₁ is continuous along the run; where the run is
    restarted it is such that v₁ sums to a positive number.
    """

    def __init__(self, k: int, tol: float, output_layer: bool, trained_layers: bool):
        self.k = k
        self.tol = tol
        self.output_layer = output_layer
        self.trained_layers = trained_layers
        self.restart()

    def restart(self) -> None:
        """Forget the last eigenvectors."""
        self._previous: Tensor | None = None
        self._warm: dict[str, WarmStart] = defaultdict(WarmStart)

    def measure(self, snapshot: Snapshot) -> Values:
        """Sharpness, solver report and residual split at one state."""
        previous = self._previous
        result = self._solve(snapshot, "all", self.k)
        first = result.vectors[:, 0]
        reference = first.sum() if previous is None else first @ previous
        if float(reference) < 0:
            first = -first
        self._previous = first
        outputs = snapshot.outputs.reshape(-1)
        residual = outputs - snapshot.targets.reshape(-1)
        along = residual @ first
        rest = residual - along * first
        values: Values = {
            "gauss_newton_sharpness": result.values.cpu().numpy(),
            "gauss_newton_residual": result.residuals.cpu().numpy(),
            "gauss_newton_products": result.matvecs,
            "gauss_newton_sharpness_converged": result.pair_converged.numpy(),
            "residual_along_v1": float(along),
            "residual_norm_squared": float(residual @ residual),
            "rest_norm_squared": float(rest @ rest),
            "residual_dot_outputs": float(residual @ outputs),
        }
        if previous is not None:
            values["eigenvector_alignment"] = abs(float(first @ previous))
        return values | self._parts(snapshot, result)

    def _parts(self, snapshot: Snapshot, whole: EigenResult) -> Values:
        """Largest eigenvalues of the parts of the matrix that belong to some of the layers."""
        values: Values = {}
        if self.output_layer:
            part = self._solve(snapshot, "output", 1, [-1])
            values["output_layer_sharpness"] = float(part.values[0])
            values["output_layer_sharpness_converged"] = part.converged
        if self.trained_layers:
            layers = len(snapshot.problem.model.layers)
            trained = range(layers - snapshot.problem.training["frozen"])
            part = whole
            if len(trained) < layers:
                part = self._solve(snapshot, "trained", 1, trained)
            values["trained_sharpness"] = float(part.values[0])
            values["trained_sharpness_converged"] = bool(part.pair_converged[0])
        return values

    def _solve(
        self, snapshot: Snapshot, name: str, k: int, layers: Sequence[int] | None = None
    ) -> EigenResult:
        operator = gram_operator(snapshot, layers)
        if is_direct(operator):
            return direct_eigenpairs(operator, k, self.tol)
        warm = self._warm[name]
        result = top_eigenpairs(operator, k=k, tol=self.tol, initial=warm.guess())
        warm.update(result.refined)
        return result


def build(options: Options) -> GaussNewton:
    """The measurement of `{every, k, tol, output_layer, trained_layers}`."""
    return GaussNewton(
        options["k"], options["tol"], options["output_layer"], options["trained_layers"]
    )
