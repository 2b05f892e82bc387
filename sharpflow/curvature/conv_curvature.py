"""Per-sample Jacobian and Gram operator of a small convolutional network, without autograd."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from sharpflow.curvature.linear_operator import LinearOperator, check_finite
from sharpflow.models.activations import ACTIVATIONS

_BLOCK = 16  # images at a time: patches and signals then stay in cache


def _patches(images: Tensor) -> Tensor:
    """3×3 neighbourhoods, padded by zeros: (n, c, h, w) to (n, h w, 9 c), (row, column, channel).

    Copied in runs of 3 c numbers, which is why images should be channels-last in memory.
    """
    padded = F.pad(images.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).contiguous()
    n, channels, rows, columns = images.shape
    a, b, c, d = padded.stride()
    windows = padded.as_strided((n, rows, columns, 3, 3, channels), (a, b, c, b, c, d))
    return windows.reshape(n, rows * columns, 9 * channels)


class ConvCurvature:
    """conv3×3-maxpool2-φ, any number of times, and a linear unit, at one state.

    φ must not decrease, so that max-pooling commutes with it; convolutions are padded by 1.

    Args:
        weights: kernels (out, in, 3, 3), and the output weights (features, 1).
        biases: (out,) a convolution.
        activation: φ, a key of `ACTIVATIONS`.
        images: (n, c, h, w).

    Raises:
        NonFiniteError: parameters or outputs are not finite, as in a run that diverged.

    Attributes:
        outputs: F, (n,).
        jacobians: ∂F/∂θ_l, a tensor (n, P_l) a layer. Columns of a convolution run over (out, row,
            column, in), then its biases; those of the output layer over (row, column, channel).
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],
        activation: str,
        images: Tensor,
    ) -> None:
        channels_last = torch.channels_last
        self._kernels = [w.detach().contiguous(memory_format=channels_last) for w in weights[:-1]]
        self._output = weights[-1].detach()
        self._biases = [b.detach() for b in biases]
        self._activation = ACTIVATIONS[activation]
        for tensor in (*self._kernels, self._output, *self._biases):
            check_finite(tensor, "weights or biases")
        with torch.no_grad():
            blocks = [
                self._block(block)
                for block in images.contiguous(memory_format=channels_last).split(_BLOCK)
            ]
        self.outputs = torch.cat([outputs for outputs, _ in blocks])
        check_finite(self.outputs, "the network's output")
        parts = zip(*(jacobians for _, jacobians in blocks), strict=True)
        self.jacobians = [torch.cat(part) for part in parts]

    def _block(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        hidden, layers = images, []
        for kernel, bias in zip(self._kernels, self._biases, strict=True):
            before = F.conv2d(hidden, kernel, bias, padding=1)
            pooled, places = F.max_pool2d(before, 2, return_indices=True)
            layers.append((hidden, pooled, places))
            hidden = self._activation.function(pooled)
        features = hidden.permute(0, 2, 3, 1).flatten(1)
        _, channels, rows, columns = hidden.shape
        signal = self._output.view(rows, columns, channels).permute(2, 0, 1)
        jacobians = [features]
        for index in range(len(layers) - 1, -1, -1):
            inputs, pooled, places = layers[index]
            local = (signal * self._activation.derivative(pooled)).contiguous()
            spread = F.max_unpool2d(local, places.contiguous(), (2, 2))
            kernel_part = spread.flatten(2) @ _patches(inputs)
            jacobians.append(torch.cat([kernel_part.flatten(1), local.sum((2, 3))], dim=1))
            if index:
                spread = spread.contiguous(memory_format=torch.channels_last)
                signal = F.conv_transpose2d(spread, self._kernels[index], padding=1)
        return (features @ self._output)[:, 0], jacobians[::-1]

    def gram_operator(
        self, loss_curvature: Tensor, layers: Sequence[int] | None = None
    ) -> LinearOperator:
        """S^½ J Jᵀ S^½ on sample space, (n, n).

        A product reads J twice, where forming J Jᵀ would cost some n/10 products.

        Args:
            loss_curvature: S, (n,), not negative.
            layers: those to sum over (negative indices from the end); all by default.

        Returns:
            The operator.

        Raises:
            ValueError: S has a negative number.
        """
        chosen = self.jacobians if layers is None else [self.jacobians[index] for index in layers]
        if bool((loss_curvature < 0).any()):
            raise ValueError("loss_curvature holds a negative number; it must be ≥ 0.")
        root = loss_curvature.sqrt()[:, None]

        def block(vectors: Tensor) -> Tensor:
            scaled = root * vectors
            return root * sum(jacobian @ (jacobian.T @ scaled) for jacobian in chosen)

        return LinearOperator(
            len(root), lambda u: block(u[:, None])[:, 0], root.dtype, root.device, block
        )
