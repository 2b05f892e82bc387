"""Options of deep linear networks."""

from typing import Annotated, Any, ClassVar

from pydantic import Field

from sharpflow.parts.options import Form, ModelOptions, Needs, PartOf, Words


class Options(ModelOptions):
    """A deep linear network f(x) = W_L ⋯ W_1 x with hidden layers of the run's width."""

    takes: ClassVar[tuple[str, ...]] = ("population",)

    depth: Annotated[int, Field(ge=2, le=32)] = 3
    """Number of layers L."""
    initialisation: Annotated[Any, PartOf("initialisations")] = "default"
    """Distribution of the initial weights."""

    def capabilities(self) -> Words:
        return frozenset({"deep linear", "written-out steps", "population loss"})

    def needs(self) -> Needs:
        return ("gaussian population",)

    def parameter_count(self, form: Form, width: int) -> int | None:
        if form.size is None or form.outputs is None:
            return None
        return (form.size + form.outputs + (self.depth - 2) * width) * width

    def units(self, form: Form, width: int) -> int:
        return 4 * self.depth * width + 2 * (form.outputs or 1)

    def layer_count(self) -> int:
        return self.depth
