"""Exact linear relations between columns of numbers, each as short as it comes."""

import torch
from torch import Tensor

_ZERO = 1e-4
"""Coefficients below it are none: true ones are of order one, and rounding is below 1e-7."""


def relations(columns: Tensor, sizes: Tensor, tolerance: float) -> list[Tensor]:
    """Coefficients in {−1, 0, 1} under which columns add up to zero, one set a relation.

    Relations among many columns are a linear space. This gives a basis of it whose members reach
    from one column to one near it, in the order of the columns, and leave out what they can.

    Args:
        columns: (rows, c).
        sizes: (c,), positive; what is zero in a column is measured against it.
        tolerance: of the sum, over sizes.

    Returns:
        Each (c,). Relations with other coefficients are left out.
    """
    count = columns.shape[1]
    _, values, vectors = torch.linalg.svd(columns / sizes, full_matrices=len(columns) < count)
    null = vectors[int((values > tolerance * max(count, 1) ** 0.5).sum()) :]
    rows = _shortened(_spans(null / sizes))
    rounded = (rows / _largest(rows)).round()
    exact = ((rows / _largest(rows) - rounded).abs() < 0.01).all(1)
    return list(rounded[exact])


def _largest(rows: Tensor) -> Tensor:
    if not rows.numel():
        return rows.new_ones(len(rows), 1)
    return rows.abs().amax(1, keepdim=True).clamp(min=torch.finfo(rows.dtype).tiny)


def _cleaned(rows: Tensor) -> Tensor:
    """Each row over its largest number, without what is small beside it."""
    rows = rows / _largest(rows)
    return torch.where(rows.abs() < _ZERO, 0.0, rows)


def _spans(rows: Tensor) -> Tensor:
    """A basis of the same space in which no two rows start, and no two end, in one column."""
    rows = _cleaned(rows)
    done = 0
    for column in range(rows.shape[1]):
        if done == len(rows):
            break
        best = done + int(rows[done:, column].abs().argmax())
        if rows[best, column] == 0:
            continue
        rows[[done, best]] = rows[[best, done]]
        factors = rows[done + 1 :, column] / rows[done, column]
        rows[done + 1 :] = _cleaned(rows[done + 1 :] - factors[:, None] * rows[done])
        done += 1
    rows = rows[:done]  # in the order of their starts
    ended: list[int] = []
    for column in reversed(range(rows.shape[1])):
        there = [i for i in rows[:, column].nonzero().flatten().tolist() if i not in ended]
        if not there:
            continue
        last = there[-1]
        for i in there[:-1]:
            rows[i] -= rows[i, column] / rows[last, column] * rows[last]
            rows[i] = _cleaned(rows[i : i + 1])[0]
        ended.append(last)
    return rows


def _shortened(rows: Tensor) -> Tensor:
    """The same space, with multiples of rows taken from others where that leaves fewer numbers."""
    order = sorted(range(len(rows)), key=lambda i: int((rows[i] != 0).sum()))
    rows = rows[order].clone()
    changed = True
    while changed:
        changed = False
        for short in range(len(rows)):
            held = rows[short].nonzero().flatten()
            for long in range(len(rows)):
                if long == short:
                    continue
                ratios = rows[long, held] / rows[short, held]
                near = (ratios[:, None] - ratios[None]).abs() <= 0.01 * ratios.abs()[:, None]
                gains = torch.where(ratios == 0, 0, near.sum(1))
                best = int(gains.argmax())
                if int(gains[best]) > int((ratios == 0).sum()):
                    shorter = rows[long] - ratios[best] * rows[short]
                    rows[long] = _cleaned(shorter[None])[0]
                    changed = True
    return rows
