"""Whether a loss has a third derivative, by how its gradient bends on shorter and shorter lines."""

import math

import torch
from torch import Tensor

from sharpflow.curvature.linear_operator import NonFiniteError
from sharpflow.flows.objective import Objective

_REACH = 0.2
"""Half the length of the line, over the norm of the weights."""
_PIECES, _HALVINGS, _LAST = 4, 10, 4
"""Pieces of the line, how often one is halved, and over how many of these an order is taken."""
_TINY = {torch.float32: 2.0**-14, torch.float64: 2.0**-26}
"""Share of the line on which nothing but rounding bends the gradient."""
_PLACES = (0.0, 0.37, -0.61)
"""Places on the line at which that is looked for."""
_ROUNDING = 30.0
"""What bends by so many times as much as rounding does is none."""


def gradient_order(objective: Objective, weights: Tensor) -> float:
    """The order at which second differences of ∇L vanish: 2, and less where a kink is near.

    They are taken on a random line through the weights, in that half of each piece where they are
    larger: so a kink is closed in, at the cost of some 30 gradients. ∇L jumps at a kink of L, where
    its differences stay, and bends at one of ∇L, where they halve: on average they shrink as
    h^½ and h, or faster, between many.

    Args:
        objective: what is differentiated.
        weights: where, (p,).

    Returns:
        The order; infinite where nothing is left above rounding, or ∇L is not finite on the line.
    """
    stream = torch.Generator().manual_seed(0)
    along = torch.randn(objective.size, generator=stream, dtype=torch.float64).to(weights)
    along *= _REACH * (float(weights.norm()) or 1.0) / along.norm()

    def slope(place: float) -> Tensor:
        return objective.at(weights + place * along).gradient

    def bend(left: Tensor, middle: Tensor, right: Tensor) -> float:
        return float((left - 2 * middle + right).double().norm())

    try:
        tiny, width, end = _TINY[objective.dtype], 1 / _PIECES, slope(-1.0)
        # a kink may lie at one of these places, as at the weights themselves where a unit is zero
        rounding = min(
            bend(*(slope(place + step) for step in (-tiny, 0.0, tiny))) for place in _PLACES
        )
        least = torch.finfo(objective.dtype).eps * float(end.double().norm())
        floor = _ROUNDING * max(rounding, least)
        pieces = []
        for piece in range(_PIECES):
            place = -1 + (2 * piece + 1) * width
            start, middle, end = end, slope(place), slope(place + width)
            found = bend(start, middle, end), place, start, middle, end
            pieces = [max(*pieces, found, key=lambda each: each[0])] if pieces else [found]
        bends = []
        for _ in range(_HALVINGS):
            size, place, start, middle, end = pieces[0]
            if size <= floor:
                break
            bends.append(size)
            width /= 2
            first, second = slope(place - width), slope(place + width)
            pieces = [
                (bend(start, first, middle), place - width, start, first, middle),
                (bend(middle, second, end), place + width, middle, second, end),
            ]
            pieces.sort(key=lambda each: -each[0])
    except NonFiniteError:
        return math.inf
    if len(bends) <= _LAST:
        return math.inf
    return math.log2(bends[-1 - _LAST] / bends[-1]) / _LAST
