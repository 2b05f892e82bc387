"""Options of a learning rate in units of the initial sharpness."""

from typing import Annotated, ClassVar

from pydantic import Field

from sharpflow.parts.options import Needs, ScheduleOptions, Tolerance


class Options(ScheduleOptions):
    """The run's learning rate times 2/λ₀, λ₀ the largest Hessian eigenvalue of each run's start.

    `learning_rates: [0.8]` is 0.8 of the largest rate that is stable at the start, whatever the
    seed. λ₀ is that of the loss over all samples, in the parameters that are trained.
    """

    rate_symbol: ClassVar[str] = "ηλ₀/2"

    warmup: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    """Steps of a linear rise from nothing that come first."""
    tol: Tolerance = 1e-3
    """Relative residual ‖Hv − λ₀v‖/λ₀ at which λ₀ counts as found."""

    def needs(self) -> Needs:
        return ("finite samples", "a learning rate a run")
