"""Options of sharpness-aware minimisation."""

from typing import Annotated, ClassVar

from pydantic import Field

from sharpflow.parts.options import OptimiserOptions, Words


class Options(OptimiserOptions):
    """Sharpness-aware minimisation: θ ← θ − η∇L(θ + ρ∇L/‖∇L‖)."""

    threshold_symbol: ClassVar[str] = "SAM's edge"

    radius: Annotated[float, Field(gt=0, le=1e3)] = 0.05
    """Distance ρ at which the gradient is taken."""

    def capabilities(self) -> Words:
        return frozenset({"rotation invariant"})
