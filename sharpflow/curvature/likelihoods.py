"""The predictive distributions whose negative log-likelihoods losses of `torch.nn` are."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpflow.curvature.plain_modules import kind_of

_CLASSES = (F.cross_entropy, nn.CrossEntropyLoss)
_SQUARES = (F.mse_loss, nn.MSELoss)
_LOGITS = (F.binary_cross_entropy_with_logits, nn.BCEWithLogitsLoss)


def draw_targets(
    loss: Callable[..., Tensor],
    outputs: Tensor,
    targets: Any,
    draws: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Targets from the distribution that a model predicts.

    The loss of a sample is, up to a constant, 1/τ of the negative logarithm of its likelihood,
    where τ is the number of terms that it is a mean over: softmax for the cross-entropy,
    independent Gaussians of variance ½ for the squared error (which is variance τ/2 with τ = 1),
    Bernoulli for the binary cross-entropy of logits.

    Args:
        loss: cross-entropy with class indices, mean squared error, or binary cross-entropy with
            logits, as a function or a module of `torch.nn`.
        outputs: (n, …).
        targets: of the data, whose shape, and ignored places, the drawn ones take.
        draws: d.
        generator: of the random numbers.

    Returns:
        Targets (d, n, …), and τ of each sample, (n,).

    Raises:
        ValueError: the loss is another, or no likelihood (weights, smoothed labels).
    """
    kind = kind_of(loss)
    if kind not in (*_CLASSES, *_SQUARES, *_LOGITS):
        name = getattr(loss, "__name__", type(loss).__name__)
        raise ValueError(
            f"the predictive distribution of {name} is not known; those of the cross-entropy, the "
            "mean squared error and the binary cross-entropy with logits of torch.nn are, as long "
            "as they have no hooks and no forward of their own."
        )
    if getattr(loss, "weight", None) is not None or getattr(loss, "pos_weight", None) is not None:
        raise ValueError("a loss with weights is no likelihood, so that nothing can be drawn.")
    if getattr(loss, "label_smoothing", 0.0):
        raise ValueError(
            "a loss with smoothed labels is no likelihood, so that nothing can be drawn."
        )
    with torch.no_grad():
        if kind in _CLASSES:
            drawn, terms = _classes(outputs, targets, draws, generator, _ignored(loss))
        else:
            shape = (draws, *np.broadcast_shapes(outputs.shape, targets.shape))
            means = outputs.double().to(generator.device).expand(shape)
            if kind in _SQUARES:
                noise = torch.randn(
                    shape, generator=generator, dtype=torch.float64, device=generator.device
                )
                drawn = means + noise * 0.5**0.5
            else:
                drawn = torch.bernoulli(means.sigmoid(), generator=generator)
            drawn = drawn.to(outputs)
            terms = torch.full((len(outputs),), drawn[0, 0].numel()).to(outputs)
    if getattr(loss, "reduction", "mean") == "sum":
        terms = torch.ones_like(terms)
    return drawn, terms


def _ignored(loss: Any) -> int:
    return int(getattr(loss, "ignore_index", -100))


def _classes(
    outputs: Tensor, targets: Tensor, draws: int, generator: torch.Generator, ignored: int
) -> tuple[Tensor, Tensor]:
    """Class indices (d, n, …), ignored where the targets are, and how many of a sample are not."""
    if targets.is_floating_point():
        raise ValueError(
            "targets are probabilities of classes; targets are drawn for class indices only."
        )
    if 0 <= ignored < outputs.shape[1]:
        raise ValueError(
            f"the loss ignores class {ignored}, which the model predicts as any other, so that a "
            "target drawn from it would count for nothing: mark ignored targets by a number that "
            "is no class, ignore_index=-100."
        )
    chances = outputs.double().softmax(1).movedim(1, -1).to(generator.device)
    drawn = torch.multinomial(
        chances.reshape(-1, chances.shape[-1]), draws, replacement=True, generator=generator
    )
    drawn = drawn.T.reshape(draws, *targets.shape).to(targets)
    counted = (targets != ignored).reshape(len(targets), -1)
    return torch.where(targets == ignored, targets, drawn), counted.sum(1).to(outputs)
