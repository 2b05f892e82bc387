"""Options of the Gauss-Newton measurement."""

from typing import Literal

from sharpflow.parts.options import Eigenpairs, MeasurementOptions, Stride, Tolerance, Words


class Options(MeasurementOptions):
    """Top eigenpairs of the Gauss-Newton matrix, with the residual split along v₁."""

    every: Stride = 1
    """Stride, in steps."""
    k: Eigenpairs = 1
    """Number of eigenvalues."""
    tol: Tolerance = 1e-4
    """Relative residual ‖Mv − λv‖/λ at which an eigenpair counts as converged."""
    output_layer: bool = False
    """Whether the output layer's part of the matrix is measured too."""
    trained_layers: bool = False
    """Whether the part of the layers that are not frozen is measured too."""

    def eigenpairs(self) -> dict[Literal["gram", "hessian"], int]:
        return {"gram": self.k + self.output_layer + self.trained_layers}

    def gives(self) -> Words:
        words = {
            "gauss_newton_sharpness",
            "gauss_newton_sharpness_converged",
            "gauss_newton_residual",
            "gauss_newton_products",
            "residual_along_v1",
            "residual_norm_squared",
            "rest_norm_squared",
            "residual_dot_outputs",
            "eigenvector_alignment",
        }
        if self.output_layer:
            words |= {"output_layer_sharpness", "output_layer_sharpness_converged"}
        if self.trained_layers:
            words |= {"trained_sharpness", "trained_sharpness_converged"}
        return frozenset(words)
