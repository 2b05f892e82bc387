"""Batch sharpness: the curvature of batches' losses along their own gradients."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from math import nan
from operator import add
from typing import Any

import torch
from torch import Tensor, nn

from sharpflow.curvature.batch_loss import BatchLoss
from sharpflow.curvature.batches import check_alike, read
from sharpflow.curvature.graphs import (
    as_leaf,
    differentiable_gradients,
    graph_mode,
    second_derivatives,
)
from sharpflow.curvature.linear_operator import NonFiniteError, check_finite
from sharpflow.curvature.streamed_loss import Forward
from sharpflow.curvature.verification import verify


@dataclass(frozen=True)
class BatchSharpnessResult:
    """Curvature of batches' losses along their own gradients g, in units of 1/η.

    For SGD it is this, and not the sharpness of the loss of all samples, that settles about 2/η
    (Andreyev and Beneventano 2024, "Edge of Stochastic Stability"). Both means are in use, and are
    not the same number: the second weighs batches with large gradients more.

    Attributes:
        mean_of_ratios: mean over batches of gᵀHg/‖g‖².
        mean_of_ratios_error: its standard error, if the batches are independent draws; NaN of one.
        ratio_of_means: mean of gᵀHg over mean of ‖g‖².
        ratio_of_means_error: its standard error, by the delta method.
        batches: how many were taken.
        batch_size: samples of each.
        verified: relative difference of gᵀHg of the first batch from a central difference of
            gradients; see `verify`.
    """

    mean_of_ratios: float
    mean_of_ratios_error: float
    ratio_of_means: float
    ratio_of_means_error: float
    batches: int
    batch_size: int
    verified: float


def along_gradients(losses: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """gᵀHg and ‖g‖² of K losses of K sets of parameters, each (K,).

    Two backward passes: Hg is the gradient of ⟨∇L, g⟩ with g held fixed (Pearlmutter 1994).

    Args:
        losses: (K,), each of its own set; of one set, a single loss (1,).
        parameters: (K, …) each, or of one set of any shape, with gradients.

    Raises:
        NonFiniteError: one of them is not finite, as in a run that diverged.
    """
    count = len(losses)
    found = differentiable_gradients(losses.sum(), parameters)
    pairs = zip(found, parameters, strict=True)
    gradients = [torch.zeros_like(p) if g is None else g for g, p in pairs]
    fixed = [gradient.detach() for gradient in gradients]
    slope = reduce(add, ((g * f).sum() for g, f in zip(gradients, fixed, strict=True)))
    if slope.requires_grad:
        products = torch.autograd.grad(slope, parameters, allow_unused=True, materialize_grads=True)
    else:  # losses that are linear in the parameters
        products = [torch.zeros_like(f) for f in fixed]
    pairs = zip(products, fixed, strict=True)
    curved = reduce(add, ((h * f).reshape(count, -1).sum(1) for h, f in pairs))
    squared = reduce(add, (f.square().reshape(count, -1).sum(1) for f in fixed))
    check_finite(curved, "gᵀ H_B g")
    check_finite(squared, "‖g‖²")
    return curved, squared


def mean_of_ratios(curved: Tensor, squared: Tensor) -> tuple[float, float]:
    """Mean of gᵀHg/‖g‖², of (K,) each, with its standard error.

    The error of one draw is NaN.
    """
    ratios = curved / squared
    if len(ratios) == 1:
        return float(ratios), nan
    return float(ratios.mean()), float(ratios.std()) / len(ratios) ** 0.5


def ratio_of_means(curved: Tensor, squared: Tensor) -> tuple[float, float]:
    """Mean of gᵀHg over mean of ‖g‖², (K,) each, with its standard error by the delta method.

    The error of one draw is NaN.
    """
    ratio = curved.mean() / squared.mean()
    if len(curved) == 1:
        return float(ratio), nan
    spread = (curved - ratio * squared).std() / len(curved) ** 0.5
    return float(ratio), float(spread / squared.mean())


class _BatchLoss(BatchLoss):
    """The loss of a batch, and its curvature along its own gradient."""

    def along_gradient(self, part: Any) -> tuple[Tensor, Tensor]:
        """gᵀHg and ‖g‖² of a batch, (1,) each."""
        with torch.inference_mode(False):
            params = {n: as_leaf(p.detach().clone()) for n, p in self.parameters().items()}
        tensors = list(params.values())

        def differentiate() -> tuple[Tensor, Tensor]:
            value = self.loss_of(part)
            check_finite(value.detach(), "the loss")
            return along_gradients(value.reshape(1), tensors)

        with graph_mode(), second_derivatives():
            return self.inside(params, differentiate)

    def verified(self, value: float) -> float:
        """Check gᵀHg/‖g‖² of the first batch against gradients; the relative difference."""
        gradient = self.gradient({n: p.detach() for n, p in self.parameters().items()})
        return verify(self, None, value, gradient / gradient.norm())["finite_difference"]


def batch_sharpness(
    model: nn.Module,
    loss_fn: Callable[..., Tensor],
    batches: Iterable[Any],
    *,
    forward: Forward | None = None,
    only: str | Sequence[str] | None = None,
) -> BatchSharpnessResult:
    """Batch sharpness of a model over batches as SGD draws them, at its present parameters.

    The batches are read once, so that a `DataLoader` that shuffles is right here, and an iterator
    that ends. Each costs a forward pass and two backward passes; the first is also held against
    gradients. Batch norm in training mode takes the statistics of each batch, as SGD does. Nothing
    of the model is changed, and no random state: two calls in a row draw the same batches from a
    loader that shuffles.

    Args:
        model: any module.
        loss_fn: as for `ModelCurvature` without targets.
        batches: all of one size.
        forward: as for `ModelCurvature`.
        only: shell-style patterns of the parameters that vary.

    Returns:
        The two means with their standard errors.

    Raises:
        ValueError: there is no batch, two differ in size, the gradient of one vanishes, or as for
            `sharpness`.
        NonFiniteError: a number of a batch is NaN or infinite.
        TypeError: `batches` cannot be read.
    """
    if isinstance(batches, Tensor | str | Mapping) or not isinstance(batches, Iterable):
        raise TypeError(
            f"batches is a {type(batches).__name__}; give a DataLoader or a list of batches."
        )
    loss = _BatchLoss(model, loss_fn, forward, only)
    lengths, verified = [], nan
    why = "batch sharpness depends on the size of batches"
    found: list[tuple[Tensor, Tensor]] = []
    for place, batch in enumerate(read(batches), 1):
        lengths = check_alike(place, batch, lengths, why)
        if not found:
            loss.start(batch)
        try:
            curved, squared = loss.along_gradient(batch)
        except NonFiniteError as error:
            raise NonFiniteError(f"batch {place}: {error}") from None
        if not squared > 0:
            raise ValueError(
                f"the gradient of batch {place} vanishes, and there is no curvature along it."
            )
        if not found:
            verified = loss.verified(float(curved / squared))
        found.append((curved.double().cpu(), squared.double().cpu()))
    if not found:
        raise ValueError("batches is empty; batch sharpness needs at least one batch.")
    curved, squared = (torch.cat(each) for each in zip(*found, strict=True))
    mean, mean_error = mean_of_ratios(curved, squared)
    ratio, ratio_error = ratio_of_means(curved, squared)
    return BatchSharpnessResult(
        mean_of_ratios=mean,
        mean_of_ratios_error=mean_error,
        ratio_of_means=ratio,
        ratio_of_means_error=ratio_error,
        batches=len(curved),
        batch_size=lengths[0],
        verified=verified,
    )
