"""The loss of any torch module as a function of its trainable parameters, and its Hessian."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from sharpflow.curvature.operators import (
    LinearOperator,
    check_dtype,
    check_finite,
    hessian_operator,
)

_BLOCK_BYTES = 2**24  # of activations: they stay in cache, and the C library keeps the memory

LossFunction = Callable[[Tensor, Tensor], Tensor]
Inputs = Tensor | tuple[Tensor, ...]


def trainable_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Named parameters that require gradients, tied ones once. ValueError if there are none."""
    params: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not params:
        raise ValueError("model has no parameter with requires_grad=True; its Hessian is empty.")
    return params


class ModelLoss:
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

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction,
        inputs: Inputs,
        targets: Tensor,
        micro_batch: int | None = None,
    ) -> None:
        self.model, self.loss_fn, self.targets = model, loss_fn, targets
        self.inputs = inputs if isinstance(inputs, tuple) else (inputs,)
        check_data(self.inputs, targets)
        self.samples = len(targets)
        if micro_batch is not None and micro_batch < 1:
            raise ValueError(f"micro_batch is {micro_batch}; it must be at least 1.")
        whole = micro_batch is None or micro_batch >= self.samples
        self.micro_batch = None if whole else micro_batch
        refuse_random_modules(model)
        self._refuse_random_loss()
        self._reduction = "mean" if self.micro_batch is None else self._find_reduction()
        self.block = self.samples if self.micro_batch is not None else self._find_block()

    def value(self, params: dict[str, Tensor], samples: slice | None = None) -> Tensor:
        """Loss over `samples` (all by default) at `params`; the model's state is untouched."""
        rows = slice(None) if samples is None else samples
        return self.loss_fn(self._outputs(params, rows), self.targets[rows])

    def _outputs(self, params: dict[str, Tensor], rows: slice) -> Tensor:
        # Batch norm writes to its buffers, so it gets copies.
        state = {name: b.clone() for name, b in self.model.named_buffers()}
        return functional_call(self.model, {**state, **params}, tuple(x[rows] for x in self.inputs))

    def hessian(self) -> LinearOperator:
        """Hessian at the model's present trainable parameters, in their order."""
        refuse_random_modules(self.model)
        params = trainable_parameters(self.model)
        if self.micro_batch is not None:
            self._refuse_batch_norm()
            params = {name: p.detach().clone() for name, p in params.items()}
            return self._sum(params, self.micro_batch, keep=False)
        if self.block < self.samples and self._batch_norm() is None:
            return self._sum(params, self.block, keep=True)
        return hessian_operator(self.value, params)

    def _sum(self, params: dict[str, Tensor], size: int, keep: bool) -> LinearOperator:
        """Hessian as a sum over batches of `size`, whose graphs are kept or made at a product."""
        first = next(iter(params.values()))
        check_dtype(first.dtype, "params")
        edges = range(0, self.samples, size)
        batches = [slice(i, min(i + size, self.samples)) for i in edges]

        def part(rows: slice) -> LinearOperator:
            return hessian_operator(lambda p: self.value(p, rows), params)

        kept = [part(rows) for rows in batches] if keep else None

        def product(vectors: Tensor) -> Tensor:
            total = torch.zeros_like(vectors)
            for index, rows in enumerate(batches):
                share = (rows.stop - rows.start) / self.samples
                operator = part(rows) if kept is None else kept[index]
                weight = share if self._reduction == "mean" else 1.0
                total.add_(operator.matvec(vectors), alpha=weight)
            return total

        count = sum(p.numel() for p in params.values())
        return LinearOperator(count, product, first.dtype, first.device, product)

    def _find_block(self) -> int:
        """Samples a block; all of them where blocks gain nothing or are another function."""
        reduction = _separable(self.loss_fn, self.targets)
        on_cpu = all(t.device.type == "cpu" for t in (*self.inputs, self.targets))
        if reduction is None or not on_cpu or self._batch_norm() is not None:
            return self.samples
        block = max(1, int(_BLOCK_BYTES / max(self._bytes_a_sample(), 1.0)))
        if 2 * block > self.samples:
            return self.samples
        with torch.no_grad():
            whole = self._outputs({}, slice(None))
            parts = [self._outputs({}, slice(i, i + block)) for i in range(0, self.samples, block)]
        alike = isinstance(whole, Tensor) and whole.shape[:1] == (self.samples,)
        slack = 1e-4 * float(whole.abs().max()) if alike else 0.0
        if not alike or not torch.allclose(torch.cat(parts), whole, rtol=0, atol=slack):
            return self.samples
        self._reduction = reduction
        return block

    def _bytes_a_sample(self) -> float:
        """Bytes that the graph of the loss keeps for each sample, beyond data and parameters."""
        count = min(4, self.samples)
        held = (*self.model.parameters(), *self.model.buffers(), *self.inputs, self.targets)
        fixed = {t.untyped_storage().data_ptr() for t in held}
        sizes: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            if tensor.untyped_storage().data_ptr() not in fixed:
                sizes[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            graph = self.value({}, slice(0, count))  # holds its tensors, so addresses are unique
        del graph
        return sum(sizes.values()) / count

    def _scalar(self, samples: slice | None = None) -> float:
        with torch.no_grad():
            value = self.value({}, samples)
        if value.numel() != 1:
            raise ValueError(f"loss_fn returned shape {tuple(value.shape)}; it must be a scalar.")
        check_finite(value, "the loss")
        return float(value)

    def _probe(self) -> tuple[slice, slice, slice]:
        size = self.micro_batch or self.samples
        second = min(2 * size, self.samples)
        return slice(0, size), slice(size, second), slice(0, second)

    def _refuse_random_loss(self) -> None:
        rows = self._probe()[0]
        devices = sorted({p.device.index or 0 for p in self.model.parameters() if p.is_cuda})
        with torch.random.fork_rng(devices=devices):
            first, second = self._scalar(rows), self._scalar(rows)
        if abs(first - second) > 1e-5 * abs(first):
            raise ValueError(
                f"the loss is a random function: two evaluations gave {first} and {second}; "
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
                f"micro_batch changes the loss: {name} is a batch norm that uses the batch's "
                "statistics; call model.eval() or leave micro_batch out."
            )

    def _find_reduction(self) -> str:
        """Whether the loss is a mean or a sum over samples, seen on two micro-batches."""
        self._refuse_batch_norm()
        rows = self._probe()
        a, b, both = (self._scalar(r) for r in rows)
        share = (rows[0].stop - rows[0].start) / rows[2].stop
        slack = 1e-4 * (abs(a) + abs(b))
        mean = abs(share * a + (1 - share) * b - both) <= slack
        total = abs(a + b - both) <= slack
        if mean and total:
            declared = getattr(self.loss_fn, "reduction", None)
            if declared in ("mean", "sum"):
                return declared
        if mean == total:
            raise ValueError(
                "micro_batch needs a loss that is a mean or a sum over samples: two micro-batches "
                f"gave {a} and {b}, together {both}; leave micro_batch out for this loss."
            )
        return "mean" if mean else "sum"


def _separable(loss_fn: LossFunction, targets: Tensor) -> str | None:
    """Reduction of a loss that is known to be a mean or a sum over samples; None for others."""
    if loss_fn in (F.mse_loss, F.cross_entropy):
        kind, reduction, weight = loss_fn, "mean", None
    elif type(loss_fn) in (nn.MSELoss, nn.CrossEntropyLoss):
        kind, reduction = type(loss_fn), loss_fn.reduction
        weight = getattr(loss_fn, "weight", None)
    else:
        return None
    classes = kind in (F.cross_entropy, nn.CrossEntropyLoss) and not targets.is_floating_point()
    ignored = getattr(loss_fn, "ignore_index", -100)
    if weight is not None or reduction == "none" or (classes and bool((targets == ignored).any())):
        return None
    return reduction


def check_data(inputs: tuple[Tensor, ...], targets: Tensor) -> None:
    """Raise ValueError for half precision, NaN, and inputs and targets of different lengths."""
    for name, tensor in [*((("inputs"), x) for x in inputs), ("targets", targets)]:
        if tensor.is_floating_point():
            check_dtype(tensor.dtype, name)
            check_finite(tensor, name)
    lengths = {len(t) if t.ndim else 0 for t in (*inputs, targets)}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(
            f"inputs and targets hold {sorted(lengths)} samples; they must agree and not be empty."
        )


def refuse_random_modules(model: nn.Module) -> None:
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
                f"the loss is a random function: {name or 'the model'} "
                f"({type(module).__name__}) is in training mode; call model.eval()."
            )
