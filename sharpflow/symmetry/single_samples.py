"""Inner products of the gradients of single samples, read off one backward pass over many.

Where a parameter meets its inputs in a linear map, a convolution or a normalisation, the gradient
of one sample is made of what went in and the gradient of what came out, which the backward pass of
the whole batch has. Both are read from its graph, so that it does not matter which module, if any,
makes the call.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from operator import add
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import Node
from torch.nn import functional as F

from sharpflow.curvature.graphs import nodes_of
from sharpflow.symmetry.shared_units import Slots

_HELD = 2**20
"""Numbers of single samples' gradients that are held at a time."""


@dataclass(frozen=True)
class OuterProducts:
    """Gradients Σₜ left ⊗ right of a parameter at n samples.

    Attributes:
        left: (n, T, p), p the length of the parameter's first dimension.
        right: (n, T, q), q the number of its other entries.
        shape: of the parameter.
    """

    left: Tensor
    right: Tensor
    shape: tuple[int, ...]

    def sizes(self) -> Tensor:
        """(n,), what the norms of the gradients are at most."""
        return (self.left.norm(dim=-1) * self.right.norm(dim=-1)).sum(1)

    def dense(self, samples: slice = slice(None)) -> Tensor:
        """The gradients (n, *shape) of some samples."""
        return (self.left[samples].mT @ self.right[samples]).reshape(-1, *self.shape)

    def grams(self, asked: Sequence[tuple[Slots, bool]]) -> list[Tensor]:
        """Inner products of the units' rows, summed over samples, each the cheaper way.

        Args:
            asked: places of units, and whether the products of different units are wanted.

        Returns:
            (units,), or (units, units), for each.
        """
        found: dict[int, Tensor] = {}
        left = []
        for place, (slots, full) in enumerate(asked):
            if self._through_positions(slots):
                found[place] = self._of_positions(slots, full)
            else:
                left.append(place)
        size = max(1, _HELD // math.prod(self.shape))
        for start in range(0, len(self.left) if left else 0, size):
            values = self.dense(slice(start, start + size))
            for place in left:
                slots, full = asked[place]
                part = _gram_of_rows(slots, full, values)
                found[place] = found[place] + part if place in found else part
        return [found[place] for place in range(len(asked))]

    def _through_positions(self, slots: Slots) -> bool:
        """Whether the products of positions are fewer than the entries of the gradients."""
        positions = self.left.shape[1]
        if slots.groups > 1 or slots.axis not in (-len(self.shape), 1 - len(self.shape)):
            return False
        columns = self.left.shape[-1] + self.right.shape[-1]
        return positions == 1 or positions * columns < math.prod(self.shape)

    def _of_positions(self, slots: Slots, full: bool) -> Tensor:
        outer = slots.axis == -len(self.shape)
        near = _columns(self.left if outer else self.right, _spread(slots, self.shape))
        if near.shape[1] == 1:
            far = self.right if outer else self.left
            weighed = near * far.square().sum(-1, keepdim=True)
        else:
            weighed = (self._right_pairs if outer else self._left_pairs) @ near
        units = len(slots.entries)
        if not full:
            return (near * weighed).sum((0, 1)).reshape(units, -1).sum(-1)
        rows = [t.flatten(0, 1).unflatten(1, (units, -1)).movedim(1, 0) for t in (near, weighed)]
        return rows[0].flatten(1) @ rows[1].flatten(1).mT

    @cached_property
    def _left_pairs(self) -> Tensor:
        return self.left @ self.left.mT

    @cached_property
    def _right_pairs(self) -> Tensor:
        return self.right @ self.right.mT


@dataclass(frozen=True)
class Gradients:
    """Gradients (n, *shape) of a parameter at n samples."""

    values: Tensor

    def sizes(self) -> Tensor:
        """(n,), the norms of the gradients."""
        return self.values.reshape(len(self.values), -1).norm(dim=1)

    def dense(self, samples: slice = slice(None)) -> Tensor:
        """The gradients of some samples."""
        return self.values[samples]

    def grams(self, asked: Sequence[tuple[Slots, bool]]) -> list[Tensor]:
        """As for `OuterProducts`."""
        return [_gram_of_rows(slots, full, self.values) for slots, full in asked]


@dataclass(frozen=True)
class Blocks:
    """Outer products that are made for a few samples at a time.

    Attributes:
        make: those of some samples.
        slopes: (n, …), gradients of what came out.
        size: samples at a time.
    """

    make: Callable[[slice], OuterProducts]
    slopes: Tensor
    size: int

    def sizes(self) -> Tensor:
        """(n,), of the gradients of what came out, for the outer products are dear."""
        return self.slopes.flatten(1).norm(dim=1)

    def dense(self, samples: slice = slice(None)) -> Tensor:
        """The gradients of some samples."""
        return self.make(samples).dense()

    def grams(self, asked: Sequence[tuple[Slots, bool]]) -> list[Tensor]:
        """As for `OuterProducts`."""
        starts = range(0, len(self.slopes), self.size)
        parts = [self.make(slice(start, start + self.size)).grams(asked) for start in starts]
        return [reduce(add, grams) for grams in zip(*parts, strict=True)]


SampleGradients = OuterProducts | Gradients | Blocks


@dataclass(frozen=True)
class Use:
    """A place in a graph where a parameter meets its inputs.

    Attributes:
        node: which takes the parameter.
        read: of the gradient of the node's output, the number of samples, and whether they are the
            first dimension (or the second): the samples' gradients; None where it has not that
            form.
    """

    node: Node
    read: Callable[[Tensor, int, bool], SampleGradients | None]


class Uses:
    """All uses of some parameters in the graph of a value, and what a backward pass shows at them.

    Args:
        value: a scalar.
        leaves: the parameters that it was made with, by name.
    """

    def __init__(self, value: Tensor, leaves: Mapping[str, Tensor]) -> None:
        names = {id(leaf): name for name, leaf in leaves.items()}
        self._leaves = leaves
        self._uses: dict[str, list[Use | None]] = {name: [] for name in leaves}
        for node in nodes_of([value]):
            if node.name() == "TBackward0":
                continue
            for place, (behind, _) in enumerate(node.next_functions):
                turned = behind is not None and behind.name() == "TBackward0"
                end = behind.next_functions[0][0] if turned and behind is not None else behind
                name = names.get(id(getattr(end, "variable", None)))
                if name is not None:
                    self._uses[name].append(_use(node, place, turned, leaves[name]))
        self._seen: dict[Node, Tensor] = {}

    def gradients(self, value: Tensor) -> dict[str, Tensor]:
        """Gradients of the value in the parameters, by name, after which the uses can be read."""
        nodes = {use.node for uses in self._uses.values() for use in uses if use is not None}
        handles = [node.register_prehook(partial(self._keep, node)) for node in nodes]
        try:
            found = torch.autograd.grad(
                value, list(self._leaves.values()), allow_unused=True, materialize_grads=True
            )
        finally:
            for handle in handles:
                handle.remove()
        return dict(zip(self._leaves, found, strict=True))

    def _keep(self, node: Node, gradients: Sequence[Tensor | None]) -> None:
        if gradients[0] is not None:
            self._seen[node] = gradients[0].detach()

    def samples(self, name: str, count: int, first: bool) -> SampleGradients | None:
        """Gradients of `count` samples' parts of the value in a parameter.

        Args:
            name: of the parameter.
            count: n.
            first: whether samples are the first dimension of what comes out of linear maps, or the
                second, behind positions.

        Returns:
            None where it is used in a way that is not read.
        """
        parts = []
        for use in self._uses[name]:
            if use is None:
                return None
            if use.node not in self._seen:  # the value does not depend on it there
                continue
            part = use.read(self._seen[use.node], count, first)
            if part is None:
                return None
            parts.append(part)
        leaf = self._leaves[name]
        if not parts:
            return Gradients(torch.zeros(count, *leaf.shape, dtype=leaf.dtype, device=leaf.device))
        if len(parts) == 1:
            return parts[0]
        outer = [part for part in parts if isinstance(part, OuterProducts)]
        if len(outer) == len(parts):
            left, right = (torch.cat([getattr(p, s) for p in outer], 1) for s in ("left", "right"))
            return replace(outer[0], left=left, right=right)
        return Gradients(reduce(add, (part.dense() for part in parts)))


def _use(node: Node, place: int, turned: bool, leaf: Tensor) -> Use | None:
    make = _READERS.get((node.name(), place, turned))
    read = make(node, leaf) if make else None
    return Use(node, read) if read else None


Reader = Callable[[Tensor, int, bool], SampleGradients | None]


def _linear(turned: bool, matrix: str) -> Callable[[Any, Tensor], Reader | None]:
    """Of `inputs @ weight.T` (turned), or `inputs @ weight`."""

    def make(node: Any, leaf: Tensor) -> Reader | None:
        inputs = getattr(node, matrix)
        if inputs is None or getattr(node, "_saved_alpha", 1) != 1:
            return None

        def read(slope: Tensor, count: int, first: bool) -> SampleGradients | None:
            out, into = (_split(t, 1, count, first) for t in (slope, inputs))
            if out is None or into is None:
                return None
            left, right = (out, into) if turned else (into, out)
            return OuterProducts(left, right, tuple(leaf.shape))

        return read

    return make


def _split(tensor: Tensor, kept: int, count: int, first: bool) -> Tensor | None:
    """(n, T, …) of a tensor whose leading dimensions are samples and positions; None if it cannot.

    Args:
        tensor: any.
        kept: dimensions at the end that are neither.
        count: n.
        first: whether samples come before positions.
    """
    tail = tensor.shape[tensor.ndim - kept :]
    size = math.prod(tensor.shape[: tensor.ndim - kept])
    if size % count or (not first and size == count):
        return None
    if first:
        return tensor.reshape(count, size // count, *tail)
    return tensor.reshape(size // count, count, *tail).transpose(0, 1)


def _added(node: Any, leaf: Tensor) -> Reader | None:
    """Of a vector that is added to the last dimension."""
    if leaf.ndim != 1 or getattr(node, "_saved_alpha", 1) != 1:
        return None
    if getattr(node, "_saved_beta", 1) != 1:
        return None

    def read(slope: Tensor, count: int, first: bool) -> SampleGradients | None:
        if slope.shape[-1:] != leaf.shape:
            return None
        rows = _split(slope, 1, count, first)
        return None if rows is None else Gradients(rows.sum(1))

    return read


def _layer_norm(weight: bool) -> Callable[[Any, Tensor], Reader | None]:
    def make(node: Any, leaf: Tensor) -> Reader | None:
        mean, scale, inputs = node._saved_result1, node._saved_result2, node._saved_input

        def read(slope: Tensor, count: int, first: bool) -> SampleGradients | None:
            parts = slope * ((inputs - mean) * scale) if weight else slope
            rows = _split(parts, leaf.ndim, count, first)
            return None if rows is None else Gradients(rows.sum(1))

        return read

    return make


def _channels(weight: bool, normal: Callable[[Any], Tensor]) -> Callable[[Any, Tensor], Reader]:
    """Of a normalisation whose channels are the second dimension, behind the samples."""

    def make(node: Any, leaf: Tensor) -> Reader:
        inputs = normal(node) if weight else None

        def read(slope: Tensor, count: int, first: bool) -> SampleGradients | None:
            if not first or len(slope) != count:
                return None
            parts = slope if inputs is None else slope * inputs.reshape(slope.shape)
            return Gradients(parts.reshape(count, len(leaf), -1).sum(-1))

        return read

    return make


def _group_normal(node: Any) -> Tensor:
    inputs = node._saved_input
    grouped = inputs.reshape(node._saved_N, node._saved_group, -1)
    mean, scale = (t[..., None] for t in (node._saved_result1, node._saved_result2))
    return ((grouped - mean) * scale).reshape(inputs.shape)


def _batch_normal(node: Any) -> Tensor:
    if node._saved_training:
        mean, scale = node._saved_result1, node._saved_result2
    else:
        mean = node._saved_running_mean
        scale = (node._saved_running_var + node._saved_eps).rsqrt()
    inputs = node._saved_input
    shape = (1, -1, *(1 for _ in inputs.shape[2:]))
    return (inputs - mean.reshape(shape)) * scale.reshape(shape)


def _convolution(node: Any, leaf: Tensor) -> Reader | None:
    """Of a convolution in one or two dimensions: patches of its inputs against what came out."""
    if node._saved_transposed or leaf.ndim not in (3, 4):
        return None
    inputs, groups = node._saved_input, node._saved_groups
    stride, padding, dilation = (
        tuple(getattr(node, f"_saved_{each}")) for each in ("stride", "padding", "dilation")
    )
    kernel = tuple(leaf.shape[2:])
    if leaf.ndim == 3:
        inputs, kernel = inputs.unsqueeze(2), (1, *kernel)
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)

    def read(slope: Tensor, count: int, first: bool) -> SampleGradients | None:
        if not first or len(slope) != count:
            return None
        out = slope.flatten(2)

        def unfolded(samples: slice) -> Tensor:  # (n, c k, T)
            return F.unfold(inputs[samples], kernel, dilation, padding, stride)

        if groups == 1:
            held = math.prod(leaf.shape[1:]) * out.shape[2]
            return Blocks(
                lambda s: OuterProducts(out[s].mT, unfolded(s).mT, tuple(leaf.shape)),
                out,
                max(1, 8 * _HELD // held),
            )
        left, right = (t.unflatten(1, (groups, -1)) for t in (out, unfolded(slice(None))))
        return Gradients((left @ right.mT).reshape(count, *leaf.shape))

    return read


def _convolution_bias(node: Any, leaf: Tensor) -> Reader:
    def read(slope: Tensor, count: int, first: bool) -> SampleGradients | None:
        return Gradients(slope.flatten(2).sum(2)) if first and len(slope) == count else None

    return read


_READERS: dict[tuple[str, int, bool], Callable[[Any, Tensor], Reader | None]] = {
    ("MmBackward0", 1, True): _linear(True, "_saved_self"),
    ("MmBackward0", 1, False): _linear(False, "_saved_self"),
    ("AddmmBackward0", 2, True): _linear(True, "_saved_mat1"),
    ("AddmmBackward0", 2, False): _linear(False, "_saved_mat1"),
    ("AddmmBackward0", 0, False): _added,
    ("AddBackward0", 0, False): _added,
    ("AddBackward0", 1, False): _added,
    ("ConvolutionBackward0", 1, False): _convolution,
    ("ConvolutionBackward0", 2, False): _convolution_bias,
    ("NativeLayerNormBackward0", 1, False): _layer_norm(True),
    ("NativeLayerNormBackward0", 2, False): _layer_norm(False),
    ("NativeGroupNormBackward0", 1, False): _channels(True, _group_normal),
    ("NativeGroupNormBackward0", 2, False): _channels(False, _group_normal),
    ("NativeBatchNormBackward0", 1, False): _channels(True, _batch_normal),
    ("NativeBatchNormBackward0", 2, False): _channels(False, _batch_normal),
}
"""By the name of a node, the place among its inputs, and whether the parameter is transposed."""


def _spread(slots: Slots, shape: tuple[int, ...]) -> Tensor:
    """(units, r), the columns of a slot's side of an `OuterProducts`."""
    behind = math.prod(shape[2:]) if slots.axis == 1 - len(shape) else 1
    if behind == 1:
        return slots.entries
    return (slots.entries[..., None] * behind + torch.arange(behind)).flatten(1)


def _columns(tensor: Tensor, entries: Tensor) -> Tensor:
    places = entries.flatten()
    if len(places) == tensor.shape[-1] and torch.equal(places, torch.arange(len(places))):
        return tensor
    return tensor.index_select(-1, places.to(tensor.device))


def _gram_of_rows(slots: Slots, full: bool, values: Tensor) -> Tensor:
    rows = slots.rows(values)  # (n, units, k)
    if not full:
        return rows.square().sum((0, 2))
    flat = rows.movedim(1, 0).flatten(1)
    return flat @ flat.mT
