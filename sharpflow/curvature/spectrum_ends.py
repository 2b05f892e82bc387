"""Both ends of the spectrum of a symmetric operator, and the eigenvalues of largest magnitude."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sharpflow.arguments import check_positive
from sharpflow.curvature.eigen import (
    EigenResult,
    bottom_eigenpairs,
    check_pairs,
    mapped,
    scale_of,
    top_eigenpairs,
)
from sharpflow.curvature.linear_operator import LinearOperator, check_operator

End = Literal["top", "bottom"]

_SCOUTING = 8  # products for a first idea of ‖H‖


@dataclass(frozen=True)
class SpectrumEnds:
    """Eigenpairs of both ends.

    Attributes:
        top: the largest algebraic, descending.
        bottom: the smallest algebraic, ascending.
        matvecs: products used in all.
        converged: whether every residual is within tol·‖H‖, ‖H‖ as far as it was seen.
    """

    top: EigenResult
    bottom: EigenResult
    matvecs: int
    converged: bool


@dataclass(frozen=True)
class MagnitudeResult:
    """Eigenpairs of the largest |λ|.

    Attributes:
        values: (k,) float64, descending in |λ|, with their signs.
        vectors: (P, k), unit columns, in the operator's dtype.
        residuals: (k,) float64, ‖Hv − λv‖.
        ends: of the spectrum, that each pair was found at.
        matvecs: products used.
        converged: whether every residual is within tol·max(|λ|, ε‖H‖), ε as in `top_eigenpairs`.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    ends: tuple[End, ...]
    matvecs: int
    converged: bool


def both_ends(
    operator: LinearOperator,
    k_top: int = 1,
    k_bottom: int = 1,
    tol: float = 1e-3,
    generator: torch.Generator | None = None,
    max_products: int | None = None,
) -> SpectrumEnds:
    """The largest and the smallest algebraic eigenpairs, to one accuracy: residuals ≤ tol·‖H‖.

    `bottom_eigenpairs` bounds residuals by the eigenvalue itself, which takes many products for one
    that is small beside ‖H‖, as the lowest of a trained network's Hessian is. Here the spectrum is
    shifted by ‖H‖, so that either end is about as far from zero as the other.

    Args:
        operator: (P, P), symmetric.
        k_top: number of pairs at the top.
        k_bottom: number of pairs at the bottom.
        tol: a residual's bound as a share of ‖H‖.
        generator: for the start vectors; by default one with a fixed seed.
        max_products: of each end, as for `top_eigenpairs`; up to eight more give a first ‖H‖.

    Returns:
        The pairs.

    Raises:
        ValueError: as `top_eigenpairs`.
    """
    check_operator(operator)
    check_pairs(k_top, operator.shape[0], "k_top")
    check_pairs(k_bottom, operator.shape[0], "k_bottom")
    check_positive("tol", tol)
    first = operator.products
    scout = top_eigenpairs(
        operator, 1, 0.5, generator=generator, max_products=min(_SCOUTING, operator.shape[0])
    )
    found = []
    for sign, k in ((1.0, k_top), (-1.0, k_bottom)):
        shifted = _shifted(operator, sign, scout.norm)
        pairs = top_eigenpairs(shifted, k, tol / 2, generator=generator, max_products=max_products)
        found.append(mapped(pairs, sign, scout.norm))
    norm = max(scout.norm, *(float(pairs.values.abs().max()) for pairs in found))
    top, bottom = (
        dataclasses.replace(
            pairs,
            norm=norm,
            pair_converged=pairs.residuals <= tol * norm,
            converged=bool((pairs.residuals <= tol * norm).all()),
        )
        for pairs in found
    )
    both = top.converged and bottom.converged
    return SpectrumEnds(top, bottom, operator.products - first, both)


def largest_magnitude_eigenpairs(
    operator: LinearOperator,
    k: int = 1,
    tol: float = 1e-3,
    generator: torch.Generator | None = None,
    max_products: int | None = None,
) -> MagnitudeResult:
    """The `k` eigenpairs of the largest |λ|, which may lie at either end of the spectrum.

    They are among the k top and the k bottom pairs: `both_ends`, and again, from the vectors that
    it found, the ends whose pairs are wanted more accurately than it gives. Where 2 k ≥ P, the
    eigenpairs of the dense matrix.

    Args:
        operator: (P, P), symmetric.
        k: number of pairs.
        tol: as for `top_eigenpairs`.
        generator: for the start vectors; by default one with a fixed seed.
        max_products: of each solution for one end; up to four are made, after up to eight products
            that give a first ‖H‖.

    Returns:
        The pairs.

    Raises:
        ValueError: as `top_eigenpairs`.
    """
    check_operator(operator)
    first, size = operator.products, operator.shape[0]
    check_pairs(k, size)
    check_positive("tol", tol)
    if 2 * k >= size:
        return _dense(operator, k)
    ends = both_ends(operator, k, k, tol, generator, max_products)
    top, bottom, norm = ends.top, ends.bottom, ends.top.norm
    zero = 100 * torch.finfo(operator.dtype).eps * norm
    order = _choose(top, bottom, k, zero)
    for end, pairs in (("top", top), ("bottom", bottom)):
        wanted = [index for which, index in order if which == end]
        bounds = tol * scale_of(pairs.values, norm, operator.dtype)
        if not wanted or bool((pairs.residuals <= bounds)[wanted].all()):
            continue
        solve = top_eigenpairs if end == "top" else bottom_eigenpairs
        count = max(wanted) + 1
        better = solve(
            operator,
            count,
            tol,
            initial=pairs.vectors[:, :count],
            generator=generator,
            max_products=max_products,
        )
        if end == "top":
            top = better
        else:
            bottom = better
    order = _choose(top, bottom, k, zero)
    chosen = [(top if end == "top" else bottom, index) for end, index in order]
    values = torch.stack([pairs.values[index] for pairs, index in chosen])
    residuals = torch.stack([pairs.residuals[index] for pairs, index in chosen])
    return MagnitudeResult(
        values=values,
        vectors=torch.stack([pairs.vectors[:, index] for pairs, index in chosen], dim=1),
        residuals=residuals,
        ends=tuple(end for end, _ in order),
        matvecs=operator.products - first,
        converged=bool((residuals <= tol * scale_of(values, norm, operator.dtype)).all()),
    )


def _choose(top: EigenResult, bottom: EigenResult, k: int, zero: float) -> list[tuple[End, int]]:
    """The k largest |λ|, each once: what is negative counts at the bottom, the rest at the top."""
    ends: tuple[tuple[End, Tensor], ...] = (("top", top.values), ("bottom", bottom.values))
    pairs: list[tuple[float, End, int]] = [
        (abs(value), end, index)
        for end, values in ends
        for index, value in enumerate(values.tolist())
        if (value < -zero) == (end == "bottom")
    ]
    return [(end, index) for _, end, index in sorted(pairs, key=lambda pair: -pair[0])[:k]]


def _shifted(operator: LinearOperator, sign: float, shift: float) -> LinearOperator:
    """sign·H + shift·1."""

    def product(vectors: Tensor) -> Tensor:
        return torch.add(vectors * shift, operator.matvec(vectors), alpha=sign)

    return LinearOperator(operator.shape[0], product, operator.dtype, operator.device, product)


def _dense(operator: LinearOperator, k: int) -> MagnitudeResult:
    matrix = operator.to_dense().double()
    values, vectors = torch.linalg.eigh(matrix)
    order = values.abs().argsort(descending=True, stable=True)[:k]
    values, vectors = values[order].cpu(), vectors[:, order]
    residuals = torch.linalg.vector_norm(matrix @ vectors - vectors * values.to(vectors), dim=0)
    return MagnitudeResult(
        values=values,
        vectors=vectors.to(operator.dtype),
        residuals=residuals.cpu(),
        ends=tuple("bottom" if value < 0 else "top" for value in values.tolist()),
        matvecs=operator.shape[0],
        converged=True,
    )


@dataclass(frozen=True)
class SpectralNorm:
    """Largest |λ| of an operator.

    Attributes:
        value: |λ|.
        end: of the spectrum, at which it lies.
        residual: ‖Hv − λv‖: an eigenvalue lies within that distance of λ.
        matvecs: products used.
        converged: whether the residual is within its bound.
    """

    value: float
    end: End
    residual: float
    matvecs: int
    converged: bool


def spectral_norm(
    operator: LinearOperator,
    tol: float = 1e-3,
    generator: torch.Generator | None = None,
    max_products: int | None = None,
) -> SpectralNorm:
    """Spectral norm ‖H‖₂ of a symmetric operator, from `largest_magnitude_eigenpairs`.

    Args:
        operator: (P, P), symmetric.
        tol: as for `top_eigenpairs`.
        generator: for the start vectors; by default one with a fixed seed.
        max_products: as for `largest_magnitude_eigenpairs`.

    Returns:
        The norm, and the end of the spectrum that has it.

    Raises:
        ValueError: as `top_eigenpairs`.
    """
    check_operator(operator)
    found = largest_magnitude_eigenpairs(operator, 1, tol, generator, max_products)
    return SpectralNorm(
        abs(float(found.values[0])),
        found.ends[0],
        float(found.residuals[0]),
        found.matvecs,
        found.converged,
    )
