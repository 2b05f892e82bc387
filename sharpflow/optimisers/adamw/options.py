"""Options of AdamW."""

from typing import Annotated, ClassVar

from pydantic import Field

from sharpflow.parts.options import OptimiserOptions, Words


class Options(OptimiserOptions):
    """AdamW: Adam with weight decay apart from the gradient, θ ← (1 − ηγ)θ − ηm/(√v + ε)."""

    copies: ClassVar[int] = 2
    threshold_symbol: ClassVar[str] = "(2 + 2β₁)/((1 − β₁)η)"

    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Coefficient β₁ of the running mean of gradients."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Coefficient β₂ of the running mean of squared gradients."""
    epsilon: Annotated[float, Field(gt=0, le=1000)] = 1e-8
    """Number ε that is added to √v."""
    bias_correction: bool = True
    """Whether the means are divided by 1 − βᵗ, as published."""

    def capabilities(self) -> Words:
        return frozenset({"preconditioner", "squared gradients"})
