"""Losses as functions of parameters in autograd: what they read, and their second derivatives."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from sharpflow.curvature.linear_operator import check_dtype, check_finite

Parameters = Mapping[str, Tensor]
_MISSING = (
    "not implemented",
    "double backward",
    "differentiate twice",
    "once_differentiable",
    "cudnn RNN backward",
    "compatible with .grad()",
)
"""Parts of what autograd says where a second derivative is missing."""


class Leaves:
    """Copies of the parameters that carry gradients; one tensor under two names is one leaf."""

    def __init__(self, params: Parameters) -> None:
        if not params:
            raise ValueError("params is empty; curvature needs at least one parameter tensor.")
        kinds = {(p.dtype, p.device) for p in params.values()}
        if len(kinds) > 1:
            found = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
            raise ValueError(f"params mixes {found}; all must share one dtype and one device.")
        ((self.dtype, self.device),) = kinds
        check_dtype(self.dtype, "params")
        self.names = {id(parameter): name for name, parameter in params.items()}
        unique: dict[int, Tensor] = {}
        self.by_name: dict[str, Tensor] = {}
        for name, parameter in params.items():
            check_finite(parameter.detach(), f"params[{name!r}]")
            if id(parameter) not in unique:
                with torch.inference_mode(False):  # a clone made inside has no autograd
                    unique[id(parameter)] = parameter.detach().clone().requires_grad_()
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

    def check_graph(self, value: Tensor, what: str) -> None:
        """Check that the graph of `value` comes from the leaves.

        A function that reads a parameter itself, and not the tensor that it is given for it, has a
        curvature that this module cannot see.

        Raises:
            ValueError: it has no graph, comes from no leaf, or from what a leaf is a copy of.
        """
        if not value.requires_grad:
            raise ValueError(
                f"{what} has no graph: it detaches its parameters, computes without autograd, or "
                "depends on none of them."
            )
        ours = {id(leaf) for leaf in self.tensors}
        used = False
        for variable in _leaves_of(value):
            if id(variable) in self.names:
                raise ValueError(
                    f"{what} reads {self.names[id(variable)]!r} itself and not the tensor that it "
                    "is given for it, so that its curvature would be left out; use the given "
                    "parameters (torch.func.functional_call(model, params, inputs))."
                )
            used = used or id(variable) in ours
        if not used:
            raise ValueError(
                f"{what} depends on none of the parameters that it is given; use them "
                "(torch.func.functional_call(model, params, inputs))."
            )

    def flatten(self, parts: Sequence[Tensor | None]) -> Tensor:
        """The flat vector of parts; None stands for zeros."""
        pairs = zip(parts, self.tensors, strict=True)
        return torch.cat(
            [(torch.zeros_like(t) if p is None else p.detach()).reshape(-1) for p, t in pairs]
        )

    def pull_back(self, sources: list[Tensor], weights: list[Tensor]) -> Tensor:
        """Flat gradient of <sources, weights> with respect to the leaves; the graph is kept."""
        if not sources:
            return torch.zeros(self.total, dtype=self.dtype, device=self.device)
        return self.flatten(
            torch.autograd.grad(
                sources, self.tensors, weights, retain_graph=True, allow_unused=True
            )
        )


def _leaves_of(value: Tensor) -> Iterator[Tensor]:
    """The leaf tensors that a value's graph comes from."""
    if value.grad_fn is None:
        yield value
        return
    seen, ahead = {value.grad_fn}, [value.grad_fn]
    while ahead:
        node = ahead.pop()
        variable = getattr(node, "variable", None)
        if isinstance(variable, Tensor):
            yield variable
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                ahead.append(following)


@contextmanager
def second_derivatives() -> Iterator[None]:
    """Say in a sentence what autograd says of a function without a second derivative."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        text = str(error).splitlines()[0]
        if any(words in text for words in _MISSING):
            raise ValueError(
                f"something that the loss calls has no second derivative in autograd ({text}); "
                "replace it by an equivalent of differentiable operations."
            ) from error
        raise


class _Host(nn.Module):
    """Calls a function while `functional_call` has changed the parameters of a module."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], Any]) -> Any:
        return compute()


def at_parameters(model: nn.Module, params: Parameters, compute: Callable[[], Any]) -> Any:
    """What `compute()` gives while a module has other parameters, and copies of its buffers.

    Whatever reads the module's parameters meanwhile, a penalty in a loss say, reads `params`.
    """
    state = {f"model.{name}": buffer.clone() for name, buffer in model.named_buffers()}
    state |= {f"model.{name}": parameter for name, parameter in params.items()}
    return functional_call(_Host(model), _by_place(model, state), (compute,), tie_weights=False)


def _by_place(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state at every place that one of its tensors stands at in a module.

    A tied tensor stands at several. A module that is used twice is one place: under two names
    `functional_call` would not put back what it had.
    """
    tensors = (model.named_parameters, model.named_buffers)
    held = [pair for each in tensors for pair in each(remove_duplicate=False)]
    given = {id(t): state[f"model.{name}"] for name, t in held if f"model.{name}" in state}
    found = {}
    for prefix, module in model.named_modules(prefix="model"):
        for kind in (module.named_parameters, module.named_buffers):
            for place, tensor in kind(prefix, recurse=False, remove_duplicate=False):
                if id(tensor) in given:
                    found[place] = given[id(tensor)]
    return found


def check_dependence(function: Callable[[dict[str, Tensor]], Tensor], params: Parameters) -> None:
    """Check that a function reads the parameters that it is given, and no others of theirs.

    Raises:
        ValueError: its value has no graph, depends on none of them, or on what they are copies of.
    """
    leaves = Leaves(params)
    with graph_mode():
        leaves.check_graph(function(dict(leaves.by_name)), "the loss")


@contextmanager
def graph_mode() -> Iterator[None]:
    """Autograd on, whatever stands around the call, and attention that has a second derivative."""
    with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield
