"""From records with classes to a balanced choice of them, with its targets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharpflow.data import balance
from sharpflow.data.base import input_tensors, pooled, scale_pixels
from sharpflow.errors import DataError
from sharpflow.parts.words import nearest

_DRAWS = 20220004
"""Marks the random stream of the draws, which the seed of a draw completes."""


@dataclass(frozen=True)
class Choice:
    """Records that were chosen.

    Attributes:
        rows: (n,), places of the records in the source's order.
        labels: (n,) int64, from 0; of signs, 0 for +1 and 1 for -1.
        count: number of different labels.
    """

    rows: np.ndarray
    labels: Tensor
    count: int


def choose(
    found: np.ndarray,
    names: Sequence[str],
    spec: Mapping[str, Any],
    where: str,
    chosen: Sequence[int] | None = None,
    word: str = "images",
) -> Choice:
    """`samples` / k records of each of k labels, label by label: the first, or drawn at random.

    Args:
        found: class of every record, (records,), as its place in `names`.
        names: of all classes.
        spec: options of the source: `samples` (None for as many as the scarcest label allows),
            `targets`, and `draw_seed` if it has one (None for the first in the source's order).
        where: what messages call the source's file or folder.
        chosen: classes in the order of their labels, as places in `names`; by default all.
        word: what messages call the records.

    Returns:
        The choice.

    Raises:
        DataError: a label has too few records, or the classes cannot be balanced.
    """
    classes = list(range(len(names)) if chosen is None else chosen)
    samples = spec["samples"]
    sides = _sides(classes, spec, where)
    order = np.arange(len(found))
    if (seed := spec.get("draw_seed")) is not None:
        order = np.random.default_rng([_DRAWS, seed]).permutation(order)
    members = [order[np.isin(found[order], side)] for side in sides]
    scarcest = min(len(rows) for rows in members)
    share = max(1, scarcest) if samples is None else samples // len(sides)
    for side, rows in zip(sides, members, strict=True):
        if len(rows) < share:
            listed = ", ".join(names[each] for each in side)
            most = f"; ask for at most {len(sides) * scarcest}" if scarcest else ""
            raise DataError(
                f"data.samples = {'null' if samples is None else samples} needs {share} {word} of "
                f"{'class' if len(side) == 1 else 'classes'} {listed}, but {where} has "
                f"{len(rows)}{most}."
            )
    rows = np.concatenate([rows[:share] for rows in members])
    return Choice(rows, torch.arange(len(sides)).repeat_interleave(share), len(sides))


def choose_labels(
    found: np.ndarray, names: Sequence[str], spec: Mapping[str, Any], where: str
) -> Choice:
    """The records of a user's samples that are taken, by their labels.

    Args:
        found: label of every record, (records,), as its place in `names`.
        names: of all labels that there are.
        spec: options of the source: `classes`, `samples` and `targets`.
        where: what messages call the user's file.

    Returns:
        `samples` of them as `choose` gives them, or all in the file's order.

    Raises:
        DataError: a label does not exist, has too few records, or labels cannot be balanced.
    """
    classes = spec["classes"]
    chosen = places(None if classes is None else [str(each) for each in classes], names, where)
    if spec["samples"] is not None:
        return choose(found, names, spec, where, chosen, "samples")
    sides = _sides(list(range(len(names)) if chosen is None else chosen), spec, where)
    label_of = np.full(len(names), -1)
    for label, side in enumerate(sides):
        label_of[side] = label
    labels = label_of[found]
    rows = np.flatnonzero(labels >= 0)
    return Choice(rows, torch.from_numpy(labels[rows]), len(sides))


def _sides(classes: list[int], spec: Mapping[str, Any], where: str) -> list[list[int]]:
    try:
        balance.check(len(classes), spec["samples"], spec["targets"])
    except ValueError as error:
        raise DataError(f"data, of {where}: {error}.") from None
    return balance.groups(classes, spec["targets"])


def places(classes: Sequence[str] | None, names: Sequence[str], where: str) -> list[int] | None:
    """Look classes up among all there are.

    Returns:
        The place of each in `names`; None for None.

    Raises:
        DataError: there is no such class.
    """
    if classes is None:
        return None
    for name in classes:
        if name not in names:
            known = f"{', '.join(names[:20])}{', …' if len(names) > 20 else ''}"
            raise DataError(
                f"data.classes names {name!r}, which {where} does not have; it has {known}."
                f"{nearest(name, names)}"
            )
    return [names.index(name) for name in classes]


def with_noise(labels: Tensor, count: int, share: float, seed: int) -> Tensor:
    """Labels of which a share is wrong.

    Args:
        labels: (n,) int64, below `count`.
        count: number of different labels.
        share: round(share · n) of the labels become another one, each with the same probability.
        seed: of the draw; a larger share keeps the wrong labels of a smaller one.

    Returns:
        New labels (n,).
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(labels), generator=generator)[: round(share * len(labels))]
    shifts = torch.randint(1, count, (len(labels),), generator=generator)
    noisy = labels.clone()
    noisy[rows] = (labels[rows] + shifts[rows]) % count
    return noisy


def label_tensors(choice: Choice, spec: Mapping[str, Any]) -> dict[str, Tensor]:
    """The answers of a dataset.

    Args:
        choice: records with their labels.
        spec: options of the source: `targets`, `label_noise` and `label_seed`.

    Returns:
        `targets` (n, 1), ±1 in float32; or `labels` (n,) int64 with `classes` ().
    """
    labels = with_noise(choice.labels, choice.count, spec["label_noise"], spec["label_seed"])
    if spec["targets"] == "signs":
        return {"targets": (1 - 2 * labels)[:, None].to(torch.float32)}
    return {"labels": labels, "classes": torch.tensor(choice.count)}


def picture_tensors(
    pixels: np.ndarray, choice: Choice, spec: Mapping[str, Any]
) -> dict[str, Tensor]:
    """The tensors of a dataset of pictures.

    Args:
        pixels: of the chosen pictures, (n, channels, rows, columns) uint8.
        choice: their labels.
        spec: options of the source: `pooling`, `scaling`, and what `label_tensors` reads.

    Returns:
        Inputs with coordinates and basis, and the answers.
    """
    whole = torch.from_numpy(np.ascontiguousarray(pixels))
    inputs = scale_pixels(pooled(whole, spec["pooling"]), spec["scaling"])
    return input_tensors(inputs) | label_tensors(choice, spec)
