"""The Noether flow of two linear layers along the minima of the loss."""

from itertools import pairwise

import torch
from torch import Tensor

from sharpflow.symmetry._checks import check_count, check_positive
from sharpflow.symmetry.two_layer import weighted_grams

_NOTHING = 1e-12


def noether_path(
    u: Tensor,
    w: Tensor,
    gamma_u: Tensor,
    gamma_w: Tensor,
    learning_rate: float,
    batch_size: int,
    times: list[int],
) -> list[tuple[Tensor, Tensor]]:
    """Factors along the mean flow that gradient noise drives at a minimum, where U W stays.

    All charges C_A = Tr[A (UᵀU − W Wᵀ)] change by 4η²/S Tr[A (W Γ_W Wᵀ − Uᵀ Γ_U U)] a step
    (`ziyin2024`, equation 5, with Γ constant at a minimum). The factors move along the symmetry,
    dU = U B and dW = −B W, with the symmetric B that gives this change. Integrated with one step of
    the classical Runge-Kutta method between the given times.

    Args:
        u: U, (d2, d), with U W a minimum.
        w: W, (d, d0).
        gamma_u: Γ_U at the minimum, a second moment, (d2, d2).
        gamma_w: Γ_W, (d0, d0).
        learning_rate: η.
        batch_size: S.
        times: steps of SGD, ascending, at which the factors are wanted.

    Returns:
        (U, W) at each of the times.

    Raises:
        ValueError: a shape does not fit, times do not ascend, or η or S is not positive.
    """
    check_positive("learning_rate", learning_rate)
    check_count("batch_size", batch_size)
    if any(after <= before for before, after in pairwise(times)):
        raise ValueError("times must ascend")
    speed = 4 * learning_rate**2 / batch_size

    def slope(u: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        gram_u, gram_w = weighted_grams(u, w, gamma_u, gamma_w)
        turn = _symmetric_solution(u.mT @ u + w @ w.mT, speed * (gram_w - gram_u))
        return u @ turn, -turn @ w

    found, now = [], 0
    for time in times:
        span, now = time - now, time
        first = slope(u, w)
        second = slope(u + span / 2 * first[0], w + span / 2 * first[1])
        third = slope(u + span / 2 * second[0], w + span / 2 * second[1])
        fourth = slope(u + span * third[0], w + span * third[1])
        parts = zip(first, second, third, fourth, strict=True)
        du, dw = (span / 6 * (a + 2 * b + 2 * c + d) for a, b, c, d in parts)
        u, w = u + du, w + dw
        found.append((u, w))
    return found


def _symmetric_solution(matrix: Tensor, right: Tensor) -> Tensor:
    """B with M B + B M = R, for symmetric M ≥ 0 and R; zero where M gives no answer."""
    values, vectors = torch.linalg.eigh(matrix)
    sums = values[:, None] + values[None, :]
    known = sums > _NOTHING * values.abs().max()
    turned = vectors.mT @ right @ vectors
    solved = torch.where(known, turned / torch.where(known, sums, torch.ones_like(sums)), 0.0)
    return vectors @ solved @ vectors.mT
