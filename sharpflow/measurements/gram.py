"""The Gauss-Newton matrix S^½ J Jᵀ S^½ of one run, on sample space, by the quickest way known."""

from collections.abc import Sequence

from sharpflow.curvature import LinearOperator, gauss_newton_operator
from sharpflow.curvature.dense_curvature import gauss_newton_matrix
from sharpflow.measurements.base import Snapshot

LARGEST = 4000
"""Rows up to which J Jᵀ is formed: its square is what a product reads."""


def gram_operator(snapshot: Snapshot, layers: Sequence[int] | None = None) -> LinearOperator:
    """S^½ J Jᵀ S^½ (n, n) with S = ∂²L/∂F²; for MSE it is (2/n) J Jᵀ.

    A matrix where J Jᵀ has a closed form (dense stacks) and is not too large, two products with J
    where that is written out (the convolutional network); otherwise a product is one backward pass
    and one forward derivative through a retained graph.

    Args:
        snapshot: the run and the step whose operator it is.
        layers: indices into the model's `layers`, negative from the output, of the layers whose
            parameters J differentiates by; all by default.
    """
    curvature = snapshot.loss_curvature
    net = snapshot.dense_curvature
    if net is not None and net.outputs.numel() <= LARGEST:
        return LinearOperator.from_dense(gauss_newton_matrix(net.gram_matrix(layers), curvature))
    if snapshot.conv_curvature is not None:
        return snapshot.conv_curvature.gram_operator(curvature.reshape(-1), layers)
    parameters, names = snapshot.parameters, snapshot.problem.model.layers
    if layers is not None:
        chosen = {name for layer in layers for name in names[layer]}
        parameters = {name: t for name, t in parameters.items() if name in chosen}
    operator = gauss_newton_operator(snapshot.network, parameters, curvature)
    return operator.gram
