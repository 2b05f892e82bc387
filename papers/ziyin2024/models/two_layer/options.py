"""Options of two-layer networks."""

from typing import Annotated, Any, ClassVar

from sharpflow.parts.options import Activation, Form, ModelOptions, PartOf, Words


class Options(ModelOptions):
    """Two layers f(x) = U φ(W x) with vector outputs, on `gaussian` data or finite samples."""

    takes: ClassVar[tuple[str, ...]] = ("population", "vectors", "images")

    activation: Activation = "linear"
    """Activation function φ of the hidden layer."""
    initialisation: Annotated[Any, PartOf("initialisations")] = "factors"
    """Distribution of the initial weights."""

    def capabilities(self) -> Words:
        words = {"two layers", "written-out steps"}
        if self.activation == "linear":
            words |= {"linear two layers", "population loss"}
        return frozenset(words)

    def parameter_count(self, form: Form, width: int) -> int | None:
        if form.size is None or form.outputs is None:
            return None
        ends = form.size + form.outputs
        return ends * (min(width, ends) if self.activation == "linear" else width)

    def units(self, form: Form, width: int) -> int:
        ends = (form.size or width) + (form.outputs or 1)
        hidden = min(width, ends) if self.activation == "linear" else width
        return 4 * hidden + 2 * (form.outputs or 1)

    def layer_count(self) -> int:
        return 2
