"""Largest algebraic eigenpairs by a thick-restarted block Krylov (Davidson) method."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sharpflow.curvature.basis import Rows, Storage
from sharpflow.curvature.linear_operator import LinearOperator, check_finite

_FULL_BASIS = 256  # up to this size the basis may span the whole space, so restarts are not needed
_BASIS = 40
_FLOOR = 1e3  # residuals below this many rounding units of ‖H‖ may stagnate
_TINY = 1e-300  # in place of 0, for quotients
_NEAR = 0.25
"""Largest relative residual of start vectors that are taken for those of the wanted pairs."""
_RISK = 0.01
"""Probability with which the bound on the largest eigenvalue may fail."""
_SLACK = 3.0
"""How far, in `tol`, the bound on the largest eigenvalue may lie above what is accepted."""

ErrorKind = Literal["bound", "residual", "estimate"]


@dataclass(frozen=True)
class EigenResult:
    """Top eigenpairs of a symmetric operator.

    Attributes:
        values: (k,) float64, largest algebraic, descending.
        vectors: (P, k), orthonormal, in the operator's dtype.
        residuals: (k,) float64, ‖Hv − λv‖.
        errors: (k,) float64, how much further out an eigenvalue may lie than its value, over
            max(|λ|, ε‖H‖).
        error_kind: what `errors` are. `bound`: the largest eigenvalue lies below it for 99 random
            starts of 100, whatever the spectrum (van Dorsselaer, Hochstenbach and van der Vorst
            2000). `residual`: some eigenvalue lies that near, which is the wanted one if the start
            was good. `estimate`: residual²/gap, with the gap to the next eigenvalue as it was seen.
        matvecs: products used by this call.
        converged: whether every residual is within `tol·max(|λ|, ε‖H‖)`, or every error within
            `accuracy`. False where the operator's `noise` hides that.
        norm: ‖H‖ as far as it was seen, the largest |Ritz value| (a lower bound).
        refined: (P, k), each vector after one power step, Hv/λ, which the last product gives away:
            as a rule nearer to the eigenvector, but its residual is not known. For warm starts.
        pair_converged: (k,) bool, the same of each pair.
        next_value: the eigenvalue after the `k`, as far as it was seen (a lower bound); NaN where
            it was not.
        asymmetry: largest |aᵀHb − bᵀHa| over ‖H‖ for the basis that was used; 0 for one vector.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    errors: Tensor
    error_kind: ErrorKind
    matvecs: int
    converged: bool
    norm: float
    refined: Tensor
    pair_converged: Tensor
    next_value: float
    asymmetry: float


class _Subspace:
    """Orthonormal rows V, their products HV, and the projected matrix V H V^T in float64."""

    def __init__(self, operator: LinearOperator, capacity: int, storage: Storage) -> None:
        self.operator = operator
        self.basis = Rows(operator.shape[0], operator.dtype, operator.device, storage)
        self.image = Rows(operator.shape[0], operator.dtype, operator.device, storage)
        self.projected = torch.zeros(capacity, capacity, dtype=torch.float64)
        self.capacity = capacity
        self.norm = 0.0
        self.krylov = False

    @property
    def count(self) -> int:
        """Rows held."""
        return self.basis.count

    def expand(self, rows: Tensor) -> int:
        """Add the directions of `rows` (b, P) that are new; returns how many were added."""
        start = self.count
        for row in rows:
            self._orthonormalise(row)
        added = self.count - start
        if added:
            new = self.operator.matvec(self.basis.tail(start).T).T
            for row in new:  # row by row: a block of one row would be transposed, slowly
                self.image.append(row)
            overlap = self.basis.products(new).double().cpu()
            self.projected[: self.count, start : self.count] = overlap
            self.projected[start : self.count, : self.count] = overlap.T
            corner = self.projected[start : self.count, start : self.count]
            corner.copy_((corner + corner.T.clone()) / 2)
        return added

    def _orthonormalise(self, row: Tensor) -> None:
        """Add the new direction of `row` to the basis, if it has one."""
        if self.count == self.capacity:
            return
        length = float(torch.linalg.vector_norm(row))
        if length == 0.0 or not math.isfinite(length):
            return
        new = row / length
        for _ in range(4):
            self.basis.project_out(new)
            length = float(torch.linalg.vector_norm(new))
            if length < 100 * torch.finfo(new.dtype).eps:
                return
            new /= length
            if length > 0.5:  # little was removed, so what is left is clean (Daniel et al. 1976)
                break
        self.basis.append(new)

    def ritz(self) -> tuple[Tensor, Tensor]:
        """Ritz values, descending, and coefficients (count, count) in the basis."""
        values, coefficients = torch.linalg.eigh(self.projected[: self.count, : self.count])
        self.norm = max(self.norm, float(values.abs().max()))
        return values.flip(0), coefficients.flip(1)

    def residuals(self, values: Tensor, coefficients: Tensor) -> Tensor:
        """Rows Hx − λx of Ritz pairs, (j, P), from coefficients (count, j)."""
        rows = self.image.combine(coefficients.T)
        return self.basis.combine(-values[:, None] * coefficients.T, into=rows)

    def restart(self, values: Tensor, coefficients: Tensor, keep: int) -> None:
        """Shrink to the `keep` leading Ritz vectors."""
        for rows in (self.basis, self.image):
            rows.replace(rows.combine(coefficients[:, :keep].T))
        self.projected.zero_()
        self.projected[:keep, :keep] = torch.diag(values[:keep])
        self.krylov = False

    def asymmetry(self) -> float:
        """Largest |aᵀHb − bᵀHa| over ‖H‖ of basis vectors."""
        if self.count < 2 or self.norm == 0.0:
            return 0.0
        matrix = self.basis.overlap(self.image).double()
        return float((matrix - matrix.T).abs().max()) / self.norm

    def rebuild(self, coefficients: Tensor) -> None:
        """Start again from the vectors of coefficients (count, j), their products made afresh."""
        rows = self.basis.combine(coefficients.T)
        self.basis.clear()
        self.image.clear()
        self.projected.zero_()
        self.krylov = False
        self.expand(rows)

    def largest_below(self, bound: float, values: Tensor, residual: float, share: float) -> bool:
        """Whether H has no eigenvalue above `bound`, but for a probability of `_RISK`.

        The Lanczos polynomial p of a unit start vector v has ‖p(H)v‖ = 1, so it is at most 1/|γ| at
        the largest eigenvalue, in whose direction v has the component γ; and above the largest Ritz
        value it grows.

        Args:
            bound: above the largest Ritz value.
            values: all Ritz values.
            residual: norm of the largest Ritz pair's residual.
            share: the last coefficient of its vector, whose ratio is the next off-diagonal element.
        """
        if residual == 0.0 or share == 0.0:
            return True  # a random start has a part in every eigenspace, and they are all seen
        if not bound > float(values[0]):
            return False
        used = self.projected[: self.count, : self.count]
        beside = [*used.diagonal(1).abs().tolist(), residual / share]
        size = float((bound - values).log().sum()) - sum(map(math.log, beside))
        return size >= -_log_component(self.operator.shape[0])


def _log_component(size: int) -> float:
    """Logarithm of a number that |γ| exceeds but for a probability of `_RISK`.

    γ is a component of a random unit vector, whose density is largest at 0.
    """
    if size < 2:
        return 0.0
    ratio = math.lgamma((size - 1) / 2) - math.lgamma(size / 2)
    return math.log(_RISK * math.sqrt(math.pi) / 2) + ratio


def scale_of(values: Tensor, norm: float, dtype: torch.dtype) -> Tensor:
    """What residuals and errors of eigenvalues are relative to: max(|λ|, ε‖H‖).

    Args:
        values: λ, float64.
        norm: ‖H‖, as far as it was seen.
        dtype: of the operator; ε is the square root of its rounding unit.
    """
    least = math.sqrt(torch.finfo(dtype).eps) * norm
    return values.abs().clamp(min=max(least, _TINY))


def _errors(
    values: Tensor, residuals: Tensor, scale: Tensor, following: Sequence[float]
) -> tuple[Tensor, ErrorKind]:
    """Relative errors of values by what their residuals tell.

    Args:
        values: (k,).
        residuals: (k,).
        scale: (k,), see `scale_of`.
        following: what was seen of the next eigenvalue; none where the gap to it does not count.
    """
    if not following:
        return residuals / scale, "residual"
    gaps = (values - max(following)) / 2  # the next eigenvalue was seen from below
    squared = torch.where(gaps > 0, residuals.square() / gaps.clamp(min=_TINY), math.inf)
    return torch.minimum(residuals, squared) / scale, "estimate"


def top_eigenpairs(
    operator: LinearOperator,
    k: int = 1,
    tol: float = 1e-3,
    initial: Tensor | None = None,
    generator: torch.Generator | None = None,
    max_products: int | None = None,
    guard: int = 0,
    basis_size: int | None = None,
    *,
    accuracy: float | None = None,
    next_ratio: float | None = None,
    storage: Storage | None = None,
) -> EigenResult:
    """The `k` largest algebraic eigenpairs of a symmetric operator.

    Rayleigh-Ritz on a growing orthonormal basis, expanded by the residuals of the wanted pairs
    that have not converged and shrunk to its best Ritz vectors when full. From one start vector
    this is thick-restart Lanczos with full orthogonalisation (Wu and Simon 2000); a block start
    of k vectors keeps a repeated eigenvalue from being missed; several start vectors make it the
    block Davidson method.

    A small residual alone does not tell the largest eigenvalue from one close below it. So from a
    random start vector (k = 1, no restart yet) a pair is accepted only when no eigenvalue lies more
    than 3 `tol` above it, but for a probability of 1 % (`EigenResult.error_kind`).

    ValueError for k outside 1..P, tol or accuracy ≤ 0, start vectors of a wrong shape or not
    finite, max_products < k, or a product that is not finite.

    Args:
        operator: (P, P), symmetric.
        k: number of pairs, 1 ≤ k ≤ P.
        tol: a pair is converged when ‖Hv − λv‖ ≤ tol·max(|λ|, ε‖H‖), ε the square root of the
            dtype's rounding unit; then some eigenvalue lies that close to λ.
        initial: (P,) or (P, m) start vectors, the eigenvectors of a nearby state, say. Fewer than k
            are completed by random ones. Without it the start is random.
        generator: for random vectors; by default one with a fixed seed.
        max_products: stop (`converged` false) before exceeding this; default max(1000, 20 k).
        guard: with `initial`, the number of Lanczos steps from a random vector to take before
            convergence is accepted, so that a start in a wrong eigenvector is not taken for the
            top.
        basis_size: largest basis; memory is 2·basis_size·P numbers. Default: P up to 256, else
            max(40, 4 k).
        accuracy: relative error of the eigenvalues that is enough, instead of `tol`: by the bound
            from a random start, by the residual where there is none (k > 1, after a restart), and
            with `initial` by residual²/gap where that was near and the gap is known
            (`EigenResult.error_kind`).
        next_ratio: ratio of the eigenvalue after the `k` to the last of them at a nearby state, for
            the gap; NaN or None where it is not known.
        storage: where the basis is kept.

    Returns:
        The pairs, and how they were found.
    """
    size = operator.shape[0]
    limit = max(1000, 20 * k) if max_products is None else max_products
    _check_arguments(size, k, tol, limit, guard, accuracy)
    if basis_size is None:
        basis_size = _FULL_BASIS if size <= _FULL_BASIS else max(_BASIS, 4 * k)
    capacity = min(size, max(basis_size, k + 2))
    starts = _start_rows(operator, initial)
    capacity = min(size, max(capacity, len(starts) + k + 1 if len(starts) else 0))
    if generator is None:  # not the vectors that the starts were found from, in an earlier call
        generator = torch.Generator().manual_seed(len(starts))
    space = _Subspace(operator, capacity, storage or Storage())
    first = operator.products

    def spent() -> int:
        return operator.products - first

    space.expand(starts[: min(capacity, limit)])
    space.krylov = k == 1 and not space.count
    while space.count < k:
        space.expand(_random_rows(operator, k - space.count, generator))
    if len(starts) and guard:
        _take_guard_steps(space, min(guard, limit - spent(), capacity - space.count), generator)

    unit = torch.finfo(operator.dtype).eps
    best, stale = math.inf, 0
    near = refreshed = False
    while True:
        values, coefficients = space.ritz()
        chosen = coefficients[:, :k]
        residual_rows = space.residuals(values[:k], chosen)
        residuals = torch.linalg.vector_norm(residual_rows, dim=1).double().cpu()
        following = float(values[k]) if len(values) > k else math.nan
        scale = scale_of(values[:k], space.norm, operator.dtype)
        bounds = tol * scale
        if space.count == len(starts):
            near = bool((residuals <= _NEAR * scale).all())
        told = math.nan if next_ratio is None else next_ratio * abs(float(values[k - 1]))
        seen = [value for value in (told, following) if near and not math.isnan(value)]
        errors, kind = _errors(values[:k], residuals, scale, seen)
        done = residuals <= bounds if accuracy is None else errors <= accuracy
        if space.krylov:
            slack = _SLACK * tol if accuracy is None else accuracy
            share = abs(float(chosen[-1, 0]))
            reach = float(values[0] + slack * scale[0])
            sure = space.largest_below(reach, values, float(residuals[0]), share)
            if sure:
                errors, kind = torch.full_like(errors, slack), "bound"
            done = done & sure if accuracy is None else torch.full_like(done, sure)
        noise = 2 * operator.noise * space.norm
        done = done | (residuals <= noise)  # nothing is found below it
        open_pairs = (~done).nonzero().flatten()
        near_floor = accuracy is None and bool((bounds < _FLOOR * unit * space.norm).any())
        if len(open_pairs) == 0:
            if refreshed or not near_floor or spent() + k > limit:
                break
            # So close to rounding the rotated products are not trusted: they are made afresh.
            space.rebuild(chosen)
            refreshed = True
            continue
        refreshed = False
        worst = float((residuals / bounds)[open_pairs].sum())
        best, stale = (worst, 0) if worst < 0.9 * best else (best, stale + 1)
        floor = bool((residuals[open_pairs] < _FLOOR * unit * space.norm).all())
        if spent() >= limit or space.count == size or (floor and stale > 10):
            break
        wanted = residual_rows[open_pairs.to(residual_rows.device)][: limit - spent()]
        if space.count + len(wanted) > capacity and capacity < size:
            space.restart(values, coefficients, max(k, (capacity - len(wanted) + k) // 2))
        # Without a new direction the subspace is invariant: only a random one can tell more.
        if not space.expand(wanted):
            space.krylov = False
            if floor or not space.expand(_random_rows(operator, 1, generator)):
                break
    small = residuals <= bounds if accuracy is None else errors <= accuracy
    small &= noise <= bounds if accuracy is None else noise <= accuracy * values[:k].abs()
    asymmetry = space.asymmetry()
    rows = normalize(space.basis.combine(chosen.T))
    del space.basis, space.image
    return EigenResult(
        values=values[:k].clone(),
        vectors=rows.T,
        residuals=residuals,
        errors=errors,
        error_kind=kind,
        matvecs=spent(),
        converged=bool(small.all()),
        norm=space.norm,
        refined=normalize(_power_step(rows, residual_rows, values[:k], residuals)).T,
        pair_converged=small,
        next_value=following,
        asymmetry=asymmetry,
    )


def _power_step(rows: Tensor, residual_rows: Tensor, values: Tensor, residuals: Tensor) -> Tensor:
    """Hv/λ, where λ is positive and the residual small enough for it to be an improvement."""
    sure = (values > 0) & (residuals < 0.5 * values.abs())
    factors = torch.where(sure, 1.0 / values, torch.zeros_like(values))
    return torch.addcmul(rows, factors[:, None].to(rows), residual_rows)


def _take_guard_steps(space: _Subspace, steps: int, generator: torch.Generator) -> None:
    """Lanczos from a random vector, inside the complement of the basis."""
    direction = _random_rows(space.operator, 1, generator)
    for _ in range(steps):
        if not space.expand(direction):
            return
        direction = space.image.tail(space.count - 1).clone()


def _random_rows(operator: LinearOperator, count: int, generator: torch.Generator) -> Tensor:
    rows = torch.randn(
        count,
        operator.shape[0],
        dtype=operator.dtype,
        device=generator.device,
        generator=generator,
    )
    return rows.to(operator.device)


def _start_rows(operator: LinearOperator, initial: Tensor | None) -> Tensor:
    size = operator.shape[0]
    if initial is None:
        return torch.empty(0, size, dtype=operator.dtype, device=operator.device)
    if initial.ndim not in (1, 2) or initial.shape[0] != size:
        raise ValueError(
            f"initial has shape {tuple(initial.shape)}; it must be ({size},) or ({size}, m)."
        )
    check_finite(initial, "initial")
    rows = initial[None, :] if initial.ndim == 1 else initial.T
    return rows.to(dtype=operator.dtype, device=operator.device)


def _check_arguments(
    size: int, k: int, tol: float, limit: int, guard: int, accuracy: float | None
) -> None:
    if not 1 <= k <= size:
        raise ValueError(f"k is {k}; it must lie between 1 and the operator's size, {size}.")
    if not tol > 0:
        raise ValueError(f"tol is {tol}; it must be positive.")
    if accuracy is not None and not accuracy > 0:
        raise ValueError(f"accuracy is {accuracy}; it must be positive.")
    if limit < k:
        raise ValueError(f"max_products is {limit}; {k} pairs need at least {k} products.")
    if guard < 0:
        raise ValueError(f"guard is {guard}; it must not be negative.")


def eigenpairs_above(
    operator: LinearOperator,
    bound: float,
    tol: float = 1e-3,
    *,
    most: int = 100,
    initial: Tensor | None = None,
    generator: torch.Generator | None = None,
    max_products: int | None = None,
) -> EigenResult:
    """All eigenpairs above a bound: those that exceed 2/η, say.

    Pairs are added, each block started from those before it, until one lies at or below the bound;
    that one is left out. Near the bound they are as sure as their residuals.

    Args:
        operator: (P, P), symmetric.
        bound: values at or below it are not wanted.
        tol: as for `top_eigenpairs`.
        most: largest number of pairs.
        initial: (P, m), eigenvectors of a nearby state.
        generator: as for `top_eigenpairs`.
        max_products: in all.

    Returns:
        The pairs, maybe none. `converged` is false where `most` pairs lie above the bound, or the
        products were spent.

    Raises:
        ValueError: as `top_eigenpairs`.
    """
    limit = 1000 + 20 * most if max_products is None else max_products
    largest = min(most + 1, operator.shape[0])
    count = min(largest, 2 if initial is None or initial.ndim == 1 else initial.shape[1] + 1)
    spent = 0
    while True:
        found = top_eigenpairs(operator, count, tol, initial, generator, max(count, limit - spent))
        spent += found.matvecs
        above = int((found.values > bound).sum())
        whole = above < count or count == operator.shape[0]
        if whole or count == largest or spent >= limit:
            break
        initial, count = found.refined, min(largest, 2 * count)
    above = min(above, most)
    sure = found.pair_converged[: min(above + 1, count)]
    return dataclasses.replace(
        found,
        next_value=float(found.values[above]) if above < count else found.next_value,
        values=found.values[:above],
        errors=found.errors[:above],
        vectors=found.vectors[:, :above],
        residuals=found.residuals[:above],
        refined=found.refined[:, :above],
        pair_converged=found.pair_converged[:above],
        matvecs=spent,
        converged=bool(whole and sure.all()),
    )


def bottom_eigenpairs(
    operator: LinearOperator, k: int = 1, tol: float = 1e-3, **options: Any
) -> EigenResult:
    """The `k` smallest algebraic eigenpairs, ascending: those of `top_eigenpairs` of −H.

    Args:
        operator: (P, P), symmetric.
        k: number of pairs.
        tol: as for `top_eigenpairs`.
        options: its other arguments.
    """
    found = top_eigenpairs(-operator, k, tol, **options)
    return mapped(found, -1.0, 0.0)


def mapped(found: EigenResult, sign: float, shift: float) -> EigenResult:
    """Eigenpairs of H from those of sign·H + shift·1: whatever is in units of λ goes along.

    Args:
        found: pairs of the second matrix, whose norm and convergence they keep.
        sign: 1 or −1.
        shift: a number.
    """
    values = sign * (found.values - shift)
    dtype, norm = found.vectors.dtype, found.norm
    return dataclasses.replace(
        found,
        values=values,
        errors=found.errors * scale_of(found.values, norm, dtype) / scale_of(values, norm, dtype),
        next_value=sign * (found.next_value - shift),
    )
