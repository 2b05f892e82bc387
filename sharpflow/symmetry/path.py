"""The Noether flow of two linear layers along the minima of the loss."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from sharpflow.arguments import check_count, check_positive
from sharpflow.symmetry.two_layer import weighted_grams

_NOTHING = 1e-12
_LARGEST = 0.5
"""Longest step of the integration, over the time in which the fastest direction settles."""


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
    dU = U B and dW = −B W, with the symmetric B that gives this change. What is integrated, by the
    classical Runge-Kutta method, is G of U G and G⁻¹ W, so that the product stays as it is.

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

    def at(moved: Tensor) -> tuple[Tensor, Tensor]:
        return u @ moved, torch.linalg.solve(moved, w)

    def slope(moved: Tensor) -> Tensor:
        now_u, now_w = at(moved)
        gram_u, gram_w = weighted_grams(now_u, now_w, gamma_u, gamma_w)
        return moved @ _symmetric_solution(
            now_u.mT @ now_u + now_w @ now_w.mT, speed * (gram_w - gram_u)
        )

    fastest = speed * sum(float(torch.linalg.matrix_norm(g, 2)) for g in (gamma_u, gamma_w))
    found, now, moved = [], 0, torch.eye(u.shape[-1]).to(u)
    for time in times:
        parts = max(1, math.ceil((time - now) * fastest / _LARGEST))
        span, now = (time - now) / parts, time
        for _ in range(parts):
            first = slope(moved)
            second = slope(moved + span / 2 * first)
            third = slope(moved + span / 2 * second)
            fourth = slope(moved + span * third)
            moved = moved + span / 6 * (first + 2 * second + 2 * third + fourth)
        found.append(at(moved))
    return found


def _symmetric_solution(matrix: Tensor, right: Tensor) -> Tensor:
    """B with M B + B M = R, for symmetric M ≥ 0 and R; zero where M gives no answer."""
    values, vectors = torch.linalg.eigh(matrix)
    sums = values[:, None] + values[None, :]
    known = sums > _NOTHING * values.abs().max()
    turned = vectors.mT @ right @ vectors
    solved = torch.where(known, turned / torch.where(known, sums, torch.ones_like(sums)), 0.0)
    return vectors @ solved @ vectors.mT
