"""A loss of a dense network: its gradient, Hessian products and third derivatives, written out."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sharpflow.curvature.linear_operator import LinearOperator

if TYPE_CHECKING:
    from sharpflow.curvature.dense_curvature import DenseCurvature

ThirdOfLoss = Callable[[Tensor, Tensor], Tensor]
"""l'''(F) along two directions of the outputs, (n, c) each: (n, c)."""
_KEPT = 8
"""Most directions whose passes are kept."""
_SPANNED = 100
"""What may lie outside of their span, in rounding units of the whole."""


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
        for layer in range(len(net.weights) - 1, 0, -1):
            self._backs.append(self.deltas[-1] @ net.weights[layer].T)
            self.deltas.append(self._backs[-1] * net.slopes[layer - 1])
        self.deltas.reverse()
        self._backs.reverse()
        self.shapes = [w.shape for w in net.weights]
        self._kept: _Kept | None = None

    @cached_property
    def _bends(self) -> list[Tensor]:
        """φ''(Z) of each hidden layer."""
        values = [self._values(layer) for layer in range(len(self._backs))]
        return [a.bend(*each) for a, each in zip(self.net.activations, values, strict=True)]

    @cached_property
    def _bent_backs(self) -> list[Tensor | None]:
        """(δ_{l+1} W_{l+1}ᵀ) ∘ φ''(Z_l) of each hidden layer; None where it is 0."""
        found = zip(self.net.activations, self._backs, self._bends, strict=True)
        return [back * bend if a.bent else None for a, back, bend in found]

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

    def hessian(self, keep: bool = False) -> LinearOperator:
        """∇²L, (P, P).

        Args:
            keep: whether third derivatives may take up what the first few products made of their
                vectors, which costs its memory: in the span of these vectors no pass of first order
                is made again.
        """
        kept = self._kept = _Kept() if keep else None

        def product(vectors: Tensor) -> Tensor:
            flat = vectors.T.contiguous() if vectors.ndim == 2 else vectors.contiguous()
            result = torch.empty_like(flat)
            passes = self._passes(flat, result, kept is not None and kept.open)
            if kept is not None:
                kept.add(flat, passes)
            return result.T if vectors.ndim == 2 else result

        return LinearOperator(self.net.size, product, self.net.dtype, self.net.device, product)

    def third_derivatives(self, directions: Tensor, third: ThirdOfLoss | None = None) -> Tensor:
        """∇(uᵢᵀ ∇²L uⱼ) for all pairs of k directions.

        They are quadratic in u, so that those of a pair follow from those of uᵢ, uⱼ and uᵢ + uⱼ.

        Args:
            directions: u₁ … u_k, (P, k).
            third: of the loss; None where it is zero, as that of the squared error.

        Returns:
            (k(k + 1)/2, P), for i ≤ j, in the order (1, 1), (1, 2), …, (1, k), (2, 2), …
        """
        net, weights = self.net, self.net.weights
        u = _Polarised(directions)
        result = torch.empty(len(u.rows), net.size, dtype=net.dtype, device=net.device)
        if not len(result):
            return result
        v = self._split(u.rows)[0]
        first = self._first_order(u)
        second = self._second_order(first.z, v)
        error1, error2 = self._curve(first.z[-1]), self._curve(second.outputs)
        if third is not None:
            error2 = error2 + torch.stack([third(each, each) for each in first.z[-1]])
        out, out_offset = self._split(result)
        for layer in range(len(weights) - 1, -1, -1):
            self._pull_back(layer, error2, out[layer], out_offset[layer])
            if layer == 0:
                break
            below, slope, delta = first.z[layer - 1], net.slopes[layer - 1], self.deltas[layer]
            back, back1 = self._backs[layer - 1], first.backs[layer - 1]
            _add(out[layer], second.features[layer - 1].mT, delta)
            _add(out[layer], second.slopes[layer - 1].mT, error1, 2.0)
            error2 = _add(error2 @ weights[layer].T, error1, v[layer].mT, 2.0).mul_(slope)
            bend, twist = self._bends[layer - 1], self._twist(layer - 1)
            turned = torch.mul(below, back * twist).addcmul_(back1, bend, value=2.0)
            error2.addcmul_(turned, below)
            if layer > 1:
                error2.addcmul_(second.z[layer - 1], back * bend)
                error1 = torch.mul(back1, slope).addcmul_(below, back * bend)
        return u.of_pairs(result)

    def _twist(self, layer: int) -> Tensor:
        """The third derivative of φ at Z, for a hidden layer."""
        return self.net.activations[layer].twist(*self._values(layer))

    def second_outputs(self, directions: Tensor) -> Tensor:
        """f''[uᵢ, uⱼ], the outputs' second derivatives along all pairs of k directions.

        Args:
            directions: u₁ … u_k, (P, k).

        Returns:
            (k(k + 1)/2, n, c), pairs in the order of `third_derivatives`.
        """
        u = _Polarised(directions)
        v, offset = self._split(u.rows)
        return u.of_pairs(self._second_order(self._forward(v, offset), v).outputs)

    def _first_order(self, u: "_Polarised") -> "FirstOrder":
        """What the passes have of first order along the rows of u."""
        kept = self._kept
        known = None if kept is None else kept.mixture(u.units)
        if kept is None or known is None:
            return self._passes(u.units).mixed(u.mixture)
        return kept.passes.mixed(u.mixture @ known)

    def _second_order(self, z: list[Tensor], v: list[Tensor]) -> "_SecondOrder":
        """What the forward pass has of second order along each of m directions, from the first."""
        found = _SecondOrder([], [], [], torch.zeros_like(z[-1]))
        for layer, (below, slope) in enumerate(zip(z, self.net.slopes, strict=False)):
            features = below.square().mul_(self._bends[layer])
            if layer > 0:
                found.z.append(found.outputs)
                features.addcmul_(found.outputs, slope)
            else:
                found.z.append(below[:, :0])
            found.features.append(features)
            found.slopes.append(below * slope)
            outputs = features @ self.net.weights[layer + 1]
            found.outputs = _add(outputs, found.slopes[-1], v[layer + 1], 2.0)
        return found

    def _forward(self, v: list[Tensor], offset: list[Tensor | None]) -> list[Tensor]:
        """What Z_l has along each direction, (m, n, width)."""
        net = self.net
        z: list[Tensor] = []
        for layer, matrix in enumerate(v):
            if layer == 0:
                z.append(net.inputs.times(matrix))
            else:
                inner, weight = z[-1] * net.slopes[layer - 1], net.weights[layer]
                z.append(_add(inner @ weight, net.features[layer], matrix))
            bias = offset[layer]
            if bias is not None:
                z[-1] += bias
        return z

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

    def _passes(
        self, rows: Tensor, product: Tensor | None = None, keep: bool = True
    ) -> "FirstOrder":
        """The passes along directions, and ∇²L times each where there is room for it.

        Args:
            rows: the directions, (m, P), or one, (P,).
            product: of the same shape, what the products are written to.
            keep: whether to keep what the backward pass makes, which else is written over.
        """
        weights = self.net.weights
        v, offset = self._split(rows)
        z = self._forward(v, offset)
        backs: list[Tensor] = []
        out, out_offset = ([], []) if product is None else self._split(product)
        error = self._curve(z[-1])
        for layer in range(len(v) - 1, -1, -1):
            if product is not None:
                self._pull_back(layer, error, out[layer], out_offset[layer])
            if layer == 0:
                break
            below, slope, delta = z[layer - 1], self.net.slopes[layer - 1], self.deltas[layer]
            if product is not None:
                _add(out[layer], (below * slope).mT, delta)
            back = _add(error @ weights[layer].T, delta, v[layer].mT)
            if keep:
                backs.append(back)
            if layer == 1 and product is None:
                break
            error = back * slope if keep else back.mul_(slope)
            bend = self._bent_backs[layer - 1]
            if bend is not None:
                error.addcmul_(bend, below)
        return FirstOrder(z, backs[::-1])


@dataclass(frozen=True)
class FirstOrder:
    """What the two passes have of first order along directions.

    Attributes:
        z: of Z_l along each direction, (m, n, width).
        backs: of δ_{l+1} W_{l+1}ᵀ for each hidden layer l, (m, n, width).
    """

    z: list[Tensor]
    backs: list[Tensor]

    def mixed(self, mixture: Tensor) -> "FirstOrder":
        """The same along mixtures (m', m) of the directions."""
        z, backs = ([torch.tensordot(mixture, t, 1) for t in ts] for ts in (self.z, self.backs))
        return FirstOrder(z, backs)

    def joined(self, other: "FirstOrder") -> "FirstOrder":
        """The same along these directions and others."""
        both = zip((self.z, self.backs), (other.z, other.backs), strict=True)
        z, backs = ([torch.cat(t) for t in zip(*each, strict=True)] for each in both)
        return FirstOrder(z, backs)


@dataclass
class _SecondOrder:
    """What the forward pass has of second order along directions.

    Attributes:
        z: of Z_l for each hidden layer, (m, n, width); that of Z_1 is 0, and no number is kept.
        features: of H_l, likewise.
        slopes: what H_l has of first order, likewise.
        outputs: of F, (m, n, c).
    """

    z: list[Tensor]
    features: list[Tensor]
    slopes: list[Tensor]
    outputs: Tensor


class _Kept:
    """Passes along the first few directions that came.

    Attributes:
        open: whether there is room for more; all is forgotten when there is not.
        passes: along the directions.
    """

    def __init__(self) -> None:
        self.open = True
        self.passes = FirstOrder([], [])
        self._rows: Tensor | None = None

    def add(self, rows: Tensor, passes: FirstOrder) -> None:
        """Note the passes along directions (b, P), or along one (P,)."""
        if not self.open:
            return
        if rows.ndim == 1:
            z, backs = ([t[None] for t in ts] for ts in (passes.z, passes.backs))
            rows, passes = rows[None], FirstOrder(z, backs)
        if self._rows is None:
            self._rows, self.passes = rows.clone(), passes  # a solver goes on with its own rows
        else:
            self._rows, self.passes = torch.cat([self._rows, rows]), self.passes.joined(passes)
        if len(self._rows) > _KEPT:
            self.open, self._rows, self.passes = False, None, FirstOrder([], [])

    def mixture(self, rows: Tensor) -> Tensor | None:
        """Of the kept directions, which gives others (m, P); None outside of their span."""
        basis = self._rows
        if basis is None:
            return None
        gram = (basis @ basis.T).double()
        left, found = rows, torch.zeros(len(rows), len(basis)).to(gram)
        for _ in range(2):  # the second time for what rounding left
            part = torch.linalg.lstsq(gram, (basis @ left.T).double()).solution.T
            left = torch.addmm(left, part.to(left), basis, alpha=-1.0)
            found += part
        allowed = _SPANNED * torch.finfo(rows.dtype).eps * rows.norm(dim=1)
        return found.to(rows) if bool((left.norm(dim=1) <= allowed).all()) else None


class _Polarised:
    """Quadratic forms of pairs of directions from those of single ones.

    2 T(uᵢ, uⱼ) = T(uᵢ + uⱼ) − T(uᵢ) − T(uⱼ), with u of length 1, so that rounding errors are those
    of the largest of the three.

    Args:
        directions: u₁ … u_k, (P, k).

    Attributes:
        units: the directions with length 1, (k, P).
        mixture: of these, each pair's sum, or the one itself where i = j, (k(k + 1)/2, k).
        rows: the sums, (k(k + 1)/2, P).
    """

    def __init__(self, directions: Tensor) -> None:
        count = directions.shape[1]
        self._pairs = list(combinations_with_replacement(range(count), 2))
        self._single = {i: place for place, (i, j) in enumerate(self._pairs) if i == j}
        lengths = directions.norm(dim=0)
        self._lengths = torch.where(lengths > 0, lengths, 1.0)
        self.units = (directions.T / self._lengths[:, None]).contiguous()
        eye = torch.eye(count, dtype=directions.dtype, device=directions.device)
        one, other = ([pair[side] for pair in self._pairs] for side in (0, 1))
        self.mixture = (eye[one] + eye[other]).clamp(max=1.0)
        self.rows = self.mixture @ self.units

    def of_pairs(self, forms: Tensor) -> Tensor:
        """T of the pairs from T of the rows, (k(k + 1)/2, …), in place."""
        for row, (i, j) in zip(forms, self._pairs, strict=True):
            if i != j:
                row.sub_(forms[self._single[i]]).sub_(forms[self._single[j]]).mul_(0.5)
        for row, (i, j) in zip(forms, self._pairs, strict=True):
            row.mul_(self._lengths[i] * self._lengths[j])
        return forms


def _add(target: Tensor, left: Tensor, right: Tensor, factor: float = 1.0) -> Tensor:
    """Add left @ right to the target in place; either may lack the block dimension."""
    if target.ndim == 2:
        return target.addmm_(left, right, alpha=factor)
    left, right = (each.expand(len(target), *each.shape[-2:]) for each in (left, right))
    return target.baddbmm_(left, right, alpha=factor)
