"""Options of the Hessian measurement."""

from typing import Literal

from sharpflow.parts.options import Eigenpairs, MeasurementOptions, Stride, Tolerance, Words


class Options(MeasurementOptions):
    """Top eigenpairs of the loss's Hessian."""

    every: Stride = 10
    """Stride, in steps."""
    k: Eigenpairs = 1
    """Number of eigenvalues."""
    tol: Tolerance = 1e-3
    """Relative residual ‖Hv − λv‖/λ at which an eigenpair counts as converged."""

    def eigenpairs(self) -> dict[Literal["gram", "hessian"], int]:
        return {"hessian": self.k}

    def gives(self) -> Words:
        words = ("sharpness", "sharpness_converged", "residual", "products")
        return frozenset(f"hessian_{word}" for word in words)
