"""Options of the measurement of the preconditioned Hessian."""

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
    """Top eigenpairs of the Hessian in the optimiser's metric: what its threshold is about."""

    every: Stride = 3
    """Stride, in steps; an odd one sees both branches of an alternation."""
    k: Eigenpairs = 1
    """Number of eigenvalues."""
    tol: Tolerance = 1e-3
    """Relative residual at which an eigenpair counts as converged."""

    def needs(self) -> Needs:
        """A rule that learns P, or one that is the same in every basis, for which P = 1."""
        return (("preconditioner", "rotation invariant"),)

    def eigenpairs(self) -> dict[Literal["gram", "hessian"], int]:
        """One matrix."""
        return {"hessian": self.k}

    def gives(self) -> Words:
        """Eigenvalues and the solver's report."""
        words = ("sharpness", "sharpness_converged", "residual", "products")
        return frozenset(f"preconditioned_{word}" for word in words)
