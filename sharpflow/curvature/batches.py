"""Batches of any kind: their tensors and their size, and how they are read."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence, Set
from contextlib import contextmanager
from copy import copy
from types import FunctionType
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """The tensors of a batch: itself, or those of a sequence or a mapping, in order."""
    if isinstance(batch, Tensor):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from tensors_of(value)
    elif isinstance(batch, Sequence) and not isinstance(batch, str):
        for value in batch:
            yield from tensors_of(value)


def changed(batch: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A batch of the same kind whose tensors are changed; itself where they are not."""
    if isinstance(batch, Tensor):
        return change(batch)
    if isinstance(batch, Mapping):
        parts = {name: changed(each, change) for name, each in batch.items()}
        if all(parts[name] is each for name, each in batch.items()):
            return batch
        if isinstance(batch, MutableMapping):
            other = copy(batch)
            other.update(parts)
            return other
        return parts
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        parts = [changed(each, change) for each in batch]
        if all(new is old for new, old in zip(parts, batch, strict=True)):
            return batch
        if isinstance(batch, tuple):  # a named one takes its fields
            return type(batch)(*parts) if hasattr(batch, "_fields") else tuple(parts)
        return parts
    return batch


def change_rows(batch: Any, count: int, change: Callable[[Tensor], Tensor]) -> Any:
    """A batch whose tensors with `count` rows are changed, in the order of `tensors_of`."""
    return changed(batch, lambda t: change(t) if t.ndim and len(t) == count else t)


def batch_size(batch: Any) -> int:
    """Number of samples: rows of the batch's first tensor that has any dimension.

    Raises:
        ValueError: it holds no such tensor.
    """
    return _lengths(batch)[0]


def _lengths(batch: Any) -> list[int]:
    """Rows of each of a batch's tensors that has any dimension; ValueError where there is none."""
    found = [len(tensor) for tensor in tensors_of(batch) if tensor.ndim]
    if not found:
        raise ValueError(
            f"a batch of type {type(batch).__name__} holds no tensor with a row a sample; give "
            "weight, a function of a batch."
        )
    return found


def check_alike(place: int, batch: Any, before: list[int], why: str) -> list[int]:
    """Lengths of a batch's tensors, which have to be those of the batches before it.

    All of them: with time in front the first tensor's says nothing of the number of samples, which
    `batch_size` takes it for.

    Args:
        place: of the batch, from 1 on.
        batch: of any kind.
        before: lengths of the batch before; empty for the first.
        why: what depends on them.

    Raises:
        ValueError: they differ, or as for `batch_size`.
    """
    found = _lengths(batch)
    if before and found != before:
        raise ValueError(
            f"batch {place} has {_rows(found)} and those before it {_rows(before)}: {why}; leave a "
            "shorter last one out (drop_last=True)."
        )
    return found


def _rows(lengths: list[int]) -> str:
    if len(set(lengths)) == 1:
        return f"{lengths[0]} samples"
    return f"tensors of {', '.join(map(str, lengths))} rows"


def read(batches: Iterable[Any]) -> Iterator[Any]:
    """The batches, as autograd takes them.

    A `DataLoader` draws random numbers whenever it is read; those of the caller are not spent. The
    caller's states are back whenever it has a batch, so that it may leave off at any.
    """
    if type(batches) in (list, tuple):  # which draw nothing
        yield from read_once(batches)
        return
    reader, states, end = read_once(batches), None, object()
    while True:
        with generators_kept(batches):
            if states is not None:
                _set_states(batches, states)
            batch = next(reader, end)
            states = _states(batches)
        if batch is end:
            return
        yield batch


_States = tuple[Any, Any, Tensor, Tensor | None]


def _states(batches: Iterable[Any]) -> _States:
    """Where the generators are that a loader draws from."""
    own = getattr(batches, "generator", None)
    kept = own.get_state() if isinstance(own, torch.Generator) else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), kept  # noqa: NPY002


def _set_states(batches: Iterable[Any], states: _States) -> None:
    python, legacy, cpu, kept = states
    random.setstate(python)
    np.random.set_state(legacy)  # noqa: NPY002
    torch.set_rng_state(cpu)
    own = getattr(batches, "generator", None)
    if isinstance(own, torch.Generator) and kept is not None:
        own.set_state(kept)


def read_once(batches: Iterable[Any]) -> Iterator[Any]:
    """The batches, as autograd takes them; what a loader draws for that is spent."""
    with torch.inference_mode(False):  # tensors made inside it have no autograd
        ahead = iter(batches)
    while True:
        with torch.inference_mode(False):
            try:
                batch = next(ahead)
            except StopIteration:
                return
            if any(t.is_inference() for t in tensors_of(batch)):
                batch = changed(batch, torch.clone)
        yield batch


@contextmanager
def generators_kept(batches: Iterable[Any]) -> Iterator[None]:
    """Afterwards all generators that a loader draws from are where they were before."""
    states = _states(batches)
    try:
        yield
    finally:
        _set_states(batches, states)


def marks_of(batch: Any, otherwise: Callable[[], float] | None = None) -> list[float]:
    """Numbers that tell batches apart.

    Of each tensor its size, sum and a weighted sum; of arrays, texts and numbers a checksum; looked
    into are sequences, mappings, and the attributes of objects.

    Args:
        batch: of any kind.
        otherwise: gives a number that stands for what cannot be looked into.
    """
    marks: list[float] = []
    closed = False
    for held in _contents(batch):
        if isinstance(held, Tensor):
            flat = held.detach().reshape(-1).double().nan_to_num(0.0, 1.0, -1.0)
            ramp = torch.linspace(1, 2, len(flat), dtype=torch.float64, device=flat.device)
            marks += [float(len(flat)), float(flat.sum()), float(flat @ ramp)]
        elif isinstance(held, bytes):
            marks += [float(len(held)), float(crc32(held))]
        else:
            closed = True
    if closed and otherwise is not None:
        marks.append(otherwise())
    return marks


def _contents(held: Any, within: tuple[int, ...] = ()) -> Iterator[Tensor | bytes | None]:
    """The tensors, and the bytes, of which something is made; None for what is neither.

    `within`: the ids of what it stands in, so that an end is come to.
    """
    if held is None or id(held) in within or isinstance(held, type | FunctionType | nn.Module):
        return
    parts: Iterable[Any] = ()
    if isinstance(held, Tensor):
        yield held if held.layout is torch.strided and not held.is_nested else None
    elif isinstance(held, str | bytes | int | float | complex | np.generic):
        yield repr(held).encode()
    elif hasattr(held, "__array__"):
        array = np.asarray(held)
        if array.dtype.hasobject:
            parts = array.ravel().tolist()
        else:
            yield array.tobytes()
    elif isinstance(held, Mapping):
        parts = held.values()
    elif isinstance(held, Sequence | Set):
        parts = held
    else:
        slots = [s for kind in type(held).__mro__ for s in getattr(kind, "__slots__", ())]
        own = [getattr(held, slot) for slot in slots if hasattr(held, slot)]
        parts = own = [*own, *getattr(held, "__dict__", {}).values()]
        if not own:
            yield None
    for part in parts:
        yield from _contents(part, (*within, id(held)))
