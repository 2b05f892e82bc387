"""Gradient noise of any model from per-sample gradients."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.func import grad, vmap

from sharpflow.arguments import check_count
from sharpflow.curvature.graphs import at_parameters, check_dependence
from sharpflow.symmetry.generators import Generator, Params, as_generator, flatten
from sharpflow.symmetry.noether import NoiseTrace, inner

SampleLoss = Callable[..., Tensor]
_LARGEST_DENSE = 20_000


def sample_loss(model: nn.Module, loss_fn: Callable[[Tensor, Tensor], Tensor]) -> SampleLoss:
    """The loss of one sample as a function of a model's parameters.

    Args:
        model: a module that takes a batch of inputs.
        loss_fn: loss_fn(outputs, targets) on a batch of one, a scalar.

    Returns:
        loss(params, x, y), with x and y one sample without a batch dimension.

    Raises:
        ValueError: the model holds batch normalisation in training mode, under which the loss of
            a sample depends on its batch.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise ValueError(
                f"model must have no batch normalisation in training mode; {name!r} is: a sample "
                "has no loss of its own there. noise_balance takes the noise of whole batches; "
                "after model.eval() it is that of another loss, and not what training sees"
            )

    def loss(params: Params, x: Tensor, y: Tensor) -> Tensor:
        return at_parameters(model, dict(params), lambda: loss_fn(model(x[None]), y[None]))

    return loss


def per_sample_gradients(loss: SampleLoss, params: Params, *samples: Tensor) -> dict[str, Tensor]:
    """Gradients of `loss` at each sample.

    Args:
        loss: loss(params, *sample) of one sample, a scalar.
        params: parameter name → tensor.
        samples: tensors with one leading sample dimension n (inputs and targets, say).

    Returns:
        parameter name → (n, *shape).

    Raises:
        ValueError: the samples are empty or their numbers differ, or the loss does not depend on
            the parameters that it is given, or reads one itself.
    """
    _count(samples)
    _check_loss(loss, params, samples)
    in_dims = (None, *(0 for _ in samples))
    return vmap(grad(loss), in_dims=in_dims)(dict(params), *samples)


def gradient_covariance(
    loss: SampleLoss, params: Params, *samples: Tensor, chunk_size: int = 64, correction: int = 0
) -> Tensor:
    """The covariance Σ of the per-sample gradients, dense.

    Args:
        loss: loss(params, *sample) of one sample, a scalar.
        params: parameter name → tensor; P numbers in all.
        samples: tensors with one leading sample dimension n.
        chunk_size: samples differentiated at a time.
        correction: 0 divides by n (the dataset is the distribution), 1 by n − 1 (the samples
            estimate a distribution).

    Returns:
        (P, P), the parameters flattened in the dict's order.

    Raises:
        ValueError: P is above 20,000 (use `noise_trace`), or the samples do not fit.
    """
    size = sum(value.numel() for value in params.values())
    if size > _LARGEST_DENSE:
        raise ValueError(
            f"params must hold at most {_LARGEST_DENSE} numbers for a dense covariance; "
            f"they hold {size}: use noise_trace"
        )
    divisor = _divisor(samples, correction)
    mean, total, seen = torch.zeros(()), torch.zeros(()), 0
    for gradients in _chunks(loss, params, samples, chunk_size):
        rows = torch.cat([value.flatten(1) for value in gradients.values()], dim=1)
        count, centre = len(rows), rows.mean(0)
        shift, rows = centre - mean, rows - centre
        total = total + rows.T @ rows + torch.outer(shift, shift) * (seen * count / (seen + count))
        mean, seen = mean + shift * (count / (seen + count)), seen + count
    return total / divisor


def noise_trace(
    loss: SampleLoss,
    params: Params,
    q: Generator | Tensor,
    *samples: Tensor,
    chunk_size: int = 64,
    correction: int = 0,
) -> NoiseTrace:
    """Tr[Σ Q] and ∇Lᵀ Q ∇L without forming Σ, in chunks of samples.

    Memory grows with chunk_size × P. Means are updated chunk by chunk, so that a gradient much
    larger than its noise loses no digits.

    Args:
        loss: loss(params, *sample) of one sample, a scalar.
        params: parameter name → tensor.
        q: a `Generator` or a symmetric matrix.
        samples: tensors with one leading sample dimension n.
        chunk_size: samples differentiated at a time.
        correction: 0 divides by n, 1 by n − 1 (see `gradient_covariance`).

    Raises:
        ValueError: q does not fit the parameters, or the samples do not fit.
    """
    generator = as_generator(q)
    divisor = _divisor(samples, correction)
    mean: dict[str, Tensor] = {name: torch.zeros_like(value) for name, value in params.items()}
    total, seen = flatten(params).new_zeros(()), 0
    for gradients in _chunks(loss, params, samples, chunk_size):
        count = len(next(iter(gradients.values())))
        centre = {name: value.mean(0) for name, value in gradients.items()}
        rest = {name: value - centre[name] for name, value in gradients.items()}
        shift = {name: value - mean[name] for name, value in centre.items()}
        total = total + inner(rest, vmap(generator.apply)(rest))
        total = total + inner(shift, generator.apply(shift)) * (seen * count / (seen + count))
        mean = {name: mean[name] + shift[name] * (count / (seen + count)) for name in mean}
        seen += count
    return NoiseTrace(total / divisor, inner(mean, generator.apply(mean)))


def _chunks(
    loss: SampleLoss, params: Params, samples: tuple[Tensor, ...], chunk_size: int
) -> Iterator[dict[str, Tensor]]:
    check_count("chunk_size", chunk_size)
    _check_loss(loss, params, samples)
    params = {name: value.detach() for name, value in params.items()}
    for start in range(0, _count(samples), chunk_size):
        yield per_sample_gradients(loss, params, *(s[start : start + chunk_size] for s in samples))


def _check_loss(loss: SampleLoss, params: Params, samples: tuple[Tensor, ...]) -> None:
    """Raise ValueError where the loss does not read the parameters that it is given."""
    if not any(is_functorch_wrapped_tensor(p) for p in params.values()):  # no values under vmap
        check_dependence(lambda given: loss(given, *(sample[0] for sample in samples)), params)


def _count(samples: tuple[Tensor, ...]) -> int:
    counts = {len(tensor) if tensor.ndim else 0 for tensor in samples}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            "samples must be tensors with one leading dimension of the same, positive length; "
            f"got shapes {[tuple(tensor.shape) for tensor in samples]}"
        )
    return counts.pop()


def _divisor(samples: tuple[Tensor, ...], correction: int) -> int:
    count = _count(samples)
    if correction not in (0, 1) or count <= correction:
        raise ValueError(
            f"correction must be 0 or 1 and below the number of samples ({count}); got {correction}"
        )
    return count - correction
