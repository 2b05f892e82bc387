"""The loss of a model over batches that are never held together."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from sharpflow.arguments import check_count
from sharpflow.curvature.batches import (
    batch_size,
    change_rows,
    changed,
    generators_kept,
    marks_of,
    read,
    read_once,
    tensors_of,
)
from sharpflow.curvature.differences import Products
from sharpflow.curvature.graphs import cast
from sharpflow.curvature.linear_operator import LinearOperator, NonFiniteError
from sharpflow.curvature.model_loss import (
    LossOfModel,
    check_loss,
    evaluating,
    random_state_kept,
)
from sharpflow.curvature.plain_modules import settings_of
from sharpflow.curvature.torch_losses import is_of_torch, loss_in

Weight = Callable[[Any], float]
Forward = Callable[[nn.Module, Any], Any]


def check_form(targets: Any, micro_batch: int | None, **of_batches: Any) -> None:
    """Check that options belong to the form of the data: inputs with targets, or batches.

    Args:
        targets: None for batches.
        micro_batch: of inputs with targets.
        of_batches: by name, what goes with batches only; None or False where it is not given.

    Raises:
        ValueError: one belongs to the other form, or `micro_batch` is no whole number from 1 on.
    """
    if micro_batch is not None:
        if targets is None:
            raise ValueError("micro_batch is for inputs with targets; batches have their size.")
        check_count("micro_batch", micro_batch)
    if targets is not None and any(value not in (None, False) for value in of_batches.values()):
        *others, last = of_batches
        raise ValueError(
            f"{', '.join(others)} and {last} are for batches; inputs with targets are one batch."
        )


def loss_of_pairs(
    loss: Callable[..., Tensor], forward: Forward | None
) -> tuple[Forward | None, Callable[[Any], Any]]:
    """How outputs and data are had of a batch: a loss of `torch.nn` reads pairs.

    Args:
        loss: of outputs and targets where it is one of `torch.nn`, else as for `StreamedLoss`.
        forward: as for `StreamedLoss`; by default the model is called on a pair's first.

    Returns:
        `forward` and `data` of `StreamedLoss`.
    """
    if not is_of_torch(loss):
        return forward, lambda batch: batch

    def outputs(model: nn.Module, batch: Any) -> Any:
        inputs = _pair(batch)[0]
        return model(*inputs) if isinstance(inputs, tuple) else model(inputs)

    return forward or outputs, lambda batch: _pair(batch)[1]


def _pair(batch: Any) -> Sequence[Any]:
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise TypeError(
            f"a loss of torch.nn reads batches that are pairs (inputs, targets), and this is a "
            f"{type(batch).__name__}; give loss_fn(outputs, batch) and forward."
        )
    return batch


class LossOfBatches(LossOfModel):
    """A loss that is known of batches: of a model and a batch, or of outputs and data.

    Args:
        model, only, dtype, products: as for `LossOfModel`.
        loss, forward, data: as for `StreamedLoss`.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[..., Tensor],
        forward: Forward | None = None,
        only: str | Sequence[str] | None = None,
        dtype: torch.dtype | None = None,
        products: Products = "autograd",
        data: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(model, only, dtype, products)
        self.forward, of_pairs = loss_of_pairs(loss, forward)
        self._given, self._settings = loss, settings_of(loss)
        self.loss, self.data_of = loss_in(loss, dtype), data or of_pairs

    def in_double(self) -> Self:
        """The same loss in float64 copies of the model and its data."""
        other = super().in_double()
        other.loss = loss_in(self.loss, torch.float64)
        return other

    def loss_of(self, part: Any) -> Tensor:
        """The loss of a batch at the parameters that the model has."""
        if self.forward is None:
            return self.loss(self.model, part)
        return self.loss(self.outputs_of(part), self.data_of(part))

    def outputs_of(self, part: Any) -> Any:
        """The model's outputs for a batch."""
        assert self.forward is not None
        return self.forward(self.model, part)

    def rows_of(self, part: Any, rows: Tensor) -> Any:
        """The batch that has some rows of a batch: of every tensor with as many as its first."""
        count = batch_size(part)
        return change_rows(part, count, lambda tensor: tensor[rows.to(tensor.device)])

    def cast(self, batch: Any) -> Any:
        """A batch in the precision of the measurement."""
        return changed(batch, lambda tensor: cast(tensor, self.dtype))


class StreamedLoss(LossOfBatches):
    """Σ wᵦ loss(model, batch) / Σ wᵦ over batches, at the model's present parameters.

    Each product reads all batches once, and holds the graph of one. The batches must be the same,
    in the same order, whenever they are read, which is checked on two readings.

    Args:
        model: any module, without batch norm in training mode.
        loss: `loss(model, batch)` is the scalar loss of a batch, a mean over what is weighted; or
            one of `torch.nn`, for batches that are pairs (inputs, targets).
        batches: a list, a `DataLoader` that does not shuffle, or anything else that can be read
            more than once.
        weight: wᵦ of a batch; by default its number of samples, which is the length of its tensors.
            Where the loss is a mean over something else, tokens that are not ignored say, their
            number.
        only: patterns of the parameters that vary; see `trainable_parameters`.
        distributed: whether each process of `torch.distributed` has batches of its own: the mean is
            over those of all, and all have to make the same calls.
        dtype, products: as for `LossOfModel`; floating-point tensors of the batches are copied to
            the dtype, in tensors, sequences and mappings.
        forward: `forward(model, batch)` gives the outputs; the loss of a batch is then
            `loss(outputs, data)`, with the batch for its data unless `data` picks some.
        data: what of a batch such a loss reads, its targets say.

    Raises:
        ValueError: there is no batch, they differ between two readings, a weight is not positive,
            without weights the loss is a sum over samples or the tensors of a batch differ in
            length, unless all batches have the same shapes, or as for `LossOfModel`.
        TypeError: `batches` cannot be read, or the loss is none, or one of `torch.nn` and they are
            no pairs.
    """

    called = "loss(model, batch)"

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[..., Tensor],
        batches: Iterable[Any],
        weight: Weight | None = None,
        only: str | Sequence[str] | None = None,
        distributed: bool = False,
        dtype: torch.dtype | None = None,
        products: Products = "autograd",
        forward: Forward | None = None,
        data: Callable[[Any], Any] | None = None,
    ) -> None:
        check_loss(loss)
        no_batches = Tensor | np.ndarray | str | Mapping
        if isinstance(batches, no_batches) or not isinstance(batches, Iterable):
            raise TypeError(
                f"without targets the data are batches, and these are a {type(batches).__name__}; "
                "give a list of batches or a DataLoader, or targets with the inputs."
            )
        super().__init__(model, loss, forward, only, dtype, products, data)
        self._refuse_batch_norm()
        self.batches, self.distributed = batches, distributed
        if distributed and not (dist.is_available() and dist.is_initialized()):
            raise ValueError("distributed is true and torch.distributed is not initialised.")
        self._weights: list[float] = []
        device = next(iter(self.parameters().values())).device
        total = torch.zeros(1, dtype=torch.float64, device=device)
        with self.shared(total):
            with generators_kept(batches):  # of two readings: what the loader draws then differs
                self._weights, first = self._read_twice(weight)
            self._check(self.cast(first))
            if self._by_size:
                self._refuse_sum(self.cast(first))
            total += sum(self._weights)
        if torch.isnan(total):
            raise ValueError("another process could not read its batches; its error says why.")
        self._weights = [each / float(total) for each in self._weights]

    def _read_twice(self, weigh: Weight | None) -> tuple[list[float], Any]:
        """Weights of the batches, and the first of them, after two readings that agree."""
        weights: list[float] = []
        seen: list[list[float]] = []
        shapes: list[list[torch.Size]] = []
        first: Any = None
        for place, batch in enumerate(read_once(self.batches)):
            weights.append(1.0 if weigh is None else float(weigh(batch)))
            seen.append(self._marks(batch))
            shapes.append([t.shape for t in tensors_of(batch) if t.ndim])
            if not weights[-1] > 0:
                raise ValueError(
                    f"batch {place + 1} has the weight {weights[-1]:g}; it must be positive."
                )
            if weigh is None:
                batch_size(batch)  # raises where there is none
            first = batch if place == 0 else first
        if not seen:
            raise ValueError("batches is empty; curvature needs at least one batch.")
        again = [self._marks(batch) for batch in read_once(self.batches)]
        if seen != again:
            raise ValueError(
                "batches are others each time they are read, and every product has to see the "
                "same: does the loader shuffle, or augment?"
                if again
                else "batches can be read once only: give a list or a DataLoader, not an iterator."
            )
        sizes = None if weigh is not None else self._sizes(shapes)
        self._by_size = sizes is not None and len(sizes) > 1
        return sizes or weights, first

    def _sizes(self, shapes: list[list[torch.Size]]) -> list[float] | None:
        """Numbers of samples of batches, from the shapes of their tensors; None for batches alike.

        Raises:
            ValueError: the tensors of a batch have not all one length.
        """
        lengths = [[shape[0] for shape in each] for each in shapes]
        if len({len(each) for each in lengths}) == 1:  # what is 1 in all batches has no samples
            varying = [column for column in zip(*lengths, strict=True) if set(column) != {1}]
            lengths = [list(row) for row in zip(*varying, strict=True)] or [[1] for _ in lengths]
        unclear = next((each for each in lengths if len(set(each)) > 1), None)
        if unclear is None:
            return [float(each[0]) for each in lengths]
        if not self.distributed and all(each == shapes[0] for each in shapes):
            return None
        found = ", ".join(map(str, dict.fromkeys(unclear)))
        raise ValueError(
            f"the tensors of a batch have {found} rows, so that its number of samples is not "
            "known, by which the mean over batches weighs it: give weight=, a function of a batch, "
            "such as weight=lambda batch: len(batch[1])."
        )

    def _marks(self, batch: Any) -> list[float]:
        """Numbers that tell a batch from others; its loss, where there is no looking into it."""

        def loss() -> float:
            with random_state_kept(), evaluating(self.called):
                return self._scalar(self.cast(batch))

        return marks_of(batch, loss)

    def _refuse_sum(self, batch: Any) -> None:
        """Raise ValueError where the loss of a batch is a sum: the mean of sums is of no loss."""
        count = batch_size(batch)
        rows = torch.arange(count)
        halves = rows[: count // 2], rows[count // 2 :]
        if not len(halves[0]):
            return
        try:
            with random_state_kept(), evaluating(self.called):
                whole, *of_halves = (
                    self._scalar(part)
                    for part in (batch, *(self.rows_of(batch, half) for half in halves))
                )
        except (ValueError, TypeError, RuntimeError, LookupError):
            return  # a batch that has no halves
        mean = sum(len(h) * one for h, one in zip(halves, of_halves, strict=True)) / count
        if abs(whole - sum(of_halves)) < 1e-3 * abs(whole) < 0.1 * abs(whole - mean):
            raise ValueError(
                "the loss of a batch is the sum over its samples, and its mean over batches would "
                "depend on their size: give the mean over samples (reduction='mean')."
            )

    def shares(self) -> Iterator[tuple[Any, float]]:
        """The batches with what their mean loss counts for, which adds up to 1."""
        return self.parts()

    def thinned(self) -> Self | None:
        """The loss of the first batch; None where there are fewer than eight, or processes."""
        if self.distributed or len(self._weights) < 8:
            return None
        other = copy.copy(self)
        other.batches, other._weights = [next(iter(read(self.batches)))], [1.0]
        return other

    def parts(self) -> Iterator[tuple[Any, float]]:
        """The batches with their weights, which add up to 1."""
        count = 0
        for batch in read(self.batches):
            if count < len(self._weights):
                yield self.cast(batch), self._weights[count]
            count += 1
        if count != len(self._weights):
            raise ValueError("batches gives another number of batches than when it was checked.")

    def hessian(self) -> LinearOperator:
        """Hessian at the model's present trainable parameters, in their order."""
        self.check_state()
        return self.streamed_hessian()

    def check_state(self) -> None:
        """Refuse what may have changed in the model since the loss was made."""
        super().check_state()
        self._refuse_batch_norm()
        self._refuse_other_models()
        now = settings_of(self._given)
        if now != self._settings:
            self.loss, self._settings = loss_in(self._given, self.dtype), now
            if self._by_size:
                self._refuse_sum(self.cast(next(iter(read(self.batches)))))

    @contextmanager
    def shared(self, total: Tensor) -> Iterator[None]:
        """Within, a sum over parts is made; after it, the sum of all processes.

        What fails in one process makes the sum NaN in all, which none then waits for.
        """
        failure: Exception | None = None
        try:
            yield
        except (ValueError, TypeError, RuntimeError) as error:
            failure = error
            total.fill_(float("nan"))
        if self.distributed:
            dist.all_reduce(total)
        if failure is not None:
            raise failure

    def _refuse_other_models(self) -> None:
        """Raise ValueError, in all processes, where they hold different parameters."""
        if not self.distributed:
            return
        marks = torch.tensor(marks_of([p.detach() for p in self.parameters().values()]))
        marks = marks.to(next(iter(self.parameters().values())).device, torch.float64)
        least, most = marks.clone(), marks.clone()
        dist.all_reduce(least, dist.ReduceOp.MIN)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        if not torch.equal(least, most):
            raise ValueError("the processes hold different parameters; they have no one curvature.")

    @contextmanager
    def naming(self, part: Any) -> Iterator[None]:
        """Within, an error about numbers that are not finite says which batch it is."""
        try:
            yield
        except NonFiniteError as error:
            marks = marks_of(part)
            read_again = enumerate(map(self.cast, read(self.batches)), 1)
            place = next((i for i, batch in read_again if marks_of(batch) == marks), None)
            raise NonFiniteError(f"batch {place}: {error}") from None
