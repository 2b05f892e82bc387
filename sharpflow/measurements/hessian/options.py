"""Options of the Hessian measurement."""

from typing import Literal

from sharpflow.parts.options import (
    Eigenpairs,
    MeasurementOptions,
    Needs,
    Stride,
    Tolerance,
    Words,
)


class Options(MeasurementOptions):
    """Top eigenpairs of the loss's Hessian."""

    every: Stride = 10
    """Stride, in steps."""
    k: Eigenpairs = 1
    """Number of eigenvalues."""
    tol: Tolerance = 1e-3
    """Relative residual ‖Hv − λv‖/λ at which an eigenpair counts as converged."""
    preconditioned: bool = False
    """Whether P^-½ H P^-½ is measured too, P the optimiser's preconditioner."""

    def needs(self) -> Needs:
        return ("preconditioner",) if self.preconditioned else ()

    def eigenpairs(self) -> dict[Literal["gram", "hessian"], int]:
        return {"hessian": self.k * (1 + self.preconditioned)}

    def gives(self) -> Words:
        names = ["hessian", *(["preconditioned"] if self.preconditioned else [])]
        words = ("sharpness", "sharpness_converged", "residual", "products")
        return frozenset(f"{name}_{word}" for name in names for word in words)
