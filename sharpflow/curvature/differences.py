"""Hessian products from gradients alone, for losses without a second derivative in autograd."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from sharpflow.curvature.graphs import (
    Inside,
    Leaves,
    Parameters,
    check_scalar,
    dense,
    graph_mode,
    length_of,
    second_derivatives,
)
from sharpflow.curvature.linear_operator import (
    LinearOperator,
    NonFiniteError,
    Product,
    check_finite,
)

Products = Literal["autograd", "differences"]
Slope = Callable[[Tensor, float], Tensor]
"""Gradient (P,), float64, at a step along a direction (P,)."""
_POWERS = {torch.float32: range(-4, 2), torch.float64: range(-8, 2)}
"""Of 4, times ε^⅓‖θ‖: distances that are tried. Float64 has room for those between kinks."""


def check_products(products: str) -> None:
    """Raise ValueError unless `products` is a way to make them."""
    if products not in get_args(Products):
        raise ValueError(
            f"products is {products!r}; it must be {' or '.join(map(repr, get_args(Products)))}."
        )


@dataclass(frozen=True)
class Distance:
    """How far from the parameters the two gradients of a product are taken.

    Attributes:
        length: h, in parameter space.
        noise: error of a product with a unit vector, over ‖H‖, as far as it was seen.
    """

    length: float
    noise: float


class DifferenceOperator(LinearOperator):
    """A Hessian whose products are central differences of gradients.

    Hv ≈ ‖v‖ (g(θ + hu) − g(θ − hu)) / 2h with u = v/‖v‖. Truncation costs h²/6 times the fourth
    derivative of the loss, rounding about ε‖g‖/h, and h is where the two balance (Nocedal and
    Wright 2006, section 8.1): of the distances 4ʲ ε^⅓ ‖θ‖ (ε the rounding unit), j = −4…1 in
    float32 and −8…1 in float64, it lies in the middle of the two neighbours at which the products
    with one vector, a gradient after a power step, agree best. On smooth nets products are then
    right to 1e-3 ‖H‖ or better in float32 and 1e-8 ‖H‖ in float64.

    The error depends on v, so that the operator is symmetric only to within it: products are not
    symmetrised, which one vector does not allow; solvers symmetrise the matrix that they project
    on, and `to_dense` its result. At kinks (ReLU, max pooling) a difference counts the jumps of the
    gradient between its ends, which the Hessian of autograd leaves out: in float32 it may differ
    from that by a tenth, also where `noise` says less; the short distances of float64 mostly lie
    between kinks.

    Attributes:
        noise: error of a product with a unit vector over ‖H‖, found with h: what the two neighbours
            differ by. Residuals below it mean nothing.
    """

    def __init__(
        self,
        size: int,
        product: Product,
        dtype: torch.dtype,
        device: torch.device | str,
        noise: float,
        block_product: Product | None = None,
    ) -> None:
        super().__init__(size, product, dtype, device, block_product)
        self.noise = noise


def difference_operator(
    loss: Callable[[dict[str, Tensor]], Tensor],
    params: Parameters,
    inside: Inside | None = None,
    dtype: torch.dtype | None = None,
    distance: Distance | None = None,
) -> DifferenceOperator:
    """Hessian of `loss` at `params` by differences of gradients; two are made a product.

    Args:
        loss: as for `hessian_operator`; called at every product, so it has to stay the same.
        params: the parameters.
        inside: as for `hessian_operator`.
        dtype: of the copies of the parameters that are used; by default theirs.
        distance: from which gradients are taken; by default it is found, by 15 gradients in
            float32 and 23 in float64.

    Returns:
        The operator on flat vectors, (P,).

    Raises:
        ValueError: as `hessian_operator`, save for a missing second derivative.
    """
    leaves = Leaves(params, dtype)

    def slope(direction: Tensor, step: float) -> Tensor:
        def differentiate() -> Tensor:
            value = loss(by_name)
            check_scalar(value)
            if not value.requires_grad:
                raise ValueError("the loss has no graph where a difference of gradients is taken.")
            return flat_gradient(value, there)

        with graph_mode(second=False), second_derivatives():
            by_name, there = leaves.moved(leaves.split(direction.to(leaves.dtype)), step)
            return differentiate() if inside is None else inside(by_name, differentiate)

    if distance is None:
        with graph_mode(second=False):
            by_name = dict(leaves.by_name)
            value = loss(by_name) if inside is None else inside(by_name, partial(loss, by_name))
            check_scalar(value)
            check_finite(value.detach(), "the loss")
            leaves.check_graph(value, "the loss")
            del value
        length = length_of(leaves.tensors)
        distance = find_distance(slope, leaves.total, length, leaves.dtype, leaves.device)
    return DifferenceOperator(
        leaves.total,
        partial(_product, slope, distance.length),
        leaves.dtype,
        leaves.device,
        distance.noise,
    )


def flat_gradient(
    value: Tensor, tensors: list[Tensor], dtype: torch.dtype = torch.float64
) -> Tensor:
    """Gradient (P,) of a scalar in a precision; zeros where it depends on a tensor not at all."""
    found = torch.autograd.grad(value, tensors, allow_unused=True)
    flat = torch.zeros(sum(t.numel() for t in tensors), dtype=dtype, device=value.device)
    for gradient, part in zip(found, flat.split([t.numel() for t in tensors]), strict=True):
        if gradient is not None:
            part.copy_(dense(gradient).detach().reshape(-1))
    return flat


def _product(slope: Slope, step: float, vector: Tensor) -> Tensor:
    largest = float(vector.abs().max())
    if largest == 0:
        return torch.zeros_like(vector)
    scaled = vector / largest  # so that the square of its length is in range
    length = float(torch.linalg.vector_norm(scaled))
    return (_difference(slope, scaled / length, step) * length * largest).to(vector.dtype)


def _difference(slope: Slope, direction: Tensor, step: float) -> Tensor:
    return slope(direction, step).sub_(slope(direction, -step)).div_(2 * step)


def find_distance(
    slope: Slope, size: int, length: float, dtype: torch.dtype, device: torch.device
) -> Distance:
    """The distance h of `DifferenceOperator`, and the error that is left at it.

    Costs 15 gradients in float32 and 23 in float64.

    Args:
        slope: gradient at a step along a direction.
        size: P.
        length: ‖θ‖.
        dtype: that gradients are computed in.
        device: that they are on.

    Returns:
        The distance.

    Raises:
        NonFiniteError: the gradient is not finite at the parameters, or at all distances.
        ValueError: at no distance do two products agree to a half, and not for rounding.
    """
    unit = torch.finfo(dtype).eps
    base = unit ** (1 / 3) * max(length, 1e-3)
    stream = torch.Generator().manual_seed(0)
    random = torch.randn(size, generator=stream, dtype=torch.float64).to(device, dtype)
    random /= random.norm()
    gradient = slope(random, 0.0)
    check_finite(gradient, "the gradient of the loss")
    steepness = float(gradient.norm())
    start = (gradient / steepness).to(dtype) if steepness > 0 else random
    for along in (start, random):
        image = _difference(slope, along, base)
        if float(image.norm()) > 0:  # false for NaN
            start = (image / image.norm()).to(dtype)
            break
    steps = [base * 4.0**power for power in _POWERS[dtype]]
    best, before, kinked = Distance(base, float("inf")), None, False
    for step in steps:
        image = _difference(slope, start, step)
        size_of = float(image.norm())
        if before is not None and size_of > 0:
            rounding = unit * steepness / (step * size_of)
            error = max(float((image - before).norm()) / size_of, rounding, unit ** (2 / 3))
            if error < best.noise:
                best, kinked = Distance(step / 2, error), error > 0.5 > 50 * rounding
        elif size_of == 0 and before is not None and not bool(before.any()):
            return Distance(base, unit ** (2 / 3))  # no curvature to be wrong about
        before = image
    if best.noise == float("inf"):
        raise NonFiniteError(
            "gradients are NaN or infinite at all distances that differences were tried at."
        )
    if kinked:
        raise ValueError(
            "differences of gradients settle at no distance: the loss has kinks (ReLU, max "
            "pooling) all around here; dtype=torch.float64 takes gradients closer together."
        )
    return best
