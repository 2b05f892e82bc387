"""Losses as functions of parameters in autograd: what they read, and their second derivatives."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from traceback import walk_tb
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize

from sharpflow.curvature.linear_operator import check_dtype, check_finite
from sharpflow.devices import warn_of_reduced_products
from sharpflow.errors import first_line

Parameters = Mapping[str, Tensor]
Inside = Callable[[dict[str, Tensor], Callable[[], Any]], Any]
_MISSING = (
    "derivative for ",
    "double backward",
    "differentiate twice",
    "once_differentiable",
    "compatible with .grad()",
    "isDifferentiableType",  # EmbeddingBag with weights, in PyTorch 2.5
)
"""Parts of what autograd says where a second derivative is missing."""
_ENDS = {
    "torch::autograd::Error": "a function is marked once_differentiable",
    "CompiledFunctionBackward": "a function or module is compiled: take it as it was before",
}
"""Nodes of a graph that has no second derivative behind them, and why."""
_CUDNN = "cudnn RNN backward can only be called in training mode"
_HALF = (torch.float16, torch.bfloat16)
_PRECISIONS = re.compile("half|bfloat16|float|double")
"""Two of them stand in what PyTorch says where tensors of different precision meet."""


def refuse_half(dtype: torch.dtype, argument: str) -> None:
    """Raise ValueError, which names the way out, where `dtype` is half precision."""
    if dtype in _HALF:
        raise ValueError(
            f"{argument} is {dtype}; curvature is measured in torch.float32 or torch.float64 only: "
            "dtype=torch.float32 measures copies of the model and its data in that precision."
        )


_NO_SECOND = (
    "something that the loss calls has no second derivative in autograd ({}); replace it by an "
    "equivalent of differentiable operations, or measure by differences of gradients: "
    'products="differences".'
)

_NO_BACKWARD = (
    "a function that the loss calls raises {} in its backward: write it, of differentiable "
    "operations; where only the backward of its backward is missing, differences of gradients do "
    'without: products="differences".'
)


CHANGED = (
    "the model was changed since this operator was made, in parameters that do not vary in it "
    "(that `only` leaves out, or that are frozen), of which it has no copies: make it again."
)

_MARK = "_sharpflow_leaf"


def as_leaf(tensor: Tensor) -> Tensor:
    """A tensor of our own as a leaf of graphs, marked as one of ours."""
    setattr(tensor, _MARK, True)
    return tensor.requires_grad_()


class Leaves:
    """Copies of the parameters that carry gradients; one tensor under two names is one leaf.

    Args:
        params: the parameters.
        dtype: of the copies; by default that of the parameters.

    Raises:
        TypeError: they are no mapping.
        ValueError: there are none, they hold NaN or infinity, mix dtypes or devices, or are in half
            precision and `dtype` is not given.
    """

    def __init__(self, params: Parameters, dtype: torch.dtype | None = None) -> None:
        if not isinstance(params, Mapping):
            raise TypeError(
                f"params is a {type(params).__name__}; it must be a mapping of names to tensors, "
                "such as dict(model.named_parameters()), and the loss a function of one."
            )
        if not params:
            raise ValueError("params is empty; curvature needs at least one parameter tensor.")
        for name, parameter in params.items():
            if parameter.is_complex():
                raise ValueError(
                    f"params[{name!r}] is {parameter.dtype}, and curvature is in real parameters: "
                    "hold real and imaginary parts as one real parameter, torch.view_as_real(w), "
                    "and let forward read torch.view_as_complex of it."
                )
        kinds = {(p.dtype if dtype is None else dtype, p.device) for p in params.values()}
        if len(kinds) > 1:
            found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
            raise ValueError(
                f"params mixes {found}; all must share one dtype and one device "
                "(dtype=torch.float32 measures copies in that one)."
            )
        ((self.dtype, self.device),) = kinds
        refuse_half(self.dtype, "params")
        check_dtype(self.dtype, "params")
        warn_of_reduced_products(self.device, self.dtype)
        self.names = {id(parameter): name for name, parameter in params.items()}
        unique: dict[int, Tensor] = {}
        self.by_name: dict[str, Tensor] = {}
        for name, parameter in params.items():
            check_finite(parameter.detach(), f"params[{name!r}]")
            if id(parameter) not in unique:
                with torch.inference_mode(False):  # a clone made inside has no autograd
                    copy = parameter.detach().to(self.dtype, copy=True)
                    unique[id(parameter)] = as_leaf(copy)
            self.by_name[name] = unique[id(parameter)]
        self.tensors = list(unique.values())
        self.sizes = [leaf.numel() for leaf in self.tensors]
        self.total = sum(self.sizes)
        if self.total == 0:
            raise ValueError("params holds no number; curvature needs at least one.")

    def split(self, vector: Tensor) -> list[Tensor]:
        """Parts of a flat vector, each of its leaf's shape."""
        parts = vector.split(self.sizes)
        return [part.view(t.shape) for part, t in zip(parts, self.tensors, strict=True)]

    def moved(self, direction: list[Tensor], step: float) -> tuple[dict[str, Tensor], list[Tensor]]:
        """New leaves at a step along a direction: by name, and in order."""
        there = [
            as_leaf(t.detach().add(d, alpha=step))
            for t, d in zip(self.tensors, direction, strict=True)
        ]
        place = {id(t): i for i, t in enumerate(self.tensors)}
        return {name: there[place[id(t)]] for name, t in self.by_name.items()}, there

    def check_graph(self, value: Tensor, what: str) -> None:
        """Check that the graph of `value` comes from the leaves, and is in their precision.

        A function that reads a parameter itself, and not the tensor that it is given for it, has a
        curvature that this module cannot see.

        Raises:
            ValueError: it has no graph, comes from no leaf, or from what a leaf is a copy of; or
                something in it is in half precision.
        """
        if not value.requires_grad:
            raise ValueError(
                f"{what} has no graph: it detaches its parameters, computes without autograd, or "
                "depends on none of them."
            )
        ours = {id(leaf) for leaf in self.tensors}
        used, half = value.grad_fn is None and id(value) in ours, ""
        for node in nodes_of([value]):
            for kind in node._input_metadata:
                if getattr(kind, "dtype", None) in _HALF:
                    half = half or f"{kind.dtype} inside ({node.name()})"
            variable = getattr(node, "variable", None)
            if id(variable) in self.names:
                raise ValueError(
                    f"{what} reads {self.names[id(variable)]!r} itself and not the tensor that it "
                    "is given for it, so that its curvature would be left out; use the given "
                    "parameters (torch.func.functional_call(model, params, inputs))."
                )
            if getattr(variable, _MARK, False) and id(variable) not in ours:
                raise ValueError(
                    f"{what} uses a tensor that was made of the parameters in an earlier call and "
                    "kept (a weight merged or cached in forward), so that its curvature would be "
                    "left out: let forward make it anew in every call, and empty what holds it."
                )
            used = used or id(variable) in ours
        if not used:
            raise ValueError(
                f"{what} depends on none of the parameters that it is given; use them "
                "(torch.func.functional_call(model, params, inputs))."
            )
        if half:
            raise ValueError(
                f"{what} computes in {half}, whatever the precision of its parameters, so that its "
                "derivatives have two or three digits; measure it without torch.autocast, and "
                "without casts in forward."
            )

    def flatten(self, parts: Sequence[Tensor | None]) -> Tensor:
        """The flat vector of parts; None stands for zeros."""
        return self._one(parts).detach()

    def joined(self, parts: Sequence[Tensor | None]) -> GradientEdge | None:
        """Where the graph of parts begins, joined to one flat vector; None where none has one.

        It holds the graph, and not the numbers of the vector.
        """
        if not any(p is not None and p.requires_grad for p in parts):
            return None
        return get_gradient_edge(self._one(parts))

    def _one(self, parts: Sequence[Tensor | None]) -> Tensor:
        pieces, offset = [], 0
        for part, like in zip(parts, self.tensors, strict=True):
            piece = (torch.zeros_like(like) if part is None else dense(part)).reshape(-1)
            if piece.requires_grad and offset % 2 and like.shape[-1:] == (2,):
                piece.register_hook(torch.clone)  # view_as_complex takes no odd storage offsets
            pieces.append(piece)
            offset += len(piece)
        return torch.cat(pieces)

    def pull_back(self, source: Tensor | GradientEdge | None, weights: Tensor) -> Tensor:
        """Flat gradient of <source, weights> with respect to the leaves; the graph is kept."""
        if source is None:
            return torch.zeros(self.total, dtype=self.dtype, device=self.device)
        return self.flatten(
            torch.autograd.grad(source, self.tensors, weights, retain_graph=True, allow_unused=True)
        )


def length_of(tensors: Iterable[Tensor]) -> float:
    """‖θ‖ of parameters in parts, summed in float64."""
    return float(torch.stack([t.detach().double().norm() for t in tensors]).norm())


def dense(gradient: Tensor) -> Tensor:
    """A gradient that may be sparse, as that of an embedding, as a dense tensor."""
    return gradient.to_dense() if gradient.is_sparse else gradient


def nodes_of(values: Iterable[Tensor]) -> Iterator[Node]:
    """The nodes of the graph of some values, each once."""
    seen = {value.grad_fn for value in values if value.grad_fn is not None}
    ahead = list(seen)
    while ahead:
        node = ahead.pop()
        yield node
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                ahead.append(following)


def check_scalar(value: Any) -> None:
    """Raise ValueError unless `value` is a tensor with one number."""
    if not isinstance(value, Tensor) or value.numel() != 1:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"loss returned {shape}; it must return a tensor with one number.")


@contextmanager
def second_derivatives() -> Iterator[None]:
    """Say in a sentence what autograd says of a function without a second derivative."""
    try:
        yield
    except RuntimeError as error:  # a NotImplementedError is one
        text = first_line(error)
        if _CUDNN in text:
            raise ValueError(
                f"{text}: call model.train() where that draws no random numbers, or measure within "
                "torch.backends.cudnn.flags(enabled=False), where recurrent nets have second "
                "derivatives too."
            ) from error
        if "modified by an inplace operation" in text:
            raise ValueError(CHANGED) from error
        if any(words in text for words in _MISSING):
            raise ValueError(_NO_SECOND.format(text)) from error
        if isinstance(error, NotImplementedError) and _in_backward(error):
            raise ValueError(_NO_BACKWARD.format(text)) from error
        raise


def _in_backward(error: BaseException) -> bool:
    """Whether an error comes from the backward of a function that is written in Python."""
    frames = (frame for frame, _ in walk_tb(error.__traceback__))
    return any(frame.f_code.co_qualname == "BackwardCFunction.apply" for frame in frames)


def differentiable_gradients(
    value: Tensor, tensors: Sequence[Tensor], weights: Tensor | None = None
) -> list[Tensor | None]:
    """Gradients of <value, weights> that can be differentiated again; None where it has no part.

    Where a function is differentiable once, or compiled, the graph of its gradient ends there, in a
    node that fails when it is reached, which it is not on the way to the parameters, or in nothing:
    what lies behind would be left out.

    Args:
        value: of any shape.
        tensors: that it is differentiated in.
        weights: of the shape of `value`; may be left out for a scalar.

    Raises:
        ValueError: the graph has such an end.
    """
    found = torch.autograd.grad(value, tensors, weights, create_graph=True, allow_unused=True)
    for node in nodes_of([value, *(each for each in found if each is not None)]):
        if node.name() in _ENDS:
            raise ValueError(_NO_SECOND.format(_ENDS[node.name()]))
    return list(found)


@contextmanager
def one_precision() -> Iterator[None]:
    """Say in a sentence what PyTorch says where tensors of different precision meet."""
    try:
        yield
    except RuntimeError as error:
        text = first_line(error)
        if len(set(_PRECISIONS.findall(text.lower()))) > 1:
            raise ValueError(
                f"the loss mixes precisions ({text}): dtype=torch.float32 or torch.float64 gives "
                "parameters, buffers and data the same; what forward casts or makes itself has to "
                "follow them, as in x.to(self.weight.dtype)."
            ) from error
        raise


@contextmanager
def in_modes(modes: Sequence[tuple[nn.Module, bool]]) -> Iterator[None]:
    """Within, the training flags of modules, and nothing else of theirs, are the given ones."""
    before = [(module, module.training) for module, _ in modes]
    try:
        for module, training in modes:
            module.training = training
        yield
    finally:
        for module, training in before:
            module.training = training


def at_parameters(
    model: nn.Module,
    params: Parameters,
    compute: Callable[[], Any],
    dtype: torch.dtype | None = None,
    buffers: Mapping[int, Tensor] | None = None,
) -> Any:
    """What `compute()` gives while a module has other parameters, and copies of its buffers.

    The copies are of `buffers`, by the ids of the module's own, where those are given. Whatever
    reads the module's parameters meanwhile, a penalty in a loss say, reads `params`. With `dtype`,
    all of its parameters and buffers that are floating point have that one.
    """
    places: list[tuple[dict[str, Any], str, Tensor, str]] = [
        (tensors, key, held, f"{path}.{key}" if path else key)
        for path, module in model.named_modules(remove_duplicate=False)
        for tensors in (module._parameters, module._buffers)
        for key, held in tensors.items()
        if held is not None
    ]
    # a tied tensor stands at several places, and under one of its names in `params`
    given = {id(held): params[name] for *_, held, name in places if name in params}
    known = buffers or {}
    given = {id(own): known.get(id(own), own).clone() for own in model.buffers()} | given
    filled = [
        (module._buffers, {key for key, held in module._buffers.items() if held is not None})
        for module in model.modules()
    ]
    try:
        for tensors, key, held, _ in places:
            now = given.get(id(held), held if dtype is None else held.detach())
            tensors[key] = cast(now, dtype)
        with _nothing_cached():
            return compute()
    finally:
        for tensors, key, held, _ in places:
            tensors[key] = held
        for own, held_before in filled:  # one that was None may have been filled
            for key in [k for k, now in own.items() if now is not None]:
                if key not in held_before:
                    own[key] = None


@contextmanager
def _nothing_cached() -> Iterator[None]:
    """Within, `parametrize.cached` of the caller neither gives tensors nor keeps ours."""
    depth, parametrize._cache_enabled = parametrize._cache_enabled, 0
    try:
        yield
    finally:
        parametrize._cache_enabled = depth


@contextmanager
def attributes_kept(model: nn.Module) -> Iterator[None]:
    """Afterwards no module has tensors with a graph that its forward left there meanwhile."""
    before = [(vars(module), dict(vars(module))) for module in model.modules()]
    try:
        yield
    finally:
        for now, then in before:
            for key, value in list(now.items()):
                new = (
                    isinstance(value, Tensor) and value.requires_grad and then.get(key) is not value
                )
                if new and key in then:
                    now[key] = then[key]
                elif new:
                    del now[key]


def cast(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A floating-point tensor in another precision; itself where it has it, or is of integers."""
    return tensor if dtype is None or not tensor.is_floating_point() else tensor.to(dtype)


def check_dependence(
    function: Callable[[dict[str, Tensor]], Tensor],
    params: Parameters,
    dtype: torch.dtype | None = None,
    second: bool = True,
) -> None:
    """Check that a function reads the parameters that it is given, and no others of theirs.

    Args:
        function: of the parameters.
        params: the parameters.
        dtype: of the copies that it is given.
        second: as for `graph_mode`.

    Raises:
        ValueError: its value has no graph, depends on none of them, or on what they are copies of.
    """
    leaves = Leaves(params, dtype)
    with graph_mode(second):
        leaves.check_graph(function(dict(leaves.by_name)), "the loss")


@contextmanager
def graph_mode(second: bool = True) -> Iterator[None]:
    """Autograd on, whatever stands around the call.

    Args:
        second: whether attention is to have a second derivative, which the fast kernels have not.
    """
    attention = sdpa_kernel(SDPBackend.MATH) if second else nullcontext()
    with torch.inference_mode(False), torch.enable_grad(), attention, _nothing_cached():
        yield
