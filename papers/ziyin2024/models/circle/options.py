"""Options of the toy of two parameters."""

from typing import Annotated, ClassVar

from pydantic import Field

from sharpflow.parts.options import Form, ModelOptions, Needs, Words


class Options(ModelOptions):
    """The toy f(x) = (θ/‖θ‖)·x of two parameters, on `gaussian` data of two inputs, one output."""

    takes: ClassVar[tuple[str, ...]] = ("population",)

    angle: Annotated[float, Field(ge=-4, le=4)] = 2.4
    """Angle of the start on the unit circle, in radians."""

    def capabilities(self) -> Words:
        return frozenset({"population loss", "circle"})

    def needs(self) -> Needs:
        return ("gaussian population",)

    def check(self, form: Form, width: int) -> None:
        if (form.shape, form.outputs) != ((2,), 1):
            inputs = form.size
            raise ValueError(f"it takes 2 inputs and 1 output, not {inputs} and {form.outputs}")

    def parameter_count(self, form: Form, width: int) -> int:
        return 2

    def layer_count(self) -> int:
        return 1
