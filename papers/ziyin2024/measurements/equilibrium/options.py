"""Options of the closed form of the noise equilibrium."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import MeasurementOptions, Needs, Stride, Words


class Options(MeasurementOptions):
    """The closed form of the noise equilibrium, and how far time averages are from it."""

    every: Stride = 1
    """Stride, in steps, of the states that are averaged."""
    tail: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of the training, at its end, over which U Uᵀ and Wᵀ W are averaged."""

    def needs(self) -> Needs:
        return "linear two layers", "gaussian population"

    def gives(self) -> Words:
        return frozenset(
            {
                "closed_norm_squared",
                "equilibrium_error",
                "hessian_trace_flow",
                "hessian_trace_predicted",
                "norm_ratio_predicted",
                "plain_balance_error",
                "rate_predicted",
            }
        )
