"""Options of the noise equilibrium of deep linear networks."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import MeasurementOptions, Needs, Stride, Words


class Options(MeasurementOptions):
    """The layers of a deep linear network beside their noise equilibrium in closed form."""

    every: Stride = 1
    """Stride, in steps, of the states that are averaged."""
    tail: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Share of the training, at its end, over which W₁ᵀW₁ and W_L W_Lᵀ are averaged."""

    def needs(self) -> Needs:
        return "deep linear", "gaussian population"

    def gives(self) -> Words:
        return frozenset(
            {
                "closed_norm_squared",
                "closed_singular_value",
                "equilibrium_error",
                "noise_imbalance",
                "plain_balance_error",
                "plain_norm_squared",
                "singular_value",
                "singular_value_spread",
            }
        )
