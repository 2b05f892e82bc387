"""The loss of a model over batches that are never held together."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sharpflow.curvature.linear_operator import LinearOperator, NonFiniteError
from sharpflow.curvature.model_loss import (
    LossOfModel,
    kept_random_states,
    refuse_random_modules,
)

BatchLoss = Callable[..., Tensor]
Weight = Callable[[Any], float]


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


def batch_size(batch: Any) -> int:
    """Number of samples: rows of the batch's first tensor that has any dimension.

    Raises:
        ValueError: it holds no such tensor.
    """
    for tensor in tensors_of(batch):
        if tensor.ndim:
            return len(tensor)
    raise ValueError(
        f"a batch of type {type(batch).__name__} holds no tensor with a row a sample; give weight, "
        "a function of a batch."
    )


class StreamedLoss(LossOfModel):
    """Σ wᵦ loss(model, batch) / Σ wᵦ over batches, at the model's present parameters.

    Each product reads all batches once, and holds the graph of one. The batches must be the same,
    in the same order, whenever they are read, which is checked on two readings.

    Args:
        model: any module, without batch norm in training mode.
        loss: `loss(model, batch)` is the scalar loss of a batch, a mean over what is weighted.
        batches: a list, a `DataLoader` that does not shuffle, or anything else that can be read
            more than once.
        weight: wᵦ of a batch; by default its number of samples. Where the loss is a mean over
            something else, tokens that are not ignored say, their number.
        only: patterns of the parameters that vary; see `trainable_parameters`.
        distributed: whether each process of `torch.distributed` has batches of its own: the mean is
            over those of all, and all have to make the same calls.

    Raises:
        ValueError: there is no batch, they differ between two readings, a weight is not positive,
            or as for `LossOfModel`.
        TypeError: `batches` cannot be read.
    """

    called = "loss(model, batch)"

    def __init__(
        self,
        model: nn.Module,
        loss: BatchLoss,
        batches: Iterable[Any],
        weight: Weight | None = None,
        only: str | Sequence[str] | None = None,
        distributed: bool = False,
    ) -> None:
        if isinstance(batches, Tensor | str | Mapping) or not isinstance(batches, Iterable):
            raise TypeError(
                f"without targets the data are batches, and these are a {type(batches).__name__}; "
                "give a list of batches or a DataLoader, or targets with the inputs."
            )
        super().__init__(model, only)
        self._refuse_batch_norm()
        self.loss, self.batches = loss, batches
        self._distributed = distributed
        if distributed and not (dist.is_available() and dist.is_initialized()):
            raise ValueError("distributed is true and torch.distributed is not initialised.")
        self._weights: list[float] = []
        device = next(iter(self.parameters().values())).device
        total = torch.zeros(1, dtype=torch.float64, device=device)
        with self.shared(total), self._reading():
            self._weights, first = self._read(weight or batch_size)
            self._check(first)
            total += sum(self._weights)
        if torch.isnan(total):
            raise ValueError("another process could not read its batches; its error says why.")
        self._weights = [each / float(total) for each in self._weights]

    def _read(self, weigh: Weight) -> tuple[list[float], Any]:
        """Weights of the batches, and the first of them, after two readings that agree."""
        seen: list[tuple[float, list[float]]] = []
        first: Any = None
        for place, batch in enumerate(self.batches):
            seen.append((float(weigh(batch)), _marks(batch)))
            if not seen[-1][0] > 0:
                raise ValueError(
                    f"batch {place + 1} has the weight {seen[-1][0]:g}; it must be positive."
                )
            first = batch if place == 0 else first
        if not seen:
            raise ValueError("batches is empty; curvature needs at least one batch.")
        again = [_marks(batch) for batch in self.batches]
        if [marks for _, marks in seen] != again:
            raise ValueError(
                "batches are others each time they are read, and every product has to see the "
                "same: does the loader shuffle, or augment?"
                if again
                else "batches can be read once only: give a list or a DataLoader, not an iterator."
            )
        return [weight for weight, _ in seen], first

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Within, batches are read: a `DataLoader` draws a number whenever that begins."""
        own = getattr(self.batches, "generator", None)
        before = own.get_state() if isinstance(own, torch.Generator) else None
        try:
            with kept_random_states():
                yield
        finally:
            if isinstance(own, torch.Generator) and before is not None:
                own.set_state(before)

    def loss_of(self, part: Any) -> Tensor:
        """The loss of a batch at the parameters that the model has."""
        return self.loss(self.model, part)

    def parts(self) -> Iterator[tuple[Any, float]]:
        """The batches with their weights, which add up to 1."""
        count = 0
        with self._reading():
            for batch in self.batches:
                if count < len(self._weights):
                    yield batch, self._weights[count]
                count += 1
        if count != len(self._weights):
            raise ValueError("batches gives another number of batches than when it was checked.")

    def hessian(self) -> LinearOperator:
        """Hessian at the model's present trainable parameters, in their order."""
        refuse_random_modules(self.model)
        self._refuse_batch_norm()
        self._refuse_other_models()
        return self.streamed_hessian()

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
        if self._distributed:
            dist.all_reduce(total)
        if failure is not None:
            raise failure

    def _refuse_other_models(self) -> None:
        """Raise ValueError, in all processes, where they hold different parameters."""
        if not self._distributed:
            return
        marks = torch.tensor(_marks([p.detach() for p in self.parameters().values()]))
        marks = marks.to(next(iter(self.parameters().values())).device, torch.float64)
        least, most = marks.clone(), marks.clone()
        dist.all_reduce(least, dist.ReduceOp.MIN)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        if not torch.equal(least, most):
            raise ValueError("the processes hold different parameters; they have no one curvature.")

    def part_hessian(self, part: Any, params: dict[str, Tensor]) -> LinearOperator:
        """Hessian of the loss of a batch; an error says which batch it is."""
        try:
            return super().part_hessian(part, params)
        except NonFiniteError as error:
            marks = _marks(part)
            with self._reading():
                read = enumerate(self.batches, 1)
                place = next((i for i, batch in read if _marks(batch) == marks), None)
            raise NonFiniteError(f"batch {place}: {error}") from None


def _marks(batch: Any) -> list[float]:
    """Numbers that tell batches apart: of each tensor its size, sum and a weighted sum."""
    marks: list[float] = []
    for tensor in tensors_of(batch):
        flat = tensor.detach().reshape(-1).double().nan_to_num()
        ramp = torch.linspace(1, 2, len(flat), dtype=torch.float64, device=flat.device)
        marks += [float(len(flat)), float(flat.sum()), float(flat @ ramp)]
    return marks
