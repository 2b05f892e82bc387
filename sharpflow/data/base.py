"""What every source of data gives, and the steps that many sources share."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharpflow.data.compression import compress
from sharpflow.errors import DataError, PartError
from sharpflow.parts.loading import guarded, load_part

WHITENING_FLOOR = 0.01
"""Variance, of the largest, under which a principal component is hardly raised by whitening."""
Dataset = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors of a dataset, and where they come from, as JSON-able text and numbers."""


def generate(spec: Mapping[str, Any]) -> Dataset:
    """Tensors and provenance of the dataset that `spec` describes.

    Args:
        spec: the `data` part of an experiment; `spec["source"]` names the part whose
            `generate(spec)` makes it.

    Returns:
        Tensors: `inputs` (n, ...), float or int64 tokens; either `targets` (n, k), float, or
        `labels` (n,) or (n, length), int64, with `classes` (), their number; `coordinates` and
        `basis` of inputs that are not tokens, as `compress` gives them; `vocabulary` () of tokens.
        A population has `input_std`, `noise_std`, `teacher` and `samples` instead.

    Raises:
        DataError: the source cannot give what is asked for.
        PartError: the source's own code, or the user's, fails.
    """
    with guarded("data", spec, "source"):
        made = load_part("data", spec, "source").generate(spec)
    return _checked(made, f"data.source = {spec['source']!r}")


def _checked(made: Any, what: str) -> Dataset:
    """What a source made, if it is a dataset.

    Raises:
        PartError: it is not; the message says what is missing, or of another length, or not finite.
    """
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], dict)):
        raise PartError(f"{what}: its function must return tensors by name, and their provenance.")
    tensors, provenance = made
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise PartError(f"{what}: {name} is {type(tensor).__name__}, and must be a tensor.")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise PartError(f"{what}: {name} holds NaN or infinity; it must be finite.")
    if "teacher" in tensors:
        return tensors, provenance
    answers = [name for name in ("targets", "labels") if name in tensors]
    if "inputs" not in tensors or len(answers) != 1:
        raise PartError(
            f"{what}: it gave {', '.join(tensors) or 'nothing'}; it must give inputs, and either "
            "targets or labels."
        )
    inputs, answer = tensors["inputs"], tensors[answers[0]]
    if not inputs.ndim or not answer.ndim or len(inputs) != len(answer) or not len(inputs):
        raise PartError(
            f"{what}: inputs {tuple(inputs.shape)} and {answers[0]} {tuple(answer.shape)} must be "
            "of one length, and not empty."
        )
    if answers == ["targets"] and answer.ndim != 2:
        raise PartError(f"{what}: targets {tuple(answer.shape)} must be (n, outputs).")
    return tensors, provenance


def reason(error: BaseException) -> str:
    """What an error says, or else its type, in one line without a full stop."""
    text = " ".join(str(getattr(error, "strerror", None) or error).split()).rstrip(".")
    return (text if text.isprintable() else repr(text)) or type(error).__name__


def pooled(pixels: Tensor, side: int) -> Tensor:
    """Means over squares of pixels.

    Args:
        pixels: (n, channels, rows, columns).
        side: of a square; it divides rows and columns.

    Returns:
        (n, channels, rows / side, columns / side), float64; the pixels themselves for a side of 1.
    """
    return pixels if side == 1 else torch.nn.functional.avg_pool2d(pixels.double(), side)


def scale_pixels(pixels: Tensor, scaling: str) -> Tensor:
    """Pixels as float32.

    Args:
        pixels: (n, channels, rows, columns), from 0 to 255.
        scaling: `unit` maps to [0, 1]; `standardised` to mean 0, variance 1 a channel, and
            `contrast` a picture; a channel or picture of one value to 0. `whitened` is `contrast`,
            and then `whitened`.

    Returns:
        A tensor of the same shape.
    """
    scaled = pixels.to(torch.float64) / 255.0
    if scaling != "unit":
        own = (0, 2, 3) if scaling == "standardised" else (1, 2, 3)
        mean = scaled.mean(dim=own, keepdim=True)
        std = scaled.std(dim=own, keepdim=True, unbiased=False)
        constant = pixels.amax(own, keepdim=True) == pixels.amin(own, keepdim=True)
        scaled = ((scaled - mean) / std).masked_fill(constant, 0.0)
    if scaling == "whitened":
        scaled = whitened(scaled.flatten(1)).reshape(scaled.shape)
    return scaled.to(torch.float32)


def whitened(samples: Tensor) -> Tensor:
    """Samples (n, d), float64, whose principal components have about one variance.

    ZCA (Krizhevsky 2009, appendix A): with the singular values s of the centred samples, a
    component is divided by √(s² + εs₁²), ε = `WHITENING_FLOOR`; all are then scaled to mean square
    1, samples that are all alike to 0.
    """
    centred = samples - samples.mean(0)
    squares, vectors = torch.linalg.eigh(centred @ centred.T)
    divisor = (squares.clamp(min=0.0) + WHITENING_FLOOR * squares[-1]).sqrt()
    if not divisor[-1] > 0:
        return torch.zeros_like(samples)
    found = (vectors / divisor) @ (vectors.T @ centred)
    return found / found.square().mean().sqrt()


def input_tensors(inputs: Tensor) -> dict[str, Tensor]:
    """Inputs (n, ...) that are numbers, with their coordinates (n, r) and basis (d, r)."""
    coordinates, basis = compress(inputs.flatten(1))
    return {"inputs": inputs, "coordinates": coordinates, "basis": basis}


def real(values: np.ndarray, name: str, where: str, rows: np.ndarray | None = None) -> Tensor:
    """Numbers in single precision.

    Args:
        values: (n, ...).
        name: what messages call them.
        where: what messages call the file that they come from.
        rows: their places there, (n,); by default the first n.

    Returns:
        A float32 tensor of the same shape.

    Raises:
        DataError: one of them is not finite, or too large; the message has its indices.
    """
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(values, dtype=np.float32)
    bad = np.argwhere(~np.isfinite(single))
    if len(bad):
        first, *others = bad[0].tolist()
        at = [first if rows is None else int(rows[first]), *others]
        raise DataError(
            f"{where}: {name}[{', '.join(map(str, at))}] is {values[tuple(bad[0])]}, where a "
            "finite number of single precision is needed."
        )
    return torch.from_numpy(single)


def first_rows(count: int, samples: int | None, where: str) -> np.ndarray:
    """Choose the first `samples` of `count` rows, or all of them.

    Returns:
        Their places, (n,).

    Raises:
        DataError: there are fewer.
    """
    if samples is not None and samples > count:
        raise DataError(f"data.samples = {samples}, but {where} has {count} samples.")
    return np.arange(count if samples is None else samples)
