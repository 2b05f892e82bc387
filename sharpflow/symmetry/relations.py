"""Exact linear relations between columns of numbers, each as short as it comes."""

import numpy as np
import torch
from torch import Tensor

_COMMON = 4
"""Largest number in a relation: degrees of homogeneity and their inverses are up to it."""
_WHOLE = 0.01
"""Distance from a whole number that is rounding, or what other relations left."""
_ZERO = 1e-4
"""Coefficients below it are none: true ones are of order one, and rounding is below 1e-7."""


def relations(columns: Tensor, sizes: Tensor, tolerance: float) -> list[Tensor]:
    """Small whole coefficients under which columns add up to zero, one set a relation.

    Relations among many columns are a linear space. This gives a basis of it whose members reach
    from one column to one near it, in the order of the columns, and leave out what they can.

    Args:
        columns: (rows, c).
        sizes: (c,), positive; what is zero in a column is measured against it.
        tolerance: of the sum, over sizes.

    Returns:
        Each (c,), those whose coefficients are −1, 0 and 1 first. Relations in which the largest is
        above 4, or any is no whole number, are left out.
    """
    count = columns.shape[1]
    _, values, vectors = torch.linalg.svd(columns / sizes, full_matrices=len(columns) < count)
    null = vectors[int((values > tolerance * max(count, 1) ** 0.5).sum()) :]
    rows = _shortened(_spans((null / sizes).numpy()))
    rows = rows / _largest(rows)
    found: list[np.ndarray] = []
    for largest in range(1, _COMMON + 1):
        whole = largest * rows
        exact = (np.abs(whole - whole.round()) < _WHOLE).all(1)
        found.extend(whole[exact].round())
        rows = rows[~exact]
    return [torch.from_numpy(row) for row in found]


def _largest(rows: np.ndarray) -> np.ndarray:
    """(rows, 1): the largest number of each, and 1 of rows of zeros."""
    largest = np.abs(rows).max(1, keepdims=True, initial=0.0)
    return np.where(largest > 0, largest, 1.0)


def _cleaned(rows: np.ndarray) -> np.ndarray:
    """Each row over its largest number, without what is small beside it."""
    rows = rows / _largest(rows)
    return np.where(np.abs(rows) < _ZERO, 0.0, rows)


def _spans(rows: np.ndarray) -> np.ndarray:
    """A basis of the same space in which no two rows start, and no two end, in one column."""
    rows = _cleaned(rows)
    done = 0
    for column in range(rows.shape[1]):
        if done == len(rows):
            break
        best = done + int(np.abs(rows[done:, column]).argmax())
        if rows[best, column] == 0:
            continue
        rows[[done, best]] = rows[[best, done]]
        below = done + 1 + rows[done + 1 :, column].nonzero()[0]
        factors = rows[below, column] / rows[done, column]
        rows[below] = _cleaned(rows[below] - factors[:, None] * rows[done])
        done += 1
    rows = rows[:done]  # in the order of their starts
    ended = np.zeros(len(rows), dtype=bool)
    for column in reversed(range(rows.shape[1])):
        there = ((rows[:, column] != 0) & ~ended).nonzero()[0]
        if not len(there):
            continue
        last, others = there[-1], there[:-1]
        factors = rows[others, column] / rows[last, column]
        rows[others] = _cleaned(rows[others] - factors[:, None] * rows[last])
        ended[last] = True
    return rows


def _shortened(rows: np.ndarray) -> np.ndarray:
    """The same space, with multiples of rows taken from others where that leaves fewer numbers."""
    rows = rows[np.argsort((rows != 0).sum(1), kind="stable")]
    changed = True
    while changed:
        changed = False
        for short in range(len(rows)):
            held = rows[short].nonzero()[0]
            near = (rows[:, held] != 0).any(1).nonzero()[0]
            near = near[near != short]
            if not len(held) or not len(near):
                continue
            ratios = rows[np.ix_(near, held)] / rows[short, held]
            alike = (
                np.abs(ratios[:, :, None] - ratios[:, None]) <= _ZERO * np.abs(ratios)[..., None]
            )
            gains = np.where(ratios == 0, 0, alike.sum(2))
            best = gains.argmax(1)
            gaining = gains.max(1) > (ratios == 0).sum(1)
            if not gaining.any():
                continue
            long = near[gaining]
            factors = ratios[gaining, best[gaining]]
            fewer = _cleaned(rows[long] - factors[:, None] * rows[short])
            better = (fewer != 0).sum(1) < (rows[long] != 0).sum(1)
            rows[long[better]] = fewer[better]
            changed |= bool(better.any())
    return rows
