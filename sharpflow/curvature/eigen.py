"""Largest algebraic eigenpairs by a thick-restarted block Krylov (Davidson) method."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sharpflow.curvature.linear_operator import LinearOperator, check_finite

_FULL_BASIS = 256  # up to this size the basis may span the whole space, so restarts are not needed
_BASIS = 40
_FLOOR = 1e3  # residuals below this many rounding units of ‖H‖ may stagnate


@dataclass(frozen=True)
class EigenResult:
    """Top eigenpairs of a symmetric operator.

    Attributes:
        values: (k,) float64, largest algebraic, descending.
        vectors: (P, k), orthonormal, in the operator's dtype.
        residuals: (k,) float64, ‖Hv − λv‖.
        matvecs: products used by this call.
        converged: whether every residual is within `tol·max(|λ|, ε‖H‖)`.
        norm: ‖H‖ as far as it was seen, the largest |Ritz value| (a lower bound).
        refined: (P, k), each vector after one power step, Hv/λ, which the last product gives away:
            as a rule nearer to the eigenvector, but its residual is not known. For warm starts.
        pair_converged: (k,) bool, the same of each pair.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    matvecs: int
    converged: bool
    norm: float
    refined: Tensor
    pair_converged: Tensor


class _Subspace:
    """Orthonormal rows V, their products HV, and the projected matrix V H V^T in float64."""

    def __init__(self, operator: LinearOperator, capacity: int) -> None:
        self.operator = operator
        empty = torch.empty(0, operator.shape[0], dtype=operator.dtype, device=operator.device)
        self.basis, self.image = empty, empty
        self.projected = torch.zeros(capacity, capacity, dtype=torch.float64)
        self.count = 0
        self.capacity = capacity
        self.norm = 0.0

    def expand(self, rows: Tensor) -> int:
        """Add the directions of `rows` (b, P) that are new; returns how many were added."""
        start = self.count
        self._reserve(start + len(rows))
        for row in rows:
            self.count += self._orthonormalise(row)
        added = self.count - start
        if added:
            new = self.operator.matvec(self.basis[start : self.count].T).T
            # row by row: a block of one row would be transposed, slowly
            for place, row in enumerate(new, start):
                self.image[place] = row
            overlap = (self.basis[: self.count] @ new.T).double().cpu()
            self.projected[: self.count, start : self.count] = overlap
            self.projected[start : self.count, : self.count] = overlap.T
            corner = self.projected[start : self.count, start : self.count]
            corner.copy_((corner + corner.T.clone()) / 2)
        return added

    def _reserve(self, count: int) -> None:
        """Room for `count` rows; grown as needed, for a warm start uses few of them."""
        held = len(self.basis)
        if count > held and held < self.capacity:
            room = min(self.capacity, max(count, 8, 2 * held))
            for name in ("basis", "image"):
                old = getattr(self, name)
                new = old.new_empty(room, old.shape[1])
                new[: self.count] = old[: self.count]
                setattr(self, name, new)

    def _orthonormalise(self, row: Tensor) -> bool:
        """Write the new direction of `row` behind the basis; False if it has none."""
        if self.count == self.capacity:
            return False
        length = float(torch.linalg.vector_norm(row))
        if length == 0.0 or not math.isfinite(length):
            return False
        basis, new = self.basis[: self.count], self.basis[self.count]
        torch.div(row, length, out=new)
        for _ in range(4):
            if self.count:
                new.addmv_(basis.T, basis @ new, alpha=-1.0)
            length = float(torch.linalg.vector_norm(new))
            if length < 100 * torch.finfo(new.dtype).eps:
                return False
            new /= length
            if length > 0.5:  # little was removed, so what is left is clean (Daniel et al. 1976)
                break
        return True

    def ritz(self) -> tuple[Tensor, Tensor]:
        """Ritz values, descending, and coefficients (count, count) in the basis."""
        values, coefficients = torch.linalg.eigh(self.projected[: self.count, : self.count])
        self.norm = max(self.norm, float(values.abs().max()))
        return values.flip(0), coefficients.flip(1)

    def combine(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the basis and of its image combined by `coefficients` (count, j)."""
        weights = coefficients.T.to(self.basis)
        return weights @ self.basis[: self.count], weights @ self.image[: self.count]

    def restart(self, values: Tensor, coefficients: Tensor, keep: int) -> None:
        """Shrink to the `keep` leading Ritz vectors."""
        rows, images = self.combine(coefficients[:, :keep])
        self.basis[:keep], self.image[:keep] = rows, images
        self.projected.zero_()
        self.projected[:keep, :keep] = torch.diag(values[:keep])
        self.count = keep


def top_eigenpairs(
    operator: LinearOperator,
    k: int = 1,
    tol: float = 1e-3,
    initial: Tensor | None = None,
    generator: torch.Generator | None = None,
    max_products: int | None = None,
    guard: int = 0,
    basis_size: int | None = None,
) -> EigenResult:
    """The `k` largest algebraic eigenpairs of a symmetric operator.

    Rayleigh-Ritz on a growing orthonormal basis, expanded by the residuals of the wanted pairs
    that have not converged and shrunk to its best Ritz vectors when full. From one start vector
    this is thick-restart Lanczos with full orthogonalisation (Wu and Simon 2000); a block start
    of k vectors keeps a repeated eigenvalue from being missed; several start vectors make it the
    block Davidson method.

    ValueError for k outside 1..P, tol ≤ 0, start vectors of a wrong shape or not finite,
    max_products < k, or a product that is not finite.

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

    Returns:
        The pairs, and how they were found.
    """
    size = operator.shape[0]
    limit = max(1000, 20 * k) if max_products is None else max_products
    _check_arguments(size, k, tol, limit, guard)
    if basis_size is None:
        basis_size = _FULL_BASIS if size <= _FULL_BASIS else max(_BASIS, 4 * k)
    capacity = min(size, max(basis_size, 2 * k + 2))
    starts = _start_rows(operator, initial)
    capacity = min(size, max(capacity, len(starts) + k + 1))
    if generator is None:  # not the vectors that the starts were found from, in an earlier call
        generator = torch.Generator().manual_seed(len(starts))
    space = _Subspace(operator, capacity)
    first = operator.products

    def spent() -> int:
        return operator.products - first

    space.expand(starts[: min(capacity, limit)])
    while space.count < k:
        space.expand(_random_rows(operator, k - space.count, generator))
    if len(starts) and guard:
        _take_guard_steps(space, min(guard, limit - spent(), capacity - space.count), generator)

    unit = torch.finfo(operator.dtype).eps
    best, stale = math.inf, 0
    refreshed = False
    while True:
        values, coefficients = space.ritz()
        rows, images = space.combine(coefficients[:, :k])
        residual_rows = torch.addcmul(images, rows, values[:k, None].to(rows), value=-1.0)
        residuals = torch.linalg.vector_norm(residual_rows, dim=1).double().cpu()
        bounds = tol * values[:k].abs().clamp(min=math.sqrt(unit) * space.norm)
        open_pairs = (residuals > bounds).nonzero().flatten()
        near_floor = bool((bounds < _FLOOR * unit * space.norm).any())
        if len(open_pairs) == 0:
            if refreshed or not near_floor or spent() + k > limit:
                break
            # So close to rounding the rotated products are not trusted: they are made afresh.
            _rebuild(space, rows)
            refreshed = True
            continue
        refreshed = False
        worst = float((residuals / bounds)[open_pairs].sum())
        best, stale = (worst, 0) if worst < 0.9 * best else (best, stale + 1)
        floor = bool((residuals[open_pairs] < _FLOOR * unit * space.norm).all())
        if spent() >= limit or space.count == size or (floor and stale > 10):
            break
        wanted = residual_rows[open_pairs.to(rows.device)][: limit - spent()]
        if space.count + len(wanted) > capacity and capacity < size:
            space.restart(values, coefficients, max(k, (capacity - len(wanted) + k) // 2))
        # Without a new direction the subspace is invariant: only a random one can tell more.
        if not space.expand(wanted) and (
            floor or not space.expand(_random_rows(operator, 1, generator))
        ):
            break
    return EigenResult(
        values=values[:k].clone(),
        vectors=normalize(rows).T,
        residuals=residuals,
        matvecs=spent(),
        converged=bool((residuals <= bounds).all()),
        norm=space.norm,
        refined=normalize(rows + _power_step(residual_rows, values[:k], residuals <= bounds)).T,
        pair_converged=residuals <= bounds,
    )


def _power_step(residual_rows: Tensor, values: Tensor, converged: Tensor) -> Tensor:
    """Hv/λ − v, where λ is positive and the residual small enough for it to be an improvement."""
    sure = converged & (values > 0)
    factors = torch.where(sure, 1.0 / values, torch.zeros_like(values))
    return factors[:, None].to(residual_rows) * residual_rows


def _take_guard_steps(space: _Subspace, steps: int, generator: torch.Generator) -> None:
    """Lanczos from a random vector, inside the complement of the basis."""
    direction = _random_rows(space.operator, 1, generator)
    for _ in range(steps):
        if not space.expand(direction):
            return
        direction = space.image[space.count - 1 : space.count].clone()


def _rebuild(space: _Subspace, rows: Tensor) -> None:
    space.count = 0
    space.projected.zero_()
    space.expand(rows.clone())


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


def _check_arguments(size: int, k: int, tol: float, limit: int, guard: int) -> None:
    if not 1 <= k <= size:
        raise ValueError(f"k is {k}; it must lie between 1 and the operator's size, {size}.")
    if not tol > 0:
        raise ValueError(f"tol is {tol}; it must be positive.")
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
        values=found.values[:above],
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
    return dataclasses.replace(found, values=-found.values)
