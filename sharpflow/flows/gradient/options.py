"""Options of gradient flow."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import LaterFlowOptions


class Options(LaterFlowOptions):
    """Gradient flow; under RMSprop the flow that it would be without oscillation."""

    tol: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Largest error of a substep over the way of a step."""

    def passes(self) -> int:
        return 12
