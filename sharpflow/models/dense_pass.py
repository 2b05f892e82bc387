"""The forward pass of a stack of dense layers, which a step and a measurement of it share."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from sharpflow.models.activations import Activation
from sharpflow.models.input_product import InputProduct


@dataclass(frozen=True)
class DensePass:
    """H_l = φ_l(Z_l) with Z_l = H_{l−1} W_l + b_l, of one network or of R with a leading dimension.

    Attributes:
        preactivations: Z_l of the hidden layers, (…, n, width); empty where they were not asked
            for.
        features: H_l of the hidden layers, (…, n, width).
        slopes: φ_l'(Z_l) of the hidden layers.
        last: Z_L, the outputs, (…, n, c).
    """

    preactivations: list[Tensor]
    features: list[Tensor]
    slopes: list[Tensor]
    last: Tensor

    def of_run(self, run: int) -> "DensePass":
        """The pass of one network of several, as views."""
        before, features, slopes = (
            [t[run] for t in each] for each in (self.preactivations, self.features, self.slopes)
        )
        return DensePass(before, features, slopes, self.last[run])


def dense_pass(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor] | None,
    activations: Sequence[Activation],
    inputs: InputProduct,
    preactivations: bool = True,
) -> DensePass:
    """Take samples through a stack of dense layers.

    Args:
        weights: L tensors (…, in, out).
        biases: L tensors (…, out), or None for none.
        activations: of the L − 1 hidden layers.
        inputs: products with the inputs, (n, d) or (R, n, d).
        preactivations: whether they are wanted.

    Returns:
        The pass.
    """
    before, features, slopes = [], [], []
    for layer, weight in enumerate(weights):
        z = features[-1] @ weight if layer else inputs.times(weight)
        if biases is not None:
            z = z + biases[layer].unsqueeze(-2)
        if layer < len(activations):
            value, slope = activations[layer].value_and_derivative(z)
            features.append(value)
            slopes.append(slope)
            if preactivations:
                before.append(z)
    return DensePass(before, features, slopes, z)
