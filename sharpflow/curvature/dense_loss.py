"""A loss of a dense network: its gradient, Hessian products and third derivatives, written out."""

from collections.abc import Callable
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sharpflow.curvature.linear_operator import LinearOperator

if TYPE_CHECKING:
    from sharpflow.curvature.dense_curvature import DenseCurvature

ThirdOfLoss = Callable[[Tensor, Tensor], Tensor]
"""l'''(F) along two directions of the outputs, (n, c) each: (n, c)."""


class DenseLoss:
    """L = Σ_i l(F_i) of a dense network at one state; what does not depend on vectors is kept.

    With δ_l = ∂L/∂Z_l the gradient is H_{l−1}ᵀ δ_l. Products with the Hessian are its derivative
    along a vector (Pearlmutter 1994), third derivatives that along two: the forward and the
    backward pass with what each tensor has of first and second order along the directions.

    Args:
        net: the network.
        slope: l'(F), (n, c).
        curvature: l''(F): a number, (n, c), or (n, c, c).

    Attributes:
        deltas: δ_l of each layer, (n, width).
    """

    def __init__(self, net: "DenseCurvature", slope: Tensor, curvature: Tensor) -> None:
        self.net = net
        self.curvature = curvature
        self.deltas = [slope]
        self._backs: list[Tensor] = []
        self._bends: list[Tensor | None] = []
        for layer in range(len(net.weights) - 1, 0, -1):
            back = self.deltas[-1] @ net.weights[layer].T
            bend = back * self._of_activation(layer - 1).bend(*self._values(layer - 1))
            self._backs.append(back)
            self._bends.append(bend if bool(bend.any()) else None)
            self.deltas.append(back * net.slopes[layer - 1])
        for each in (self.deltas, self._backs, self._bends):
            each.reverse()
        self.shapes = [w.shape for w in net.weights]

    def _of_activation(self, layer: int):
        return self.net.activations[layer]

    def _values(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Z, φ(Z) and φ'(Z) of a hidden layer."""
        net = self.net
        return net.preactivations[layer], net.features[layer + 1], net.slopes[layer]

    def gradient(self) -> Tensor:
        """∇L, (P,)."""
        net = self.net
        result = torch.empty(net.size, dtype=net.dtype, device=net.device)
        out, out_offset = self._split(result)
        for layer, delta in enumerate(self.deltas):
            self._pull_back(layer, delta, out[layer], out_offset[layer])
        return result

    def hessian(self) -> LinearOperator:
        """∇²L, (P, P)."""
        net = self.net
        return LinearOperator(net.size, self._vector, net.dtype, net.device, self._block)

    def third_derivatives(self, directions: Tensor, third: ThirdOfLoss | None = None) -> Tensor:
        """∇(uᵢᵀ ∇²L uⱼ) for all pairs of k directions.

        Args:
            directions: u₁ … u_k, (P, k).
            third: of the loss; None where it is zero, as that of the squared error.

        Returns:
            (k(k + 1)/2, P), for i ≤ j, in the order (1, 1), (1, 2), …, (1, k), (2, 2), …
        """
        net, weights = self.net, self.net.weights
        pairs = list(combinations_with_replacement(range(directions.shape[1]), 2))
        result = torch.empty(len(pairs), net.size, dtype=net.dtype, device=net.device)
        if not pairs:
            return result
        v, offset = self._split(directions.T.contiguous())
        z1, h1, z2, h2, bends = self._forward(v, offset, pairs)
        depth = len(weights)
        # Backward.
        error1 = self._curve(z1[-1])
        zero = z1[-1].new_zeros(len(pairs), *z1[-1].shape[1:])
        error2 = self._curve(zero if z2[-1] is None else z2[-1])
        if third is not None:
            error2 = error2 + torch.stack([third(z1[-1][i], z1[-1][j]) for i, j in pairs])
        out, out_offset = self._split(result)
        for layer in range(depth - 1, -1, -1):
            self._pull_back(layer, error2, out[layer], out_offset[layer])
            if layer == 0:
                break
            for index, (i, j) in enumerate(pairs):
                target = out[layer][index]
                target.addmm_(h2[layer - 1][index].T, self.deltas[layer])
                if i == j:
                    target.addmm_(h1[layer - 1][i].T, error1[i], alpha=2.0)
                else:
                    target.addmm_(h1[layer - 1][i].T, error1[j])
                    target.addmm_(h1[layer - 1][j].T, error1[i])
            across = weights[layer].T
            back1 = (error1 @ across).add_(self.deltas[layer] @ v[layer].mT)
            back2 = error2 @ across
            _add_mixed(back2, pairs, error1, v[layer].mT)
            below, slope = z1[layer - 1], net.slopes[layer - 1]
            bend, back = bends[layer - 1], self._backs[layer - 1]
            turned = below * bend
            error2 = back2.mul_(slope)
            twist = back * self._of_activation(layer - 1).twist(*self._values(layer - 1))
            scratch = torch.empty_like(twist)
            for row, (i, j) in zip(error2, pairs, strict=True):
                if i == j:
                    row.addcmul_(back1[i], turned[i], value=2.0)
                else:
                    row.addcmul_(back1[i], turned[j]).addcmul_(back1[j], turned[i])
                row.addcmul_(torch.mul(below[i], below[j], out=scratch), twist)
            inner = z2[layer - 1]
            if inner is not None:
                error2.addcmul_(inner, back * bend)
            error1 = back1.mul_(slope).addcmul_(turned, back)
        return result

    def second_outputs(self, directions: Tensor) -> Tensor:
        """f''[uᵢ, uⱼ], the outputs' second derivatives along all pairs of k directions.

        Args:
            directions: u₁ … u_k, (P, k).

        Returns:
            (k(k + 1)/2, n, c), pairs in the order of `third_derivatives`.
        """
        pairs = list(combinations_with_replacement(range(directions.shape[1]), 2))
        if not pairs:
            return self.net.last.new_zeros(0, *self.net.last.shape)
        z1, _, z2, _, _ = self._forward(*self._split(directions.T.contiguous()), pairs)
        last = z2[-1]
        return z1[-1].new_zeros(len(pairs), *self.net.last.shape) if last is None else last

    def _forward(
        self, v: list[Tensor], offset: list[Tensor | None], pairs: list[tuple[int, int]]
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor | None], list[Tensor], list[Tensor]]:
        """What Z_l and H_l have along each direction, (k, n, width), and along each pair; φ''.

        Z_1 has nothing along pairs, and there stands None.
        """
        net, weights = self.net, self.net.weights
        z1: list[Tensor] = []
        h1: list[Tensor] = []
        z2: list[Tensor | None] = []
        h2: list[Tensor] = []
        bends: list[Tensor] = []
        for layer in range(len(weights)):
            if layer == 0:
                once, twice = net.inputs.times(v[0]), None
            else:
                once = (net.features[layer] @ v[layer]).add_(h1[-1] @ weights[layer])
                twice = h2[-1] @ weights[layer]
                _add_mixed(twice, pairs, h1[-1], v[layer])
            bias = offset[layer]
            if bias is not None:
                once += bias
            z1.append(once)
            z2.append(twice)
            if layer == len(weights) - 1:
                break
            values = self._values(layer)
            bends.append(self._of_activation(layer).bend(*values))
            h1.append(once * net.slopes[layer])
            mixed = once.new_empty(len(pairs), *once.shape[1:])
            for row, (i, j) in zip(mixed, pairs, strict=True):
                torch.mul(once[i], once[j], out=row)
            mixed.mul_(bends[-1])
            h2.append(mixed if twice is None else mixed.addcmul_(twice, net.slopes[layer]))
        return z1, h1, z2, h2, bends

    def _curve(self, outputs: Tensor) -> Tensor:
        """l''(F) times directions of the outputs, (…, n, c)."""
        if self.curvature.ndim == 3:
            return (self.curvature @ outputs.unsqueeze(-1)).squeeze(-1)
        return outputs * self.curvature

    def _pull_back(self, layer: int, error: Tensor, out: Tensor, out_bias: Tensor | None) -> None:
        """Write H_{l−1}ᵀ times the errors of a layer, and for the bias their sum."""
        net = self.net
        if out_bias is not None:
            torch.sum(error, dim=-2, keepdim=True, out=out_bias)
        if layer == 0:
            net.inputs.transposed_times(error, out)
        else:
            torch.matmul(net.features[layer].T, error, out=out)

    def _split(self, flat: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
        """Views (…, in, out) and (…, 1, out) of flat vectors (…, P)."""
        lead, position = flat.shape[:-1], 0
        matrices, offsets = [], []
        for rows, columns in self.shapes:
            matrices.append(
                flat[..., position : position + rows * columns].view(*lead, rows, columns)
            )
            position += rows * columns
            if self.net.biases is None:
                offsets.append(None)
            else:
                offsets.append(flat[..., position : position + columns].view(*lead, 1, columns))
                position += columns
        return matrices, offsets

    def _vector(self, vector: Tensor) -> Tensor:
        """(P,) to (P,)."""
        return self._apply(vector.contiguous())

    def _block(self, vectors: Tensor) -> Tensor:
        """(P, b) to (P, b)."""
        return self._apply(vectors.T.contiguous()).T

    def _apply(self, flat: Tensor) -> Tensor:
        net = self.net
        v, offset = self._split(flat)
        depth = len(v)
        # Forward: derivative of every Z_l and H_l in the direction v.
        dz: list[Tensor] = []
        dh: list[Tensor] = []  # of H_1 on: the inputs stay
        for layer in range(depth):
            if layer == 0:
                d = net.inputs.times(v[0])
            else:
                d = _multiply_add(net.features[layer] @ v[layer], dh[-1], net.weights[layer])
            bias = offset[layer]
            if bias is not None:
                d += bias
            if layer < depth - 1:
                dz.append(d)
                dh.append(d * net.slopes[layer])
        # Backward: derivative of every δ_l, and of the gradients H_{l-1}^T δ_l.
        result = torch.empty_like(flat)
        out, out_offset = self._split(result)
        if self.curvature.ndim == 3:
            error = (self.curvature @ d.unsqueeze(-1)).squeeze(-1)
        else:
            error = d.mul_(self.curvature)
        for layer in range(depth - 1, -1, -1):
            out_bias = out_offset[layer]
            if out_bias is not None:
                torch.sum(error, dim=-2, keepdim=True, out=out_bias)
            if layer == 0:
                net.inputs.transposed_times(error, out[0])
                break
            gradient = net.features[layer].T @ error
            out[layer].copy_(_multiply_add(gradient, dh[layer - 1].mT, self.deltas[layer]))
            back = _multiply_add(error @ net.weights[layer].T, self.deltas[layer], v[layer].mT)
            error = back.mul_(net.slopes[layer - 1])
            bend = self._bends[layer - 1]
            if bend is not None:
                error.addcmul_(bend, dz[layer - 1])
        return result


def _add_mixed(target: Tensor, pairs: list[tuple[int, int]], first: Tensor, second: Tensor) -> None:
    """Add first_i @ second_j + first_j @ second_i to the row of each pair."""
    for row, (i, j) in zip(target, pairs, strict=True):
        if i == j:
            row.addmm_(first[i], second[i], alpha=2.0)
        else:
            row.addmm_(first[i], second[j])
            row.addmm_(first[j], second[i])


def _multiply_add(target: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Add left @ right to the target in place; either factor may lack the block dimension."""
    if target.ndim == 2:
        return target.addmm_(left, right)
    return target.add_(left @ right)
