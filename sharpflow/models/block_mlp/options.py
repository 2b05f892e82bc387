"""Options of dense networks with normalisation and residual connections."""

from typing import Annotated

from pydantic import Field

from sharpflow.parts.options import Activation, Form, ModelOptions, Words, smoothness


class Options(ModelOptions):
    """A dense network whose hidden layers are normalised, or added to their inputs, or both."""

    hidden_layers: Annotated[int, Field(ge=1, le=64)] = 2
    """Number of hidden layers, each of the run's width."""
    activation: Activation = "tanh"
    """Activation function of the hidden layers."""
    batch_normalisation: bool = False
    """Whether pre-activations are normalised over the batch, with a trained gain and offset."""
    residual: bool = False
    """Whether each hidden layer but the first is added to its input."""

    def capabilities(self) -> Words:
        return smoothness(self.activation)

    def parameter_count(self, form: Form, width: int) -> int | None:
        if form.size is None or form.outputs is None:
            return None
        inputs = min(form.size, form.samples or form.size)
        layers = self.hidden_layers
        weights = inputs * width + (layers - 1) * width**2 + width * form.outputs
        return weights + (2 * layers * width if self.batch_normalisation else 0)

    def units(self, form: Form, width: int) -> int:
        normalised = 3 if self.batch_normalisation else 0
        return (3 + normalised) * self.hidden_layers * width + (form.outputs or 1)

    def layer_count(self) -> int:
        return self.hidden_layers + 1
