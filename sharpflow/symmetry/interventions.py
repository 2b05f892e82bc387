"""What a network calls that breaks symmetries, seen while it runs, and put right where told."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sharpflow.symmetry.probe import LOW

_CURVED = frozenset(
    (
        "tanh",
        "sigmoid",
        "gelu",
        "silu",
        "elu",
        "celu",
        "selu",
        "softplus",
        "mish",
        "hardtanh",
        "hardswish",
        "hardsigmoid",
        "log_sigmoid",
        "softsign",
        "tanhshrink",
        "softshrink",
        "hardshrink",
        "erf",
        "sin",
        "cos",
        "threshold",
    )
)
"""Functions of one number that are not positively homogeneous."""
_EPS = {
    "layer_norm": 4,
    "group_norm": 4,
    "rms_norm": 3,
    "batch_norm": 7,
    "instance_norm": 7,
}
"""Normalisations, and where their ε stands among the arguments."""
_NO_EPS = 1e-30  # batch norm refuses 0
_CASTS = ("float", "half", "bfloat16")

Key = tuple[str, str, int]
Change = Callable[[Any, tuple, dict[str, Any]], tuple[Any, tuple, dict[str, Any]]]


@dataclass(frozen=True)
class Cause:
    """Something that may break a symmetry.

    Attributes:
        what: it, in words: a function, an ε, a constant.
        module: path of the module that calls it; empty for the network itself.
    """

    what: str
    module: str

    def __str__(self) -> str:
        return f"{self.what} in '{self.module}'" if self.module else self.what


class Watch(TorchFunctionMode):
    """Sees the calls of a network, in double precision, and puts some of them right.

    A function that is not homogeneous becomes one that is, an ε or an added constant zero.

    Args:
        model: the network.
        repaired: keys of the calls that are put right.
        params: the parameters that the network will read, by name.
        tracing: whether the `traces` are taken.

    Attributes:
        causes: calls on what depends on parameters that could be put right, by key, in their order.
        times: when each of them was, counted in calls.
        uses: when each parameter was used.
        traces: two numbers of what each call that could be put right was given.
    """

    def __init__(
        self,
        model: nn.Module,
        repaired: frozenset[Key] = frozenset(),
        params: Mapping[str, Tensor] | None = None,
        tracing: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.repaired = model, repaired
        self.causes: dict[Key, Cause] = {}
        self.times: dict[Key, int] = {}
        self.uses: dict[str, list[int]] = {}
        self.traces: dict[Key, tuple[float, float]] = {}
        self._tracing = tracing
        self._names = {id(value): name for name, value in (params or {}).items()}
        self._time = 0
        self._path: list[str] = []
        self._calls: dict[tuple[str, str], int] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of PyTorch, or what stands for it."""
        given = {name: _double(value) for name, value in (kwargs or {}).items()}
        args = tuple(_double(value) for value in args)
        name = getattr(func, "__name__", "")
        self._time += 1
        if self._names:
            for value in (*args, *given.values()):
                for each in value if isinstance(value, list | tuple) else (value,):
                    if id(each) in self._names:
                        self.uses.setdefault(self._names[id(each)], []).append(self._time)
        if name in _CASTS and args and isinstance(args[0], Tensor):
            return args[0].double()
        path = self._path[-1] if self._path else ""
        repairs = list(_repairs(name, args, given))
        if not repairs:
            return func(*args, **given)
        nth = self._calls[path, name] = self._calls.get((path, name), -1) + 1
        for what, change in repairs:
            key = (path, f"{name}: {what}", nth)
            if args[0].requires_grad:
                self.causes[key], self.times[key] = Cause(what, path), self._time
            if self._tracing:
                given_it = args[0].detach()
                self.traces[key] = float(given_it.sum()), float(given_it.norm())
            if key in self.repaired:
                func, args, given = change(func, args, given)
        return func(*args, **given)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within, the network's calls are seen; its hooks are afterwards what they were."""

        def enter(name: str) -> Callable[..., None]:
            return lambda *_: self._path.append(name)

        def leave(*_: Any) -> None:
            self._path.pop()

        handles = []
        for name, module in self.model.named_modules():
            handles += [
                module.register_forward_pre_hook(enter(name)),
                module.register_forward_hook(leave, always_call=True),
            ]
        try:
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()


def _double(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in LOW else value


def _repairs(name: str, args: tuple, kwargs: dict[str, Any]) -> Iterator[tuple[str, Change]]:
    """What a call breaks symmetries by, and how it is changed not to."""
    if not args or not isinstance(args[0], Tensor) or not args[0].is_floating_point():
        return
    if name.removesuffix("_") in _CURVED:
        straight = F.leaky_relu_ if name.endswith("_") else F.leaky_relu
        yield name.removesuffix("_"), lambda _, args, __: (straight, (args[0], 0.5), {})
    fixed = name == "batch_norm" and not _argument(args, kwargs, 5, "training")
    if name in _EPS and not fixed:  # beside a fixed variance ε is a constant factor
        eps = _argument(args, kwargs, _EPS[name], "eps")
        if eps is not None and eps > _NO_EPS:
            yield f"ε = {eps:g} of {name}", _putting(_EPS[name], "eps", _NO_EPS)
    if fixed:
        mean = _argument(args, kwargs, 1, "running_mean")
        if mean is not None and bool(mean.any()):
            yield "the running mean of batch_norm", _putting(1, "running_mean", 0 * mean)
    constant = args[1] if len(args) == 2 and not kwargs else None
    if name in ("add", "__add__", "__radd__") and isinstance(constant, float) and constant:
        yield f"the constant {constant:g} added", _putting(1, "other", 0.0)


def _argument(args: tuple, kwargs: dict[str, Any], place: int, name: str) -> Any:
    return args[place] if len(args) > place else kwargs.get(name)


def _putting(place: int, name: str, value: Any) -> Change:
    """A change of one argument."""

    def change(func: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[Any, tuple, dict[str, Any]]:
        if len(args) > place:
            return func, (*args[:place], value, *args[place + 1 :]), kwargs
        return func, args, {**kwargs, name: value}

    return change
