"""Options of dense networks."""

from typing import Annotated, Any, ClassVar

from pydantic import Field

from sharpflow.parts.options import Activation, Form, ModelOptions, PartOf, Words, smoothness


class Options(ModelOptions):
    """A dense network: hidden layers of the run's width, and linear output units."""

    takes: ClassVar[tuple[str, ...]] = ("vectors", "images", "population")

    hidden_layers: Annotated[int, Field(ge=1, le=64)] = 2
    """Number of hidden layers, each of the run's width."""
    activation: Activation = "tanh"
    """Activation function of the hidden layers."""
    bias: bool = False
    """Whether layers have biases; they start as PyTorch's do."""
    initialisation: Annotated[Any, PartOf("initialisations")] = "default"
    """Distribution of the initial weights."""

    def capabilities(self) -> Words:
        return frozenset({"dense stack"}) | smoothness(self.activation)

    def parameter_count(self, form: Form, width: int) -> int | None:
        if form.size is None or form.outputs is None:
            return None
        inputs = min(form.size, form.samples or form.size)
        layers = self.hidden_layers
        weights = inputs * width + (layers - 1) * width**2 + width * form.outputs
        return weights + (layers * width + form.outputs if self.bias else 0)

    def units(self, form: Form, width: int) -> int:
        return (2 * self.hidden_layers) * width + (form.outputs or 1)

    def layer_count(self) -> int:
        return self.hidden_layers + 1
