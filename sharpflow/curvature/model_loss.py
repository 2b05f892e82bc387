"""The loss of any torch module as a function of its trainable parameters, and its Hessian."""

import copy
import random
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice, pairwise
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from sharpflow.curvature.differences import (
    DifferenceOperator,
    Distance,
    Products,
    check_products,
    difference_operator,
    find_distance,
    flat_gradient,
)
from sharpflow.curvature.graphs import (
    CHANGED,
    Inside,
    Leaves,
    as_leaf,
    at_parameters,
    attributes_kept,
    cast,
    check_dependence,
    graph_mode,
    in_modes,
    one_precision,
    refuse_half,
    second_derivatives,
)
from sharpflow.curvature.linear_operator import LinearOperator, check_dtype, check_finite
from sharpflow.curvature.operators import (
    flatten_parameters,
    hessian_operator,
    hessian_product,
)
from sharpflow.curvature.plain_modules import form_of, settings_of
from sharpflow.curvature.torch_losses import loss_in, separable
from sharpflow.devices import warn_of_reduced_products
from sharpflow.errors import first_line

_BLOCK_BYTES = 2**24  # of activations: they stay in cache, and the C library keeps the memory
_BLOCK_COPIES = 2  # of all parameters: activations at least, for each block makes such gradients

LossFunction = Callable[[Tensor, Tensor], Tensor]
Inputs = Tensor | tuple[Tensor, ...]


def trainable_parameters(
    model: nn.Module, only: str | Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Named parameters that require gradients, tied ones once, under their first name.

    Args:
        model: any module.
        only: shell-style patterns of the names that are wanted, `blocks.3.*` say; all by default.
            A tied parameter is wanted where any of its names is.

    Raises:
        ValueError: there are none, or a pattern fits no name.
    """
    params: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not params:
        raise ValueError("model has no parameter with requires_grad=True; its Hessian is empty.")
    if only is None:
        return params
    named = model.named_parameters(remove_duplicate=False)
    names = {name: id(p) for name, p in named if p.requires_grad}
    patterns = [only] if isinstance(only, str) else list(only)
    wanted: set[int] = set()
    for pattern in patterns:
        fitting = {held for name, held in names.items() if fnmatchcase(name, pattern)}
        if not fitting:
            near = get_close_matches(pattern, names, n=3, cutoff=0.3) or list(names)[:3]
            raise ValueError(
                f"only = {pattern!r} fits no trainable parameter; the nearest are "
                f"{', '.join(near)}."
            )
        wanted |= fitting
    return {name: p for name, p in params.items() if id(p) in wanted}


def _sums(tensors: Iterable[Tensor]) -> list[str]:
    """What tells whether tensors have changed; as text, for NaN is not itself."""
    return [str(float(tensor.detach().sum(dtype=torch.float64))) for tensor in tensors]


class LossOfModel(ABC):
    """A loss at a model's present parameters, as a weighted sum over parts of its data.

    Modules that draw random numbers are refused, and so are a loss that draws some, one that
    differs between two evaluations, and one that reads parameters past the module that holds them.

    Args:
        model: any module; of a compiled one, what it was made of is measured.
        only: patterns of the parameters that vary; see `trainable_parameters`.
        dtype: float32 or float64: the loss is that of a copy of the model and its data in this
            precision; by default the parameters must have one of the two.
        products: `"autograd"`, or `"differences"` of gradients for what has no second derivative:
            see `DifferenceOperator`. The distance is found anew once the parameters have moved by
            a tenth of their length.

    Raises:
        ValueError: a module draws random numbers, `products` is neither, or `dtype` is another.

    Attributes:
        model: the module.
        dtype, products: as given.
        distance: of differences of gradients, once there was an operator.
        called: how the loss is called, for errors.
    """

    called: str

    def __init__(
        self,
        model: nn.Module,
        only: str | Sequence[str] | None = None,
        dtype: torch.dtype | None = None,
        products: Products = "autograd",
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model is a {type(model).__name__}; it must be a torch.nn.Module.")
        # a compiled module has no second derivative; what it was made of has
        self.model: nn.Module = getattr(model, "_orig_mod", model)
        for name, parameter in self.model.named_parameters():
            if nn.parameter.is_lazy(parameter):
                raise ValueError(
                    f"the parameter {name} has no shape yet (a lazy module): call the model once "
                    "on its inputs first."
                )
        self._only = only
        if dtype is not None:
            check_dtype(dtype, "dtype")
        check_products(products)
        self.dtype, self.products = dtype, products
        self.distance: Distance | None = None
        self._found_at: Tensor | None = None
        refuse_random_modules(self.model)
        if any(isinstance(module, _ConvNd | nn.RNNBase) for module in self.model.modules()):
            for parameter in islice(self.model.parameters(), 1):
                warn_of_reduced_products(parameter.device, dtype or parameter.dtype, True)

    @property
    def noise(self) -> float:
        """Error of the last operator's products over ‖H‖; 0 where they are exact to rounding."""
        return self.distance.noise if self.distance is not None else 0.0

    def parameters(self) -> dict[str, Tensor]:
        """The parameters that vary, by name."""
        return trainable_parameters(self.model, self._only)

    def in_double(self) -> Self:
        """The same loss in float64 copies of the model and its data."""
        other = copy.copy(self)
        other.dtype = torch.float64
        return other

    def thinned(self) -> Self | None:
        """The loss of an eighth of the data or less; None where there is no saying."""
        return None

    def present(self) -> dict[str, Tensor]:
        """What the parameters that vary are now, in the precision of the measurement."""
        return {name: cast(p.detach(), self.dtype) for name, p in self.parameters().items()}

    @abstractmethod
    def loss_of(self, part: Any) -> Tensor:
        """The loss of a part at the parameters that the model has."""

    @abstractmethod
    def parts(self) -> Iterator[tuple[Any, float]]:
        """The parts with their weights, always the same."""

    def pieces(self) -> Iterator[tuple[Any, float]]:
        """The parts, or smaller ones of the same sum where those are cheaper to hold."""
        return self.parts()

    @abstractmethod
    def hessian(self) -> LinearOperator:
        """Hessian at the model's present trainable parameters, in their order."""

    def check_state(self) -> None:
        """Refuse what may have changed in the model since the loss was made."""
        refuse_random_modules(self.model)

    def value(self, params: dict[str, Tensor], part: Any) -> Tensor:
        """Loss of a part at `params`; the model's state is untouched.

        Whatever reads the model's parameters meanwhile, a penalty say, reads `params`.
        """
        return self.inside(params, lambda: self.loss_of(part))

    def inside(self, params: dict[str, Tensor], compute: Callable[[], Any]) -> Any:
        """What `compute()` gives while the model has `params`, and copies of its buffers."""
        return at_parameters(self.model, params, compute, self.dtype)

    def held(self) -> Inside:
        """`inside` for an operator that is used later, with the model as it is now.

        Buffers and modes are those of now. Parameters that do not vary are not copied; where they
        have changed, it raises ValueError.
        """
        varying = {id(p) for p in self.parameters().values()}
        fixed = [p for p in self.model.parameters() if id(p) not in varying]
        before = _sums(fixed)
        buffers = {id(buffer): buffer.detach().clone() for buffer in self.model.buffers()}
        modes = [(module, module.training) for module in self.model.modules()]

        def inside(params: dict[str, Tensor], compute: Callable[[], Any]) -> Any:
            if _sums(fixed) != before:
                raise ValueError(CHANGED)
            with in_modes(modes):
                return at_parameters(self.model, params, compute, self.dtype, buffers)

        return inside

    def gradient(
        self, params: dict[str, Tensor], finite: bool = False, second: bool | None = None
    ) -> Tensor:
        """Flat gradient (P,), float64, of the loss at `params`, by one backward pass a part.

        Args:
            params: the parameters that vary.
            finite: whether to refuse NaN and infinity.
            second: as for `graph_mode`; by default as products need it.

        Raises:
            NonFiniteError: a part has one, and `finite` is true.
        """
        leaves = {name: as_leaf(p) for name, p in _copies(params).items()}
        like = next(iter(leaves.values()))
        size = sum(p.numel() for p in leaves.values())
        with torch.inference_mode(False):
            total = torch.zeros(size, dtype=torch.float64, device=like.device)
        mode = self.products == "autograd" if second is None else second

        def differentiate(part: Any) -> Tensor:
            return flat_gradient(self.loss_of(part), list(leaves.values()), like.dtype)

        with self.shared(total):
            for part, weight in self.pieces():
                with graph_mode(mode), second_derivatives(), self.naming(part):
                    slope = self.inside(leaves, partial(differentiate, part))
                    if finite:
                        check_finite(slope, "the gradient of the loss")
                    total.add_(slope, alpha=weight)
        return total

    def total(self, params: dict[str, Tensor]) -> float:
        """The loss at `params`."""
        device = next(iter(params.values())).device
        total = torch.zeros(1, dtype=torch.float64, device=device)
        with self.shared(total), torch.no_grad():
            for part, weight in self.pieces():
                total.add_(self.value(params, part).detach().double().reshape(1), alpha=weight)
        return float(total)

    def streamed_hessian(self) -> LinearOperator:
        """Hessian whose graphs are made part by part, at every product, and not kept."""
        if self.products == "autograd":
            return self._streamed_by_autograd()
        params = {name: p.clone() for name, p in self.present().items()}
        self._renew_distance(params)
        inside = self.held()
        operator = self.summed(
            params,
            lambda: ((self.part_hessian(part, params, inside), w) for part, w in self.parts()),
        )
        size, product = operator.shape[0], operator.matvec
        return DifferenceOperator(
            size, product, operator.dtype, operator.device, self.noise, product
        )

    def _streamed_by_autograd(self) -> LinearOperator:
        leaves, inside, looked_at = Leaves(self.parameters(), self.dtype), self.held(), False

        def multiply(part: Any, vectors: Tensor) -> Tensor:
            return hessian_product(
                lambda _: self.loss_of(part), leaves, vectors, inside, not looked_at
            )

        def product(vectors: Tensor) -> Tensor:
            nonlocal looked_at
            with torch.inference_mode(False):
                total = torch.zeros_like(vectors)
            with self.shared(total):
                for part, weight in self.parts():
                    with evaluating(self.called), self.naming(part):
                        total.add_(multiply(part, vectors), alpha=weight)
            looked_at = True
            return total

        return LinearOperator(leaves.total, product, leaves.dtype, leaves.device, product)

    def _renew_distance(self, params: dict[str, Tensor]) -> None:
        """Find the distance of differences, where there is none or it was found far from here."""
        flat = flatten_parameters(params)
        if self._found_at is not None and not is_far(flat, self._found_at):
            return

        def slope(direction: Tensor, step: float) -> Tensor:
            return self.gradient(moved(params, direction, step), finite=step == 0)

        self.distance = find_distance(
            slope, len(flat), float(flat.double().norm()), flat.dtype, flat.device
        )
        self._found_at = flat

    def distance_state(self) -> dict[str, Any] | None:
        """The distance of differences and where it was found, for a checkpoint; None without."""
        if self.distance is None:
            return None
        return {"found_at": self._found_at, **asdict(self.distance)}

    def load_distance_state(self, state: Mapping[str, Any] | None, device: torch.device) -> None:
        """Take up what `distance_state` gave."""
        if state is None:
            self.distance = self._found_at = None
            return
        rest = {key: value for key, value in state.items() if key != "found_at"}
        self.distance, self._found_at = Distance(**rest), state["found_at"].to(device)

    def summed(
        self,
        params: dict[str, Tensor],
        pieces: Callable[[], Iterable[tuple[LinearOperator, float]]],
    ) -> LinearOperator:
        """Weighted sum of the operators that `pieces` gives at every product."""
        first = next(iter(params.values()))
        dtype = self.dtype or first.dtype
        refuse_half(dtype, "params")

        def product(vectors: Tensor) -> Tensor:
            total = torch.zeros_like(vectors)
            with self.shared(total):
                for operator, weight in pieces():
                    total.add_(operator.matvec(vectors), alpha=weight)
            return total

        count = sum(p.numel() for p in params.values())
        return LinearOperator(count, product, dtype, first.device, product)

    @contextmanager
    def shared(self, total: Tensor) -> Iterator[None]:
        """Within, a sum over parts is made; after it, the sum of all processes, here of one."""
        yield

    def part_hessian(
        self, part: Any, params: dict[str, Tensor], inside: Inside | None = None
    ) -> LinearOperator:
        """Hessian of the loss of a part, inside of what `held` gave before, or gives now."""
        inside = inside or self.held()

        def loss(_: dict[str, Tensor]) -> Tensor:
            return self.loss_of(part)

        with evaluating(self.called), self.naming(part):
            if self.products == "differences":
                return difference_operator(loss, params, inside, self.dtype, self.distance)
            return hessian_operator(loss, params, inside, dtype=self.dtype)

    @contextmanager
    def naming(self, part: Any) -> Iterator[None]:
        """Within, an error about numbers that are not finite says which part it is, where known."""
        yield

    def moved(self) -> dict[str, Tensor]:
        """Parameters a tenth away from the present ones, in a direction that is always the same."""
        stream = torch.Generator().manual_seed(0)
        moved = {}
        for name, parameter in self._all().items():
            noise = torch.randn(parameter.shape, generator=stream, dtype=torch.float64)
            size = 0.1 * float(parameter.abs().mean()) + 0.01
            moved[name] = parameter + size * noise.to(parameter)
        return moved

    def _check(self, part: Any) -> None:
        """Refuse what only shows when a part of the loss is evaluated."""
        with attributes_kept(self.model), evaluating(self.called), one_precision():
            self._refuse_random_loss(part)
            check_dependence(
                lambda given: self.value(dict(given), part),
                self.parameters(),
                self.dtype,
                self.products == "autograd",
            )

    def _all(self) -> dict[str, Tensor]:
        """All parameters now, whether they vary or not, in the precision of the measurement."""
        return {n: cast(p.detach(), self.dtype) for n, p in self.model.named_parameters()}

    def _copied(self) -> dict[str, Tensor]:
        """Copies of all parameters, with gradients where theirs have."""
        return {
            name: cast(p, self.dtype)
            for name, p in _copies(dict(self.model.named_parameters())).items()
        }

    def _scalar(self, part: Any) -> float:
        copies = self._copied()
        graph = graph_mode(self.products == "autograd")  # forward may differentiate the network
        with graph, _shapes_agreeing():
            value = self.value(copies, part)
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"the loss is {shape}; it must be a tensor with one number.")
        check_finite(value.detach(), "the loss")
        if value.is_complex():
            raise ValueError("the loss is complex; it must be a tensor with one real number.")
        return float(value.detach())

    def _refuse_random_loss(self, part: Any) -> None:
        """Raise ValueError where the loss draws random numbers, whether or not two draws differ."""
        devices = sorted({p.device.index or 0 for p in self.model.parameters() if p.is_cuda})
        with random_state_kept(devices):
            first = self._scalar(part)  # may draw for other ends: compiling does
            before = _random_states(devices)
            second = self._scalar(part)
            drawn = _random_states(devices) != before
        if drawn or abs(first - second) > 1e-5 * abs(first):
            found = f"two evaluations gave {first} and {second}"
            raise ValueError(
                f"the loss is a random function: {'it draws random numbers, and ' * drawn}{found}; "
                "remove the randomness, or call model.eval()."
            )

    def _batch_norm(self) -> str | None:
        """Name of a batch norm that uses the batch's statistics, if there is one."""
        for name, module in self.model.named_modules():
            if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
                return name or "the model"
        return None

    def _refuse_batch_norm(self) -> None:
        name = self._batch_norm()
        if name is not None:
            raise ValueError(
                f"taking the data in batches changes the loss: {name} is a batch norm that uses "
                "the batch's statistics; call model.eval() or take all samples at once."
            )


class ModelLoss(LossOfModel):
    """loss_fn(model(inputs), targets) at the model's present parameters.

    Batch norm in training mode is allowed on the full batch (the loss is then a function of the
    parameters, through the batch's statistics) and its running statistics are left untouched.
    Modules that draw random numbers are refused, and so is a loss that differs between two
    evaluations. `micro_batch` bounds the number of samples whose graph is held at once; each
    product then runs the network again, batch by batch.

    On a CPU the graph of a large batch is made in blocks that fit the cache, all of them kept,
    where that is the same function: under the mean squared error or the cross-entropy, if the
    outputs of the blocks are those of the whole batch.
    """

    called = "loss_fn(model(inputs), targets)"

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        inputs: Inputs,
        targets: Tensor,
        micro_batch: int | None = None,
        only: str | Sequence[str] | None = None,
        dtype: torch.dtype | None = None,
        products: Products = "autograd",
    ) -> None:
        check_loss(loss_fn)
        check_data(inputs, targets, dtype)
        super().__init__(model, only, dtype, products)
        self._given, self.loss_fn = loss_fn, loss_in(loss_fn, dtype)
        with torch.inference_mode(False):  # tensors made inside it have no autograd
            usual = [t.clone() if t.is_inference() else t for t in (*_tuple(inputs), targets)]
            usual = [cast(t, dtype) for t in usual]
        self.inputs, self.targets = tuple(usual[:-1]), usual[-1]
        self.samples = len(targets)
        whole = micro_batch is None or micro_batch >= self.samples
        self.micro_batch = None if whole else micro_batch
        self._check(slice(0, self.micro_batch or self.samples))
        self._find_pieces()

    def _find_pieces(self) -> None:
        """Find how the loss is made of parts, which holds for the modules that there are now."""
        self._form = self._present_form()
        self._reduction = "mean" if self.micro_batch is None else self._find_reduction()
        self.block = self.samples if self.micro_batch is not None else self._find_block()

    def in_double(self) -> Self:
        """The same loss in float64 copies of the model and its data."""
        other = super().in_double()
        other.inputs = tuple(cast(x, torch.float64) for x in self.inputs)
        other.targets = cast(self.targets, torch.float64)
        other.loss_fn = loss_in(self.loss_fn, torch.float64)
        return other

    def thinned(self) -> Self | None:
        """The loss of every eighth sample; None where there are fewer than sixteen."""
        if self.samples < 16:
            return None
        other = copy.copy(self)
        other.inputs = tuple(x[::8] for x in self.inputs)
        other.targets = self.targets[::8]
        other.samples = len(other.targets)
        return other

    def loss_of(self, part: slice) -> Tensor:
        """The loss of some samples at the parameters that the model has."""
        return self.loss_fn(self.outputs_of(part), self.targets[part])

    def data_of(self, part: slice) -> Tensor:
        """What the loss of some samples reads beside their outputs: the targets."""
        return self.targets[part]

    def rows_of(self, part: slice, rows: Tensor) -> Tensor:
        """The part that has some rows of a part."""
        return torch.arange(self.samples)[part][rows]

    def shares(self) -> Iterator[tuple[slice, float]]:
        """The parts with their shares of the samples, which add up to 1."""
        for part, _ in self.parts():
            yield part, (part.stop - part.start) / self.samples

    def parts(self) -> Iterator[tuple[slice, float]]:
        """Micro-batches, or all samples, with their weights."""
        return self._batches(self.micro_batch or self.samples)

    def pieces(self) -> Iterator[tuple[slice, float]]:
        """Micro-batches, or the blocks that fit the cache where they are the same function."""
        blocks = self.block < self.samples and self._batch_norm() is None
        return self._batches(self.block) if blocks else self.parts()

    def _batches(self, size: int) -> Iterator[tuple[slice, float]]:
        for start in range(0, self.samples, size):
            rows = slice(start, min(start + size, self.samples))
            share = (rows.stop - rows.start) / self.samples
            yield rows, share if self._reduction == "mean" else 1.0

    def outputs_of(self, rows: slice | Tensor) -> Any:
        """The model's outputs for some samples."""
        return self.model(*(x[rows] for x in self.inputs))

    def hessian(self) -> LinearOperator:
        """Hessian at the model's present trainable parameters, in their order."""
        self.check_state()
        if self.micro_batch is not None or self.products == "differences":
            return self.streamed_hessian()
        params, inside = self.parameters(), self.held()
        kept = [(self.part_hessian(rows, params, inside), weight) for rows, weight in self.pieces()]
        return self.summed(params, lambda: kept) if len(kept) > 1 else kept[0][0]

    def check_state(self) -> None:
        """Refuse what may have changed in the model since the loss was made."""
        super().check_state()
        if self.micro_batch is not None:
            self._refuse_batch_norm()
        if self._present_form() != self._form:
            self.loss_fn = loss_in(self._given, self.dtype)
            self._find_pieces()

    def _present_form(self) -> list[Any]:
        return [*form_of(self.model), *settings_of(self._given)]

    def _find_block(self) -> int:
        """Samples a block; all of them where blocks gain nothing or are another function."""
        reduction = separable(self.loss_fn, self.targets)
        on_cpu = all(t.device.type == "cpu" for t in (*self.inputs, self.targets))
        kept = self.products == "autograd"
        if not kept or reduction is None or not on_cpu or self._batch_norm() is not None:
            return self.samples
        weights = sum(p.numel() * p.element_size() for p in self.parameters().values())
        wanted = max(_BLOCK_BYTES, _BLOCK_COPIES * weights)
        block = max(1, int(wanted / max(self._bytes_a_sample(), 1.0)))
        if 2 * block > self.samples:
            return self.samples
        rows = [slice(i, min(i + block, self.samples)) for i in range(0, self.samples, block)]
        if self._gather(rows) is None:
            return self.samples
        self._reduction = reduction
        return block

    def _bytes_a_sample(self) -> float:
        """Bytes that the graph of the loss keeps for each sample, beyond data and parameters.

        0 where there is no telling.
        """
        count = min(4, self.samples)
        copies = self._copied()
        held = (*copies.values(), *self.model.buffers(), *self.inputs, self.targets)
        fixed = {t.untyped_storage().data_ptr() for t in held}
        sizes: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            if tensor.untyped_storage().data_ptr() not in fixed:
                sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor.detach()  # else its own graph would hold it, and itself, for ever

        graph = None
        hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda t: t)
        with suppress(RuntimeError), graph_mode(), hooks:  # which torch.func.grad does not take
            # held, so that the addresses of its tensors are unique
            graph = self.value(copies, slice(0, count))
        if graph is None:
            return 0.0
        del graph
        return sum(sizes.values()) / count

    def _gather(self, batches: list[slice]) -> Tensor | None:
        """Outputs of batches, joined; None unless those of two batches at once are the same.

        At parameters that were moved: layers that start at zero would hide what they do.
        """
        with torch.inference_mode(False):
            moved = self.moved()

        def outputs(rows: slice) -> Any:
            with graph_mode(self.products == "autograd"):  # forward may differentiate the network
                found = self.inside(moved, partial(self.outputs_of, rows))
            return found.detach() if isinstance(found, Tensor) else found

        with torch.no_grad():
            parts = [outputs(rows) for rows in batches]
            for part, rows in zip(parts, batches, strict=True):
                if not isinstance(part, Tensor) or part.shape[:1] != (rows.stop - rows.start,):
                    return None
            joined = torch.cat(parts)
            for first, second in pairwise(batches):
                rows = slice(first.start, second.stop)
                both = outputs(rows)
                slack = 1e-4 * float(both.abs().max()) if isinstance(both, Tensor) else 0.0
                if both.shape != joined[rows].shape or not torch.allclose(
                    both, joined[rows], rtol=0, atol=slack
                ):
                    return None
        return joined

    def _find_reduction(self) -> str:
        """Whether the loss is a mean or a sum over samples, on the batches that are used.

        Compared are values and gradients in the outputs, of all batches against the whole. Where
        the outputs are no tensor, or depend on the other samples, there is no telling.

        Raises:
            ValueError: neither, or no telling.
        """
        self._refuse_batch_norm()
        assert self.micro_batch is not None
        edges = range(0, self.samples, self.micro_batch)
        batches = [slice(i, min(i + self.micro_batch, self.samples)) for i in edges]
        outputs = self._gather(batches)
        if outputs is None:
            raise ValueError(
                "micro_batch needs a network whose outputs are a tensor, a row a sample, that does "
                "not depend on the other samples; leave micro_batch out."
            )
        allowed = [kind for kind in ("mean", "sum") if self._adds_up(outputs, batches, kind)]
        declared = getattr(self.loss_fn, "reduction", None)
        if declared in allowed:
            return declared
        if len(allowed) != 1:
            raise ValueError(
                "micro_batch needs a loss that is a mean or a sum over samples: its value and its "
                "gradient over all micro-batches are neither of the whole batch (class weights, "
                "ignored targets and penalties weigh samples differently); leave micro_batch out."
            )
        return allowed[0]

    def _adds_up(self, outputs: Tensor, batches: list[slice], kind: str) -> bool:
        """Whether the loss of the whole is the mean, or sum, of that of the batches."""
        copies = self._copied()

        def evaluated(rows: list[slice]) -> tuple[Tensor, Tensor]:
            with graph_mode():
                leaf = outputs.detach().clone().requires_grad_()
                total = torch.zeros((), dtype=leaf.dtype, device=leaf.device)
                for part in rows:
                    share = (part.stop - part.start) / self.samples if kind == "mean" else 1.0
                    total = total + share * self.loss_fn(leaf[part], self.targets[part])
                (slope,) = torch.autograd.grad(total, leaf)
            return total.detach(), slope

        whole, parts = (
            self.inside(copies, partial(evaluated, rows))
            for rows in ([slice(0, self.samples)], batches)
        )
        pairs = zip(whole, parts, strict=True)
        return all(bool((a - b).abs().max() <= 1e-4 * a.abs().max()) for a, b in pairs)


@contextmanager
def random_state_kept(devices: Sequence[int] = ()) -> Iterator[None]:
    """Afterwards the generators of PyTorch, Python and NumPy are where they were before."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (what users draw from)
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def evaluating(called: str) -> Iterator[None]:
    """Say in a sentence what PyTorch or Python says of a loss that cannot be evaluated."""
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError, IndexError, KeyError, AttributeError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        name = type(error).__name__
        text = f"{name}: {first_line(error)}" if str(error).strip() else name
        raise kind(f"{called} fails, with {text}") from error


@contextmanager
def _shapes_agreeing() -> Iterator[None]:
    """Within, a loss of `torch.nn` that would broadcast its targets raises ValueError."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Using a target size", UserWarning)
        try:
            yield
        except UserWarning as warning:
            sizes = re.findall(r"\(torch\.Size\((.*?)\)\)", str(warning))
            targets, outputs = sizes if len(sizes) == 2 else ("another shape", "theirs")
            raise ValueError(
                f"the targets have the shape {targets} and the outputs {outputs}: the loss would "
                "compare each output with every target."
            ) from None


def _random_states(devices: list[int]) -> list[bytes]:
    """The states of all generators that a loss may draw from without being given one."""
    states = [torch.random.get_rng_state(), *(torch.cuda.get_rng_state(d) for d in devices)]
    _, keys, *position = np.random.get_state()  # noqa: NPY002
    others = [repr(random.getstate()).encode(), np.asarray(keys).tobytes(), repr(position).encode()]
    return [state.numpy().tobytes() for state in states] + others


def _copies(params: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies with gradients: a forward pass may change what it is given (`max_norm`)."""
    with torch.inference_mode(False):
        copies = {n: p.detach().clone() for n, p in params.items()}
        return {n: as_leaf(p) if params[n].requires_grad else p for n, p in copies.items()}


def moved(params: Mapping[str, Tensor], direction: Tensor, step: float) -> dict[str, Tensor]:
    """Parameters at a step along a flat direction (P,)."""
    parts = direction.split([p.numel() for p in params.values()])
    pairs = zip(params.items(), parts, strict=True)
    return {n: p.add(d.view(p.shape).to(p), alpha=step) for (n, p), d in pairs}


def is_far(here: Tensor, there: Tensor) -> bool:
    """Whether what was found at parameters `there` is to be found anew: they moved by a tenth."""
    if here.shape != there.shape:
        return True
    return not float((here - there).norm()) <= 0.1 * float(there.norm())


def _tuple(inputs: Inputs) -> tuple[Tensor, ...]:
    return inputs if isinstance(inputs, tuple) else (inputs,)


def check_loss(loss: object) -> None:
    """Raise TypeError unless this is a function, or a module, and no class of one."""
    name = getattr(loss, "__name__", "")
    if isinstance(loss, type):
        raise TypeError(f"the loss is the class {name}; make one of it: {name}().")
    if not callable(loss):
        raise TypeError(
            f"the loss is a {type(loss).__name__}; it must be a function, such as "
            "torch.nn.functional.mse_loss."
        )


def check_data(inputs: Inputs, targets: Tensor, dtype: torch.dtype | None = None) -> None:
    """Check the data of a loss.

    Args:
        inputs: (n, …), or a tuple of such.
        targets: (n, …).
        dtype: that they will be copied to.

    Raises:
        TypeError: something is no tensor.
        ValueError: something holds NaN or infinity, the lengths differ, or are 0; without `dtype`
            also half precision.
    """
    inputs = _tuple(inputs)
    for name, found in [*(("inputs", x) for x in inputs), ("targets", targets)]:
        if not isinstance(found, Tensor):
            array = isinstance(found, np.ndarray | list)
            made = f": torch.as_tensor({name})" if array else ""
            raise TypeError(
                f"{name} is a {type(found).__name__}; it must be a tensor with a row a sample"
                f"{made} (for inputs also a tuple of tensors, one an argument of the network). For "
                "batches of any kind leave targets out: the loss is then a function of model and "
                "batch."
            )
    for name, tensor in [*(("inputs", x) for x in inputs), ("targets", targets)]:
        if tensor.is_floating_point():
            if dtype is None:
                refuse_half(tensor.dtype, name)
                check_dtype(tensor.dtype, name)
            check_finite(tensor, name)
    lengths = {len(t) if t.ndim else 0 for t in (*inputs, targets)}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(
            f"inputs and targets hold {sorted(lengths)} samples; they must agree and not be empty."
        )


def refuse_random_modules(model: nn.Module, what: str = "the loss") -> None:
    """Raise ValueError where a module in training mode draws random numbers (dropout, say)."""
    for name, module in model.named_modules():
        if not module.training:
            continue
        drops = (
            (isinstance(module, _DropoutNd) and module.p > 0)
            or (isinstance(module, nn.MultiheadAttention) and module.dropout > 0)
            or (isinstance(module, nn.RNNBase) and module.dropout > 0 and module.num_layers > 1)
            or (isinstance(module, nn.RReLU) and module.lower != module.upper)
        )
        if drops:
            raise ValueError(
                f"{what} is a random function: {name or 'the model'} "
                f"({type(module).__name__}) is in training mode; call model.eval()."
            )
