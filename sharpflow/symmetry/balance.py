"""The noise balance of any model: what gradient noise does to the charges of its symmetries."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from sharpflow.curvature.batch_loss import BatchLoss
from sharpflow.curvature.batches import batch_size as size_of
from sharpflow.curvature.batches import read
from sharpflow.curvature.model_loss import check_data, check_loss
from sharpflow.curvature.streamed_loss import Forward, check_form
from sharpflow.symmetry.charge_laws import (
    Sgd,
    SymmetryNoise,
    charge_drift,
    equilibrium_charge,
    keeps,
    relaxation_steps,
)
from sharpflow.symmetry.modules import Inputs, Symmetries, find_symmetries
from sharpflow.symmetry.noise_moments import NO_BATCH, NoiseMoments
from sharpflow.symmetry.shared_units import Symmetry
from sharpflow.symmetry.tables import Table, total

_AT_A_TIME = 256
"""Samples of inputs with targets whose graph is held at once, unless that is told."""
_FEW = 16
"""Samples that symmetries are found on."""


@dataclass(frozen=True, eq=False)
class NoiseBalance(Table):
    """The noise of every symmetry of a model; printed, a table.

    Attributes:
        symmetries: what moves the charges of each.
        draws: samples that the noise was measured on, or batches where it is that of whole ones.
        batch_size: of these batches; None for samples.
        sgd: how the model is trained, where that was told.
    """

    symmetries: tuple[SymmetryNoise, ...]
    draws: int
    batch_size: int | None
    sgd: Sgd | None

    def rows(self) -> list[dict[str, Any]]:
        """A row a symmetry.

        Returns:
            By column: `name`, `kind`, `units`; `charge`, `noise_out` and `noise_in`, summed over
            units; `imbalance`; and where it is known how the model is trained, `drift` a step and
            `equilibrium` of the sum of the charges, and the median of `steps`, in which a small
            distance from there shrinks by e: NaN where the symmetry does not keep the loss, or has
            a number on both sides.
        """
        return [_row(each, self.sgd) for each in self.symmetries]

    @property
    def title(self) -> str:
        """How many symmetries, what their noise was measured on, and which have no equilibrium."""
        drawn = f"{self.draws} samples"
        if self.batch_size is not None:
            drawn = f"{self.draws} batches of {self.batch_size}"
        title = f"Noise balance of {len(self.symmetries)} symmetries, from {drawn}"
        broken = [
            each.symmetry.name
            for each in self.symmetries
            if self.sgd is not None and not keeps(each, self.sgd)
        ]
        if broken:
            title += f"; no equilibrium where the loss is not kept, along {', '.join(broken)}"
        crossed = [each.symmetry.name for each in self.symmetries if each.symmetry.crossing]
        if crossed and self.sgd is not None:
            title += f"; none told where units move each other's, along {', '.join(crossed)}"
        return title


@torch.inference_mode(False)  # tensors made inside it have no autograd
def noise_balance(
    model: nn.Module,
    loss_fn: Callable[..., Tensor],
    inputs: Any,
    targets: Tensor | None = None,
    *,
    symmetries: Sequence[Symmetry] | None = None,
    sgd: Sgd | None = None,
    forward: Forward | None = None,
    whole_batches: bool = False,
    micro_batch: int | None = None,
    correction: int = 1,
    dtype: torch.dtype | None = None,
) -> NoiseBalance:
    """Charges, gradient noise and equilibrium of each symmetry of a model, from one pass.

    Gradients of single samples are read off the backward pass of many, in linear layers (also
    inside attention), convolutions and normalisations; in other parameters they are computed one by
    one. In each part of the data some are compared with the gradient of that sample alone.

    Where batch norm uses the statistics of its batch, a sample has no gradient of its own. Then the
    gradients of whole batches are taken, and the noise of a sample is S times their covariance.
    Nothing of the model is changed, and no random state.

    Args:
        model: any module.
        loss_fn: `loss_fn(model(inputs), targets)`, the mean over samples. Without targets
            `loss_fn(model, batch)`, or with `forward` `loss_fn(outputs, batch)`; a loss of
            `torch.nn` reads batches that are pairs (inputs, targets).
        inputs: (n, …), or a tuple of such; without targets an iterable of batches, read once.
        targets: (n, …), or None.
        symmetries: of the model; by default those that `find_symmetries` finds, on the first
            samples.
        sgd: how the model is trained: gives drifts, equilibria and times.
        forward: `forward(model, batch)` gives the outputs of a batch.
        whole_batches: whether to take the gradients of whole batches where samples have their own.
            Inputs with targets are then cut into batches of `sgd`'s size, in a random order that is
            always the same; batches are taken as they come, all of one size.
        micro_batch: most samples of inputs with targets whose graph is held at once.
        correction: 1 where the data estimate a distribution: Σ is divided by n − 1, and Σ/n, by
            which ‖ḡ‖² is too large, is taken away from it. 0 where they are all that there is.
        dtype: as for `sharpness`.

    Returns:
        The balance of each symmetry, in their order.

    Raises:
        ValueError: the model has no symmetry (what came closest is told), one moves a parameter
            that is not trained, the loss of a batch is not the mean over its samples, the data are
            empty or too few, an option belongs to another form of the data, or as for `sharpness`.
        NonFiniteError: the loss or a gradient is NaN or infinite.
        TypeError: the data or the loss are of a kind that is not read.
    """
    check_form(targets, micro_batch, forward=forward)
    if correction not in (0, 1):
        raise ValueError(f"correction must be 0 or 1; got {correction!r}")
    if sgd is not None and not isinstance(sgd, Sgd):
        raise TypeError(f"sgd is {sgd!r}; it must be a sharpflow.symmetry.Sgd.")
    check_loss(loss_fn)
    if targets is None:
        source = BatchLoss(model, loss_fn, forward, dtype=dtype)
    else:
        source = BatchLoss(model, loss_fn, _of_pair, dtype=dtype, data=lambda batch: batch[1])
    norm = source.batch_norm()
    whole = whole_batches or norm is not None
    if targets is None:
        parts = _given(inputs)
    else:
        check_data(inputs, targets, dtype)
        own = inputs if isinstance(inputs, tuple) else (inputs,)
        if whole:
            parts = read(_drawn(own, targets, _size(sgd, norm, len(targets))))
        else:
            parts = read(_cut(own, targets, _AT_A_TIME if micro_batch is None else micro_batch))
    if symmetries is None:
        symmetries, parts = _found(source, parts)
    moments = NoiseMoments(source, symmetries)
    if not whole:
        moments.take_samples(parts)
        return NoiseBalance(moments.noises(correction, 1), moments.count, None, sgd)
    size = moments.take_batches(parts)
    if sgd is not None and sgd.batch_size != size:
        raise ValueError(
            f"the batches have {size} samples and sgd has batch_size={sgd.batch_size}: the noise "
            "of whole batches is known for their own size."
        )
    return NoiseBalance(moments.noises(correction, size), moments.count, size, sgd)


def _of_pair(model: nn.Module, batch: Any) -> Any:
    return model(*batch[0])


def _given(batches: Any) -> Iterator[Any]:
    if isinstance(batches, Tensor | str | Mapping) or not isinstance(batches, Iterable):
        raise TypeError(
            f"without targets the data are batches, and these are a {type(batches).__name__}; give "
            "a list of batches or a DataLoader, or targets with the inputs."
        )
    return read(batches)


def _found(source: BatchLoss, parts: Iterator[Any]) -> tuple[Sequence[Symmetry], Iterator[Any]]:
    """Symmetries of what the loss does with the model, and the parts, none of them lost."""
    first = next(parts, None)
    if first is None:
        raise ValueError(NO_BATCH)
    few = source.rows_of(source.cast(first), torch.arange(min(size_of(first), _FEW)))
    calls: list[tuple[tuple, dict[str, Any]]] = []

    def note(_: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        calls.append((args, kwargs))

    handle = source.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        source.start(few)
    finally:
        handle.remove()
    args, kwargs = calls[0] if calls else ((), {})
    if not calls or (args and kwargs):
        raise ValueError(
            "how the loss calls the model is not seen: give symmetries, those that "
            "find_symmetries(model, inputs) finds."
        )
    return existing_symmetries(source.model, kwargs or args), chain((first,), parts)


def existing_symmetries(model: nn.Module, inputs: Inputs | None) -> Symmetries:
    """What `find_symmetries` finds, which is something.

    Raises:
        ValueError: it is nothing; what came closest is told, and what breaks it.
    """
    found = find_symmetries(model, inputs)
    if not found:
        near = f"; what came closest: {found.broken[0]}" if found.broken else ""
        raise ValueError(f"the model has no continuous symmetry that noise could balance{near}.")
    return found


def _size(sgd: Sgd | None, norm: str | None, samples: int) -> int:
    """Samples of whole batches that are drawn."""
    if sgd is None:
        why = "whole_batches is true"
        if norm is not None:
            why = f"{norm} is a batch norm that uses the batch's statistics"
        raise ValueError(
            f"{why}, so that the noise is that of batches: say their size with sgd=Sgd(…), or give "
            "batches as SGD draws them."
        )
    if 2 * sgd.batch_size > samples:
        raise ValueError(
            f"{samples} samples make less than two batches of {sgd.batch_size}; a covariance of "
            "batches needs more."
        )
    return sgd.batch_size


def _cut(inputs: tuple[Tensor, ...], targets: Tensor, size: int) -> Iterator[Any]:
    """Parts in their order."""
    for start in range(0, len(targets), size):
        rows = slice(start, start + size)
        yield tuple(x[rows] for x in inputs), targets[rows]


def _drawn(inputs: tuple[Tensor, ...], targets: Tensor, size: int) -> Iterator[Any]:
    """Batches of one size in a random order."""
    stream = torch.Generator().manual_seed(0)
    order = torch.randperm(len(targets), generator=stream)
    for start in range(0, len(targets) - size + 1, size):
        rows = order[start : start + size].to(targets.device)
        yield tuple(x[rows.to(x.device)] for x in inputs), targets[rows]


def _row(noise: SymmetryNoise, sgd: Sgd | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": noise.symmetry.name,
        "kind": noise.symmetry.kind,
        "units": noise.symmetry.units,
        "charge": total(noise.charge),
        "noise_out": total(noise.outer),
        "noise_in": total(noise.inner),
        "imbalance": noise.imbalance,
    }
    if sgd is not None:
        row["drift"] = total(charge_drift(noise, sgd))
        row["equilibrium"] = row["steps"] = math.nan
        if keeps(noise, sgd) and not noise.symmetry.crossing:
            row["equilibrium"] = total(equilibrium_charge(noise, sgd))
            row["steps"] = float(relaxation_steps(noise, sgd).median())
    return row
