"""Inputs of a dense network, checked and examined once."""

from dataclasses import dataclass

from torch import Tensor

from sharpflow.curvature.linear_operator import check_dtype, check_finite
from sharpflow.models.input_product import InputProduct


@dataclass(frozen=True)
class DenseInputs:
    """Inputs checked and examined once, for the many steps of a training.

    Attributes:
        matrix: X, (n, d).
        gram: X X^T (n, n), or None.
        product: products with X and X^T.
    """

    matrix: Tensor
    gram: Tensor | None
    product: InputProduct


def prepare_inputs(inputs: Tensor, gram: Tensor | bool | None = None) -> DenseInputs:
    """Check inputs (n, d) and note what every step reuses.

    Args:
        inputs: X.
        gram: X X^T if it is at hand, True to compute it, None to leave it out.

    Returns:
        X as every step takes it.

    Raises:
        ValueError: X is not two-dimensional, not float32 or float64, or not finite, or X X^T is of
            another shape.
    """
    if inputs.ndim != 2:
        raise ValueError(f"inputs has shape {tuple(inputs.shape)}; it must be (n, d).")
    check_dtype(inputs.dtype, "inputs")
    check_finite(inputs, "inputs")
    matrix = inputs.detach()
    if isinstance(gram, bool):
        gram = matrix @ matrix.T if gram else None
    n = inputs.shape[0]
    if gram is not None and gram.shape != (n, n):
        raise ValueError(f"input_gram has shape {tuple(gram.shape)}; it must be {(n, n)}.")
    return DenseInputs(matrix, gram, InputProduct(matrix))
