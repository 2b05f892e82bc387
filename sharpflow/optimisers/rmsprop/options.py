"""Options of RMSprop."""

from typing import Annotated, ClassVar

from pydantic import Field

from sharpflow.parts.options import OptimiserOptions, Words


class Options(OptimiserOptions):
    """RMSprop: v ← βv + (1 − β)∇L², θ ← θ − η∇L/(√v + ε)."""

    copies: ClassVar[int] = 1
    threshold_symbol: ClassVar[str] = "2/η"

    beta: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Coefficient β of the running mean of squared gradients."""
    epsilon: Annotated[float, Field(gt=0, le=1000)] = 1e-8
    """Number ε that is added to √v."""

    def capabilities(self) -> Words:
        return frozenset({"preconditioner", "mean square", "squared gradients"})
