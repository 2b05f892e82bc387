"""Noether charges and the rate at which the noise of SGD moves them (`ziyin2024`)."""

from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import NamedTuple

from torch import Tensor

from sharpflow.arguments import check_count, check_positive
from sharpflow.symmetry._checks import check_covariance, check_symmetric
from sharpflow.symmetry.generators import Generator, Params, as_generator


class NoiseTrace(NamedTuple):
    """What moves a Noether charge in one step of SGD.

    Attributes:
        covariance: Tr[Σ Q], Σ the covariance of the per-sample gradients. Shape () or (runs,).
        gradient: ∇Lᵀ Q ∇L, the same shape.
    """

    covariance: Tensor
    gradient: Tensor


def inner(left: Params, right: Params) -> Tensor:
    """Sum of products over the parameters of `right`, all of which `left` holds."""
    return reduce(add, ((left[name] * right[name]).sum() for name in right))


def noether_charge(theta: Params | Tensor, q: Generator | Tensor) -> Tensor:
    """The Noether charge C = θᵀ Q θ.

    Args:
        theta: a dict of parameters, or one tensor (flattened; then q is a matrix).
        q: a `Generator` or a symmetric (P, P) matrix.

    Returns:
        A scalar. For parameters with a leading run dimension, map it:
        `torch.func.vmap(lambda p: noether_charge(p, q))(params)`.

    Raises:
        ValueError: q is not symmetric or does not fit the parameters.
    """
    params = theta if isinstance(theta, Mapping) else {"theta": theta}
    return inner(params, as_generator(q).apply(params))


def dense_noise_trace(covariance: Tensor, gradient: Tensor, q: Tensor) -> NoiseTrace:
    """`NoiseTrace` from matrices.

    Args:
        covariance: Σ, (P, P), symmetric positive semi-definite.
        gradient: ∇L, (P,).
        q: (P, P), symmetric.

    Raises:
        ValueError: a shape does not fit, or a matrix is not what it must be.
    """
    check_symmetric("q", q)
    size = q.shape[-1]
    check_covariance("covariance", covariance, size)
    if tuple(gradient.shape) != (size,):
        raise ValueError(f"gradient must have shape ({size},); got {tuple(gradient.shape)}")
    return NoiseTrace((covariance * q).sum(), gradient @ (q @ gradient))


def noether_flow_rate(noise: NoiseTrace, learning_rate: float, batch_size: int) -> Tensor:
    """dC/dt = 2σ² Tr[Σ Q] with σ² = η/(2S): the law of the continuous-time limit of SGD.

    Time is t = ηk for step k, so one step moves C by η times this. It leaves out the
    discrete-time term that `noether_step` holds.

    Args:
        noise: from `noise_trace`, `dense_noise_trace` or `two_layer_noise_trace`.
        learning_rate: η.
        batch_size: S.

    Raises:
        ValueError: learning_rate is not positive or batch_size is not a positive integer.
    """
    check_positive("learning_rate", learning_rate)
    check_count("batch_size", batch_size)
    return noise.covariance * (learning_rate / batch_size)


def noether_step(
    noise: NoiseTrace, learning_rate: float, batch_size: int, dataset_size: int | None = None
) -> Tensor:
    """E[ΔC] of one step of SGD, exactly: η² (Tr[Σ Q]/S + ∇Lᵀ Q ∇L).

    No approximation in η: the term of first order vanishes for each sample, by the symmetry.

    Args:
        noise: from `noise_trace`, `dense_noise_trace` or `two_layer_noise_trace`.
        learning_rate: η.
        batch_size: S.
        dataset_size: None for independent samples (online, or drawn with replacement); n for a
            batch drawn without replacement out of n, which shrinks the noise by (n − S)/(n − 1).
            Σ is then the covariance over the dataset (divided by n).

    Raises:
        ValueError: learning_rate is not positive, a count is not a positive integer, or batch_size
            is larger than dataset_size.
    """
    check_positive("learning_rate", learning_rate)
    check_count("batch_size", batch_size)
    shrink = 1.0
    if dataset_size is not None:
        check_count("dataset_size", dataset_size)
        if batch_size > dataset_size:
            raise ValueError(
                f"batch_size must not exceed dataset_size; got {batch_size} of {dataset_size}"
            )
        shrink = (dataset_size - batch_size) / max(dataset_size - 1, 1)
    return learning_rate**2 * (noise.covariance * (shrink / batch_size) + noise.gradient)
