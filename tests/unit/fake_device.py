"""A device `fake` that is not the CPU, for tests where there is no GPU.

It takes PyTorch's place for a backend of one's own (PrivateUse1), written in Python: each of its
tensors holds one of the CPU, on which its operations are computed. What a GPU refuses it refuses:
an operation on tensors of two devices, a generator of the CPU's for numbers drawn on the device,
`.numpy()`. The numbers are the CPU's, to the last bit.

It is registered for the whole process when this module is imported, which pytest does before the
first test runs; the automatic differentiation of PyTorch counts the devices once. Outside
`available()` it says that it is not there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "fake"
_PACKET = torch.ops.aten
_ACROSS = {_PACKET.copy_.default, _PACKET._to_copy.default}
_INDEXED = {
    _PACKET.index.Tensor,
    _PACKET.index_put.default,
    _PACKET.index_put_.default,
    _PACKET._index_put_impl_.default,
    _PACKET._unsafe_index.Tensor,
}


class _State:
    available = False
    free = 2**30
    total = 2**31
    reads = 0


STATE = _State()


class _Module:
    """What `torch.get_device_module("fake")` gives."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return STATE.available

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return int(STATE.available)

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """The device draws the CPU's numbers."""

    def get_rng_state(self, device: Any = None) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    def mem_get_info(self, device: Any = None) -> tuple[int, int]:
        return STATE.free, STATE.total

    def get_device_name(self, device: Any = None) -> str:
        return "fake device"

    def synchronize(self, device: Any = None) -> None:
        """Nothing is under way."""


class _Hooks(torch._C._acc.PrivateUse1Hooks):  # pyright: ignore[reportAttributeAccessIssue]
    def is_available(self) -> bool:
        return STATE.available

    def has_primary_context(self, dev_id: int) -> bool:
        return True

    def is_built(self) -> bool:
        return True


_setup_privateuseone_for_python_backend(NAME, backend_module=_Module(), hook=_Hooks())
_DEVICE = torch.device(NAME, 0)


class OnDevice(Tensor):
    """A tensor of the device; `held` is the one of the CPU behind it."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnDevice":
        made = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=_DEVICE,
        )
        made.held = held
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnDevice({self.held!r})"

    @classmethod
    def __torch_dispatch__(  # pyright: ignore
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(func, args, kwargs or {})


def _check(func: Any, leaves: list[Any]) -> None:
    if func in _ACROSS or func in _INDEXED:
        return
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    strangers = [t for t in tensors if not isinstance(t, OnDevice) and t.ndim > 0]
    if strangers and any(isinstance(t, OnDevice) for t in tensors):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but {func} got {_DEVICE} and cpu"
        )
    if any(isinstance(leaf, torch.Generator) for leaf in leaves):
        raise RuntimeError(
            f"Expected a {NAME!r} device type for generator but found 'cpu' in {func}"
        )


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    leaves, form = tree_flatten((args, kwargs))
    _check(func, leaves)
    if func is _PACKET._local_scalar_dense.default:
        STATE.reads += 1
    wrappers = {id(leaf.held): leaf for leaf in leaves if isinstance(leaf, OnDevice)}
    wanted = kwargs.get("device")
    own = wanted is None or torch.device(wanted).type == NAME
    plain, named = tree_unflatten(
        [leaf.held if isinstance(leaf, OnDevice) else leaf for leaf in leaves], form
    )
    if wanted is not None:
        named["device"] = torch.device("cpu")
    if func is _PACKET.copy_.default and not isinstance(args[0], OnDevice):
        func(*plain, **named)
        return args[0]
    found = func(*plain, **named)

    def wrapped(value: Any) -> Any:
        if not isinstance(value, Tensor) or not own:
            return value
        known = wrappers.get(id(value))
        if known is not None:
            assert known.shape == value.shape, f"{func} changes the shape in place"
            return known
        return OnDevice(value)

    return tree_map(wrapped, found)


_LIBRARY = torch.library.Library("aten", "IMPL")


def _factory(name: str) -> None:
    packet, _, overload = name.partition(".")
    # a zero without memory is one that the keys below a Python device do not know
    source = "zeros" if packet == "_efficientzerotensor" else packet
    func = getattr(getattr(_PACKET, source), overload or "default")

    def make(*args: Any, **kwargs: Any) -> Tensor:
        return OnDevice(func(*args, **{**kwargs, "device": torch.device("cpu")}))

    _LIBRARY.impl(name, make, "PrivateUse1")


# those whose size is not known before they are filled would change that of a tensor in place
for _name in (
    "_efficientzerotensor",
    "arange",
    "arange.start",
    "arange.start_step",
    "empty.memory_format",
    "empty_strided",
    "eye",
    "eye.m",
    "linspace",
    "tril_indices",
    "triu_indices",
):
    _factory(_name)


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    """`torch.tensor(numbers, device="fake")` copies where no Python is asked."""
    return _run(_PACKET.copy_.default, (target, source), {})


_LIBRARY.impl("_copy_from", _copy_from, "PrivateUse1")


@contextmanager
def available(free: int = 2**30, total: int = 2**31) -> Iterator[str]:
    """The device is there, with so many bytes free; gives its name."""
    STATE.available, STATE.free, STATE.total = True, free, total
    try:
        yield NAME
    finally:
        STATE.available = False
