"""Options of the central flow."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import LaterFlowOptions, Needs, Words


class Options(LaterFlowOptions):
    """The central flow of gradient descent, or of RMSprop: the mean path of an oscillating run."""

    tol: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Largest error of a substep over its way."""
    limit: Annotated[int, Field(ge=1, le=32)] = 10
    """Most eigenvalues that may be at the threshold."""
    kinks: bool = False
    """Whether a network without third derivatives is followed all the same, by those that it has
    away from its kinks."""

    def needs(self) -> Needs:
        return (*super().needs(), *(() if self.kinks else ("third derivatives",)))

    def gives(self) -> Words:
        return super().gives() | {"unstable", "flow_error"}

    def passes(self) -> int:
        return 40
