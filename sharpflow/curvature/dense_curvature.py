"""Closed-form curvature of dense networks: Gram matrix and Hessian products without autograd."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sharpflow.curvature.dense_inputs import DenseInputs, prepare_inputs
from sharpflow.curvature.dense_loss import DenseLoss
from sharpflow.curvature.linear_operator import LinearOperator, check_finite
from sharpflow.curvature.operators import block_root
from sharpflow.models.activations import ACTIVATIONS
from sharpflow.models.dense_pass import DensePass, dense_pass

_BLOCK = 200  # rows of a Gram matrix made at a time: the temporaries then stay in cache


class DenseCurvature:
    """A stack of dense layers at one state, with everything that curvature products reuse.

    H_0 = X, Z_l = H_{l-1} W_l + b_l, H_l = φ_l(Z_l), F = Z_L (no activation after the last).
    Flat parameter vectors hold W_1, b_1, W_2, b_2, … row-major (b where there are biases).

    Args:
        weights: L tensors (in, out).
        activation: a key of `ACTIVATIONS`, or one a hidden layer.
        inputs: (n, d), or what `prepare_inputs` made of them, so that they are checked once for
            many steps.
        biases: L tensors (out,), or None for none.
        input_gram: X X^T (n, n), if it is at hand: inputs do not change between steps.
        taken: the forward pass with preactivations, if it is at hand; nobody may change it.

    Raises:
        ValueError: shapes do not chain, an activation is unknown, a number is in half precision, or
            parameters or inputs are not finite.

    Attributes:
        outputs: F, (n,) where the last layer has one unit, else (n, c).
        features: H_0 … H_{L-1}, the input of each layer, (n, width).
        output_jacobian_signals: B_l = ∂F/∂Z_l of each layer, (n, c, width of Z_l), made when asked.
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        activation: str | Sequence[str],
        inputs: Tensor | DenseInputs,
        biases: Sequence[Tensor] | None = None,
        input_gram: Tensor | None = None,
        taken: DensePass | None = None,
    ) -> None:
        if not isinstance(inputs, DenseInputs):
            inputs = prepare_inputs(inputs, input_gram)
        depth = len(weights)
        names = [activation] * (depth - 1) if isinstance(activation, str) else list(activation)
        _check_net(weights, names, inputs.matrix, biases)
        self.weights = [w.detach().clone() for w in weights]  # products outlive a training step
        self.biases = None if biases is None else [b.detach().clone() for b in biases]
        self.dtype, self.device = inputs.matrix.dtype, inputs.matrix.device
        self.samples = inputs.matrix.shape[0]
        self.activations = [ACTIVATIONS[name] for name in names]
        self._input_gram = inputs.gram if input_gram is None else input_gram
        self.inputs = inputs.product
        if taken is None:
            taken = dense_pass(self.weights, self.biases, self.activations, self.inputs)
        self.features: list[Tensor] = [inputs.matrix, *taken.features]
        self.preactivations, self.slopes, z = taken.preactivations, taken.slopes, taken.last
        check_finite(z, "the network's output")
        self.last = z
        self.outputs = z.squeeze(1) if z.shape[1] == 1 else z
        self._signals: list[Tensor] | None = None

    @property
    def size(self) -> int:
        """Number of parameters P."""
        biases = [] if self.biases is None else self.biases
        return sum(w.numel() for w in self.weights) + sum(b.numel() for b in biases)

    @property
    def output_jacobian_signals(self) -> list[Tensor]:
        """B_l[i, c, j] = ∂F_ic/∂Z_l[i, j], a tensor (n, c, width) a layer."""
        if self._signals is None:
            units = self.last.shape[1]
            eye = torch.eye(units, dtype=self.dtype, device=self.device)
            signals = [eye.expand(self.samples, units, units)]
            for weight, slope in zip(self.weights[:0:-1], self.slopes[::-1], strict=True):
                if len(signals) == 1:
                    back = weight.T
                else:  # in two dimensions: many small matrices would be multiplied one by one
                    back = (signals[-1].flatten(0, 1) @ weight.T).view(-1, units, len(weight))
                signals.append(back * slope[:, None, :])
            self._signals = signals[::-1]
        return self._signals

    def gram_matrix(self, layers: Sequence[int] | None = None) -> Tensor:
        """M = J J^T: (n, n), or (n c, n c) with outputs ordered sample by sample.

        M = Σ_l (H_{l-1} H_{l-1}^T + 1 if biases) ∘ (B_l B_l^T), so no Jacobian is formed.

        Args:
            layers: indices from 0, negative from the end, of the layers to sum over; all by
                default. `[-1]` gives the output layer's part M_A.

        Returns:
            M.

        Raises:
            ValueError: there is no layer of an index.
        """
        depth = len(self.weights)
        chosen = range(depth) if layers is None else layers
        if any(not -depth <= layer < depth for layer in chosen):
            raise ValueError(f"layers is {list(chosen)}; allowed are {-depth} to {depth - 1}.")
        chosen = sorted({layer % depth for layer in chosen})
        units = self.last.shape[1]
        signals = self.output_jacobian_signals
        rows = self.samples * units
        gram = torch.empty(rows, rows, dtype=self.dtype, device=self.device)
        step = max(1, _BLOCK // units) if gram.device.type == "cpu" else self.samples
        for start in range(0, self.samples, step):
            stop = min(start + step, self.samples)
            top, left = slice(start * units, stop * units), slice(start * units, rows)
            target = gram[top, left].zero_()
            for layer in chosen:
                self._add_layer(target, layer, signals[layer], start, stop)
            corner = gram[top, top]  # a BLAS need not give a symmetric product to the last bit
            corner.copy_(corner.triu() + corner.triu(1).T)
            below = slice(stop * units, rows)
            gram[below, top] = gram[top, below].T
        return gram

    def _add_layer(self, target: Tensor, layer: int, b: Tensor, start: int, stop: int) -> None:
        """Add one layer's part for the samples `start:stop` against `start:`."""
        h, units = self.features[layer], b.shape[1]
        last = layer == len(self.weights) - 1
        if last and units == 1:
            target.addmm_(h[start:stop], h[start:].T)
            if self.biases is not None:
                target += 1.0
            return
        if layer == 0 and self._input_gram is not None:
            kernel = self._input_gram[start:stop, start:]
        else:
            kernel = h[start:stop] @ h[start:].T
        if self.biases is not None:
            kernel = kernel + 1.0
        if units == 1:
            target.addcmul_(kernel, b[start:stop, 0] @ b[start:, 0].T)
            return
        shape = (kernel.shape[0], units, kernel.shape[1], units)
        view = target.view(shape) if target.is_contiguous() else target.unflatten(0, shape[:2])
        view = view if view.ndim == 4 else view.unflatten(2, shape[2:])
        spread = kernel[:, None, :, None]
        if last:
            view.add_(spread * torch.eye(units, dtype=self.dtype, device=self.device)[:, None, :])
        else:
            overlap = b[start:stop].flatten(0, 1) @ b[start:].flatten(0, 1).T
            view.addcmul_(spread, overlap.view(shape))

    def hessian_operator(
        self, loss_slope: Tensor, loss_curvature: Tensor | float
    ) -> LinearOperator:
        """Hessian of Σ_i l(F_i) as a `LinearOperator`, written out; arguments as for `loss`."""
        return self.loss(loss_slope, loss_curvature).hessian()

    def loss(self, loss_slope: Tensor, loss_curvature: Tensor | float) -> DenseLoss:
        """The loss Σ_i l(F_i) with its derivatives in the parameters, written out.

        For L = ‖F − Y‖²/n the two derivatives are 2(F − Y)/n and 2/n.

        Args:
            loss_slope: l'(F), of the outputs' shape.
            loss_curvature: l''(F), of the outputs' shape, or a number, or (n, c, c), a block a
                sample.

        Returns:
            Its derivatives, on flat parameter vectors.

        Raises:
            ValueError: a shape is another, or a number is not finite.
        """
        curvature = torch.as_tensor(loss_curvature, dtype=self.dtype, device=self.device)
        if loss_slope.shape != self.outputs.shape:
            raise ValueError(
                f"loss_slope has shape {tuple(loss_slope.shape)}; "
                f"it must be that of the outputs, {tuple(self.outputs.shape)}."
            )
        blocks = (*self.last.shape, self.last.shape[1])
        if curvature.ndim and curvature.shape not in (self.outputs.shape, blocks):
            raise ValueError(
                f"loss_curvature has shape {tuple(curvature.shape)}; it must be a number, or have "
                f"the outputs' shape, {tuple(self.outputs.shape)}, or that of blocks, {blocks}."
            )
        check_finite(loss_slope, "loss_slope")
        check_finite(curvature, "loss_curvature")
        return DenseLoss(
            self,
            loss_slope.detach().to(self.dtype).view_as(self.last),
            curvature if curvature.shape in ((), blocks) else curvature.view_as(self.last),
        )


def gauss_newton_matrix(gram: Tensor, loss_curvature: Tensor | float) -> Tensor:
    """S^½ M S^½ of a Gram matrix M and the loss's second derivatives S.

    The eigenvalues are the nonzero ones of the Gauss-Newton matrix J^T S J. For L = ‖F − Y‖²/n,
    S = 2/n gives Λ, which compares with 2/η.

    Args:
        gram: M, (N, N).
        loss_curvature: S, a number, or N of them, or (n, c, c) with n c = N, a block a sample.

    Returns:
        The matrix, (N, N).

    Raises:
        ValueError: S is negative or not finite, or does not go with M.
    """
    s = torch.as_tensor(loss_curvature, dtype=gram.dtype, device=gram.device)
    if s.ndim == 3:
        return _between_blocks(gram, s)
    s = s.reshape(-1)
    if bool((s < 0).any()) or not bool(torch.isfinite(s).all()):
        raise ValueError("loss_curvature holds a negative or non-finite number; it must be ≥ 0.")
    if s.numel() == 1:
        return gram * s
    if s.numel() != gram.shape[0]:
        raise ValueError(f"loss_curvature has {s.numel()} numbers; gram has {gram.shape[0]} rows.")
    if bool((s == s[0]).all()):
        return gram * s[0]
    root = s.sqrt()
    return gram * root[:, None] * root


def _between_blocks(gram: Tensor, blocks: Tensor) -> Tensor:
    root = block_root(blocks)
    n, c, _ = root.shape
    if n * c != gram.shape[0]:
        raise ValueError(
            f"loss_curvature has blocks {tuple(root.shape)}; gram has {gram.shape[0]} rows."
        )
    left = (root @ gram.view(n, c, -1)).view(n * c, n, c)
    scaled = (left.transpose(0, 1) @ root).transpose(0, 1).reshape(n * c, n * c)
    return (scaled + scaled.T) / 2


def _check_net(
    weights: Sequence[Tensor],
    names: Sequence[str],
    inputs: Tensor,
    biases: Sequence[Tensor] | None,
) -> None:
    if not weights:
        raise ValueError("weights is empty; a network needs at least one layer.")
    if len(names) != len(weights) - 1:
        raise ValueError(
            f"activation names {len(names)} layers; {len(weights) - 1} hidden layers need one each."
        )
    unknown = sorted(set(names) - set(ACTIVATIONS))
    if unknown:
        raise ValueError(f"activation is {unknown[0]!r}; allowed are {', '.join(ACTIVATIONS)}.")
    width = inputs.shape[1]
    for layer, weight in enumerate(weights):
        if weight.ndim != 2 or weight.shape[0] != width or weight.dtype != inputs.dtype:
            raise ValueError(
                f"weights[{layer}] is {tuple(weight.shape)} {weight.dtype}; its input has width "
                f"{width} and is {inputs.dtype} (inputs {tuple(inputs.shape)})."
            )
        check_finite(weight, f"weights[{layer}]")
        width = weight.shape[1]
    if biases is not None and [b.shape for b in biases] != [w.shape[1:] for w in weights]:
        raise ValueError("biases must be one (out,) tensor a layer; their shapes do not match.")
