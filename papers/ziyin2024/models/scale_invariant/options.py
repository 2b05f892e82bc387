"""Options of scale-invariant networks."""

from typing import Annotated, Any, ClassVar, Literal

from sharpflow.parts.options import Form, ModelOptions, PartOf, Words


class Options(ModelOptions):
    """Two tanh layers with normalised weights, on `gaussian` data or finite samples."""

    takes: ClassVar[tuple[str, ...]] = ("population", "vectors", "images")

    normalisation: Literal["layer", "global"] = "layer"
    """`layer` divides each layer's weights by their norm (Net-B), `global` by that of all weights
    (Net-A)."""
    initialisation: Annotated[Any, PartOf("initialisations")] = "factors"
    """Distribution of the initial weights."""

    def capabilities(self) -> Words:
        return frozenset({"two layers", "scale invariance", "written-out steps"})

    def parameter_count(self, form: Form, width: int) -> int | None:
        if form.size is None or form.outputs is None:
            return None
        return (form.size + form.outputs) * width

    def units(self, form: Form, width: int) -> int:
        return 4 * width + 2 * (form.outputs or 1)

    def layer_count(self) -> int:
        return 2
