"""Largest algebraic eigenpairs by thick-restarted (block) Lanczos."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sharpflow.arguments import as_number, check_count, check_positive, is_count
from sharpflow.curvature.basis import Rows, Storage
from sharpflow.curvature.linear_operator import (
    LinearOperator,
    check_finite,
    check_operator,
    over_unit,
)

_FULL_BASIS = 256  # up to this size the basis may span the whole space, so restarts are not needed
_BASIS = 40
LARGE = 2**22  # above this size memory counts: a basis then is as small as it can be
_SMALL_BASIS = 6
_CHECK = 16  # rows that the check for what one start vector does not see needs, if there is room
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
            `accuracy`. False where the operator's `noise` or asymmetry hides that, and where
            `max_products` end the check for pairs that one random start vector does not see
            (k > 1).
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
    """Orthonormal rows V, and their products as Vᵀ B + Fᵀ C with few orthonormal rows F beside V.

    In exact arithmetic the residuals of all Ritz pairs lie in the span of F, one row for a single
    start vector: the products themselves need not be kept. H is the operator over `unit`, a power
    of two by which squares of its products neither vanish nor overflow in its dtype.

    Attributes:
        basis: V, (count, P).
        unit: 1, but for operators of an extreme scale; set by the first product that is not zero.
        norm: the largest |Ritz value| so far.
        krylov: whether all rows, or all of a check, come from one random vector.
    """

    def __init__(self, operator: LinearOperator, capacity: int, storage: Storage) -> None:
        self.operator = operator
        self.basis = Rows(operator.shape[0], operator.dtype, operator.device, storage)
        self.capacity = capacity
        self.norm = 0.0
        self.unit = 0.0
        self._skewness = 0.0
        self.clear()

    def clear(self) -> None:
        """Forget all rows."""
        self.basis.clear()
        self._inner = torch.zeros(self.capacity, self.capacity, dtype=torch.float64)  # B
        self._front: list[Tensor] = []  # F
        self._coupling = torch.zeros(0, self.capacity, dtype=torch.float64)  # C
        self._aside: list[tuple[Tensor, Tensor]] = []  # rows of F and C
        self.krylov = False
        self._polynomial = _Polynomial()

    @property
    def count(self) -> int:
        """Rows held."""
        return self.basis.count

    @property
    def projected(self) -> Tensor:
        """V H Vᵀ, symmetrised."""
        inner = self._inner[: self.count, : self.count]
        return (inner + inner.T) / 2

    @property
    def coupling(self) -> Tensor:
        """C, (rows of F, count)."""
        return self._coupling[:, : self.count]

    def expand(self, rows: Iterable[Tensor]) -> int:
        """Add what is new in some rows (P,), which are used up; returns how many were added."""
        start = self.count
        for row in rows:
            self._add(row)
        return self._multiply(start)

    def follow(self, mixtures: Tensor) -> int:
        """Add the directions of mixtures (j, rows of F) of the rows of F; returns how many."""
        if not self._front or not len(mixtures):
            return 0
        start = self.count
        lengths, turn = torch.linalg.svd(mixtures)[1:]
        rank = int((lengths > 1e-6 * lengths[0]).sum()) if lengths[0] > 0 else 0
        self._turn_front(turn)
        for _ in range(min(rank, self.capacity - start)):
            row, coupling = self._front.pop(0), self._coupling[0].clone()
            self._coupling = self._coupling[1:]
            place = self.count
            if self._add(row):
                self._inner[place] += coupling
        return self._multiply(start)

    def begin(self, row: Iterable[Tensor]) -> int:
        """Add a random row (P,), from which `chain` goes on; returns whether it was added.

        What the products of the rows before have beside them is put aside until `join`, so that
        restarts of the rows from here on leave it whole.
        """
        self.krylov, self._polynomial = True, _Polynomial()
        self._aside = list(zip(self._front, self._coupling, strict=True))
        self._front, self._coupling = [], self._coupling[:0]
        return self.expand(row)

    def join(self) -> None:
        """Make one subspace of the rows before `begin` and those from there on."""
        self.krylov = False
        for row, coupling in self._aside:
            components, length = self._outside(row)
            self._inner[: self.count] += components[:, None] * coupling
            if length > 0.0:
                self._add_front(row, length * coupling)
        self._aside = []

    def chain(self, start: int = 0) -> int:
        """Add what products of the rows from `start` on have beside the rows; returns how many.

        They are a Krylov basis: that is one direction.
        """
        coupling = self.coupling[:, start:]
        return self.follow(coupling[:, coupling.norm(dim=0).argmax()][None])

    def _add(self, row: Tensor) -> bool:
        """Add the new direction of a row to V, if it has one."""
        if self.count == self.capacity:
            return False
        length = float(torch.linalg.vector_norm(row))
        if length == 0.0 or not math.isfinite(length):
            return False
        _, left = self._outside(row.div_(length))
        if left < 100 * torch.finfo(row.dtype).eps:
            return False
        place = self.count
        fronts, self._front = self._front, []
        couplings, self._coupling = self._coupling, self._coupling[:0]
        for front, coupling in zip(fronts, couplings, strict=True):
            part = float(torch.dot(row, front))
            self._inner[place] += part * coupling
            self._add_front(front.sub_(row, alpha=part), coupling)
        self.basis.append(row)
        return True

    def _outside(self, row: Tensor) -> tuple[Tensor, float]:
        """Take V's part from a row in place, and make what is left a unit vector.

        Returns:
            The components along V, and the length of what was left.
        """
        components = torch.zeros(self.count, dtype=torch.float64)
        scale = 1.0
        for _ in range(4):
            before = float(torch.linalg.vector_norm(row))
            if before == 0.0:
                return components, 0.0
            row.div_(before)
            scale *= before
            components += scale * self.basis.project_out(row)
            after = float(torch.linalg.vector_norm(row))
            if after > 0.5:  # little was removed, so what is left is clean (Daniel et al. 1976)
                row.div_(after)
                return components, scale * after
        return components, 0.0

    def _add_front(self, row: Tensor, coupling: Tensor) -> None:
        """Add a row, orthogonal to V, to what the products have beside V."""
        length = float(torch.linalg.vector_norm(row))
        if length == 0.0:
            return
        row.div_(length)
        for _ in range(2):
            for index, front in enumerate(self._front):
                part = float(torch.dot(front, row))
                row.sub_(front, alpha=part)
                self._coupling[index] += length * part * coupling
        left = float(torch.linalg.vector_norm(row))
        if self._front and left < 100 * torch.finfo(row.dtype).eps:
            return
        self._front.append(row.div_(left))
        self._coupling = torch.cat([self._coupling, length * left * coupling[None]])

    def _turn_front(self, turn: Tensor) -> None:
        """Replace F by `turn` F, an orthogonal matrix."""
        if len(self._front) == 1:
            return
        turned = turn.to(self._front[0]) @ torch.stack(self._front)
        self._front = [row.clone() for row in turned]
        self._coupling = turn @ self._coupling

    def _multiply(self, start: int) -> int:
        """Multiply the rows from `start` on; returns their number."""
        added = self.count - start
        if not added:
            return 0
        images, self.unit = over_unit(self.operator.matvec(self.basis.tail(start).T).T, self.unit)
        rows = [images[0].clone()] if added == 1 else list(images.clone())
        del images
        for place, row in enumerate(rows, start):
            components, length = self._outside(row)
            self._inner[: self.count, place] = components
            if length > 0.0:
                coupling = torch.zeros(self.capacity, dtype=torch.float64)
                coupling[place] = length
                self._add_front(row, coupling)
        return added

    def ritz(self, start: int = 0) -> tuple[Tensor, Tensor]:
        """Ritz values of the rows from `start` on, descending, and coefficients in these rows."""
        values, coefficients = torch.linalg.eigh(self.projected[start:, start:])
        self.norm = max(self.norm, float(values.abs().max()))
        return values.flip(0), coefficients.flip(1)

    def residuals(self, values: Tensor, coefficients: Tensor) -> Tensor:
        """‖Hx − λx‖ of Ritz pairs, (j,), from coefficients (count, j)."""
        inner = self._inner[: self.count, : self.count]
        inside = inner @ coefficients - coefficients * values  # not 0 where H is not symmetric
        return torch.cat([inside, self.coupling @ coefficients]).norm(dim=0)

    def restart(self, values: Tensor, coefficients: Tensor, keep: int, start: int = 0) -> None:
        """Shrink the rows from `start` on to their `keep` leading Ritz vectors."""
        self.asymmetry(start)
        if self.krylov:
            self._polynomial.divide(coefficients, values, keep)
        kept = torch.block_diag(torch.eye(start).double(), coefficients[:, :keep])
        keep += start
        inner = kept.T @ self._inner[: self.count, : self.count] @ kept
        coupling = self.coupling @ kept
        self.basis.turn(kept.T)
        self._inner.zero_()
        self._inner[:keep, :keep] = inner
        self._coupling.zero_()
        self._coupling[:, :keep] = coupling

    def asymmetry(self, start: int = 0) -> float:
        """Largest |aᵀHb − bᵀHa| over ‖H‖ of rows from `start` on, and of those before restarts."""
        if self.count > start + 1 and self.norm > 0:
            inner = self._inner[start : self.count, start : self.count]
            self._skewness = max(self._skewness, float((inner - inner.T).abs().max()))
        return self._skewness / (self.norm or 1.0)

    def rebuild(self, coefficients: Tensor) -> None:
        """Start again from the vectors of coefficients (count, j), their products made afresh."""
        rows = self.basis.combine(coefficients.T)
        self.clear()
        self.expand(list(rows))

    def release(self, values: Tensor, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Unit Ritz vectors (j, P) and each after a power step; the subspace is given up.

        The step, Hv/λ, is taken where λ is positive and the residual small enough for it to be an
        improvement.
        """
        residuals = self.residuals(values, coefficients)
        sure = (values > 0) & (residuals < 0.5 * values.abs())
        factors = torch.where(sure, 1.0 / values, torch.zeros_like(values))
        steps = self.coupling @ coefficients * factors
        rows = self.basis.combine(coefficients.T)
        self.basis.clear()
        rows /= rows.norm(dim=1, keepdim=True)
        refined = rows.clone()
        for front, parts in zip(self._front, steps.to(rows), strict=True):
            refined.addcmul_(parts[:, None], front)
        self._front.clear()
        return rows, refined.div_(refined.norm(dim=1, keepdim=True))

    def largest_below(self, bound: float, values: Tensor, start: int = 0) -> bool:
        """Whether H has no eigenvalue above `bound`, but for a probability of `_RISK`.

        Args:
            bound: above the largest Ritz value.
            values: all Ritz values of the rows from `start` on.
            start: H is meant on what is orthogonal to the rows before this one.
        """
        return self._polynomial.largest_below(
            bound,
            self.projected[start:, start:],
            values,
            outside=float(self.coupling[:, start:].norm()),
            size=self.operator.shape[0] - start,
        )


class _Polynomial:
    """The Lanczos polynomial q of a random unit start vector v, also across restarts.

    After n products the row beside the basis is along q(H)v, where q has all Ritz values for roots,
    those that restarts gave up among them (Sorensen 1992). ‖q(H)v‖ is known, so q is at most
    ‖q(H)v‖/|γ| at the largest eigenvalue, in whose direction v has the component γ; and above the
    largest root it grows.
    """

    def __init__(self) -> None:
        self._roots: list[Tensor] = []  # given up by restarts
        self._scale = 0.0  # logarithm of what their factor of q makes of the length of v
        self._start: Tensor | None = None  # what it makes of v, of length 1, in the basis

    def divide(self, coefficients: Tensor, values: Tensor, keep: int) -> None:
        """Take note of a restart with the first `keep` Ritz vectors."""
        start = torch.zeros(len(values), dtype=torch.float64)
        held = torch.ones(1).double() if self._start is None else self._start
        start[: len(held)] = held
        parts, lost = coefficients[:, :keep].T @ start, values[keep:]
        logs = (values[:keep, None] - lost).abs().clamp(min=_TINY).log().sum(1)
        signs = (values[:keep, None] - lost).sign().prod(1)
        parts = parts * signs * (logs - logs.max()).exp()
        length = parts.norm().clamp(min=_TINY)
        self._start, self._scale = parts / length, self._scale + float(logs.max() + length.log())
        self._roots.append(lost)

    def largest_below(
        self, bound: float, matrix: Tensor, values: Tensor, outside: float, size: int
    ) -> bool:
        """Whether H has no eigenvalue above `bound`, but for a probability of `_RISK`.

        Args:
            bound: above the largest Ritz value.
            matrix: H in the basis.
            values: its eigenvalues, descending.
            outside: length of what is beside the basis of the last product.
            size: of H.
        """
        beside = _off_diagonal(matrix, self._start)
        if outside == 0.0 or not all(beside):
            return True  # a random start has a part in every eigenspace, and they are all seen
        roots = torch.cat([values, *self._roots])
        if not bound > float(roots.max()):
            return False
        scale = self._scale + sum(map(math.log, [*beside, outside]))
        return float((bound - roots).log().sum()) - scale >= -_log_component(size)


def _off_diagonal(matrix: Tensor, start: Tensor | None) -> list[float]:
    """Elements beside the diagonal of a matrix made tridiagonal from a start vector.

    Without it the matrix is tridiagonal.
    """
    if start is None:
        return matrix.diagonal(1).abs().tolist()
    rows = [torch.cat([start, start.new_zeros(len(matrix) - len(start))])]
    found: list[float] = []
    while len(rows) < len(matrix):
        known, new = torch.stack(rows), matrix @ rows[-1]
        for _ in range(2):
            new = new - known.T @ (known @ new)
        found.append(float(new.norm()))
        rows.append(new / max(found[-1], _TINY))
    return found


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
    more: int = 0,
    trusted: bool = True,
    storage: Storage | None = None,
) -> EigenResult:
    """The `k` largest algebraic eigenpairs of a symmetric operator.

    Rayleigh-Ritz on a growing orthonormal basis, expanded by the residuals of the wanted pairs
    that have not converged and shrunk to its best Ritz vectors when full. From one start vector,
    which it is without `initial`, this is thick-restart Lanczos with full orthogonalisation (Wu and
    Simon 2000); several make it a block method.

    A small residual alone does not tell the largest eigenvalue from one close below it. So from a
    random start vector pairs are accepted only when no eigenvalue lies more than 3 `tol` above the
    largest, but for a probability of 1 % (`EigenResult.error_kind`, for k = 1).

    One vector sees one direction of the eigenspace of a repeated eigenvalue. So with k > 1 pairs of
    a random start are accepted only when a second random vector, from outside of all that the first
    has spanned, finds no eigenvalue above the k-th there, by the same bound; what it finds joins
    the basis. Where the bound needs more than `max_products`, the pairs are not `converged`.

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
        basis_size: largest basis; memory is about (basis_size + k)·P numbers. Default: P up to 256,
            else max(40, 4 k + 16), and 2 k + 4 where P is above four million.
        accuracy: relative error of the eigenvalues that is enough, instead of `tol`: by the bound
            from a random start, by the residual where there is none (k > 1, after a restart), and
            with `initial` by residual²/gap where that was near and the gap is known
            (`EigenResult.error_kind`).
        next_ratio: ratio of the eigenvalue after the `k` to the last of them at a nearby state, for
            the gap; NaN or None where it is not known.
        more: number of Ritz pairs after the `k` that are returned too, where the basis has them;
            their convergence is not waited for.
        trusted: whether a small residual of `initial` tells that they are those of the wanted
            pairs; it does not where they were found at this very state from vectors far from them.
        storage: where the basis is kept.

    Returns:
        The pairs, and how they were found.
    """
    check_operator(operator)
    size = operator.shape[0]
    check_arguments(k, tol, accuracy, max_products, basis_size)
    check_pairs(k, size)
    check_count("guard", guard, 0)
    check_count("more", more, 0)
    k, guard, more = int(k), int(guard), int(more)  # NumPy's comparisons are none of Python's
    limit = max(1000, 20 * k) if max_products is None else int(max_products)
    starts = _start_rows(operator, initial)
    held = len(starts)
    if basis_size is None:
        basis_size = default_basis(size, k)
    capacity = min(size, max(int(basis_size), k + 2, held + k + 1 if held else 0))
    if generator is None:  # not the vectors that the starts were found from, in an earlier call
        generator = torch.Generator().manual_seed(held)
    space = _Subspace(operator, capacity, storage or Storage())
    first = operator.products

    def spent() -> int:
        return operator.products - first

    space.expand(row.clone() for row in starts[: min(capacity, limit)])
    if not space.count:
        space.begin(_random_rows(operator, 1, generator))
        while space.count < k and space.chain():
            pass
    missing = k - space.count
    if missing > 0:
        space.krylov = False
        while space.count < k:
            space.expand(_random_rows(operator, k - space.count, generator))
    if held and guard:
        _take_guard_steps(space, min(guard, limit - spent(), capacity - space.count), generator)

    unit = torch.finfo(operator.dtype).eps
    best, stale = math.inf, 0
    near = refreshed = False
    whole = k == 1 or held >= k  # whether all was looked for that one start vector does not see
    while True:
        values, coefficients = space.ritz()
        chosen = coefficients[:, :k]
        residuals = space.residuals(values[:k], chosen)
        following = float(values[k]) if len(values) > k else math.nan
        scale = scale_of(values[:k], space.norm, operator.dtype)
        bounds = tol * scale
        if space.count == held:
            near = trusted and bool((residuals <= _NEAR * scale).all())
        told = math.nan if next_ratio is None else next_ratio * abs(float(values[k - 1]))
        seen = [value for value in (told, following) if near and not math.isnan(value)]
        errors, kind = _errors(values[:k], residuals, scale, seen)
        done = residuals <= bounds if accuracy is None else errors <= accuracy
        slack = _SLACK * tol if accuracy is None else accuracy
        if space.krylov and (k == 1 or bool(done.all())):
            sure = space.largest_below(float(values[0] + slack * scale[0]), values)
            if sure and k == 1:
                errors, kind = torch.full_like(errors, slack), "bound"
            done = done & sure if accuracy is None or k > 1 else torch.full_like(done, sure)
        asymmetry = space.asymmetry()  # products are wrong by as much
        skew = asymmetry if asymmetry > _FLOOR * unit else 0.0
        noise = 2 * space.norm * max(operator.noise, skew)
        done = done | (residuals <= noise)  # nothing is found below it
        open_pairs = (~done).nonzero().flatten()
        near_floor = accuracy is None and bool((bounds < _FLOOR * unit * space.norm).any())
        if len(open_pairs) == 0:
            if not whole and space.norm > 0 and space.count < size and spent() < limit:
                bound = float(values[k - 1] + slack * scale[k - 1])
                whole = _nothing_outside(space, k, bound, limit - spent(), generator)
                space.join()
                continue
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
        mixtures = space.coupling @ chosen[:, open_pairs][:, : limit - spent()]
        width = min(mixtures.shape)
        if space.count + width > capacity and capacity < size:
            keep = max(k, (capacity - width + k) // 2)
            space.restart(values, coefficients, keep)
        # Without a new direction the subspace is invariant: only a random one can tell more.
        if not space.follow(mixtures.T):
            space.krylov = False
            if floor or not space.expand(_random_rows(operator, 1, generator)):
                break
    small = residuals <= bounds if accuracy is None else errors <= accuracy
    small &= noise <= bounds if accuracy is None else noise <= accuracy * values[:k].abs()
    small &= whole or space.norm == 0 or space.count == size
    after = slice(k, k + more)
    further = space.residuals(values[after], coefficients[:, after])
    relative = further / scale_of(values[after], space.norm, operator.dtype)
    k += len(further)
    residuals, errors = torch.cat([residuals, further]), torch.cat([errors, relative])
    pair_converged = torch.cat([small, relative <= (tol if accuracy is None else accuracy)])
    rows, refined = space.release(values[:k], coefficients[:, :k])
    factor = space.unit or 1.0
    return EigenResult(
        values=values[:k] * factor,
        vectors=rows.T,
        residuals=residuals * factor,
        errors=errors,
        error_kind=kind,
        matvecs=spent(),
        converged=bool(small.all()),
        norm=space.norm * factor,
        refined=refined.T,
        pair_converged=pair_converged,
        next_value=following * factor,
        asymmetry=asymmetry,
    )


def default_basis(size: int, k: int) -> int:
    """Vectors that the basis for k eigenpairs holds at most, in a space of `size` dimensions."""
    if size <= _FULL_BASIS:
        return size
    return max(_BASIS, 4 * k + _CHECK) if size <= LARGE else max(_SMALL_BASIS, 2 * k + 4)


def _nothing_outside(
    space: _Subspace, k: int, bound: float, most: int, generator: torch.Generator
) -> bool:
    """Whether H has no eigenvalue above `bound` outside of the basis, but for `_RISK`.

    A pair that the basis does not see, of a repeated eigenvalue say, lies outside of it. Lanczos
    from a random vector there, restarted where the room is used up, goes on until its bound says
    that there is none, or it has found one, which the basis then holds, or `most` products are
    spent.
    """
    size, capacity = space.operator.shape[0], space.capacity
    room = min(_CHECK, capacity - k)
    if space.count + room > capacity < size:
        space.restart(*space.ritz(), max(k, capacity - room))
    start, first = space.count, space.operator.products
    if not space.begin(_random_rows(space.operator, 1, generator)):
        return True
    while True:
        values, coefficients = space.ritz(start)
        if float(values[0]) > bound:
            return False
        if space.count == size or space.largest_below(bound, values, start):
            return True
        if space.operator.products - first >= most:
            return False
        if space.count == capacity:
            space.restart(values, coefficients, (capacity - start) // 2, start)
        if not space.chain(start):  # the rows span an invariant subspace
            return True


def _take_guard_steps(space: _Subspace, steps: int, generator: torch.Generator) -> None:
    """Lanczos from a random vector, inside the complement of the basis."""
    start = space.count
    added = steps > 0 and space.expand(_random_rows(space.operator, 1, generator))
    while added and space.count < start + steps:
        added = space.chain(start)


def _random_rows(
    operator: LinearOperator, count: int, generator: torch.Generator
) -> Iterator[Tensor]:
    for _ in range(count):
        row = torch.randn(
            operator.shape[0],
            dtype=operator.dtype,
            device=generator.device,
            generator=generator,
        )
        yield row.to(operator.device)


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


def check_pairs(k: int, size: int, name: str = "k") -> None:
    """Raise ValueError unless an operator of this size has `k` eigenpairs."""
    if not is_count(k) or k > size:
        raise ValueError(
            f"{name} is {k!r}; it must be a whole number between 1 and the operator's size, {size}."
        )


def check_arguments(
    k: int, tol: float, accuracy: float | None, max_products: int | None, basis_size: int | None
) -> None:
    """Raise ValueError for what a solver cannot be asked for, whatever the operator's size."""
    check_count("k", k)
    check_positive("tol", tol)
    if accuracy is not None:
        check_positive("accuracy", accuracy)
    if max_products is not None and not is_count(max_products, k):
        raise ValueError(
            f"max_products is {max_products!r}; {k} pairs need a whole number of at least {k}."
        )
    if basis_size is not None:
        check_count("basis_size", basis_size)


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
        max_products: in all; a larger block is not begun with fewer left than it has pairs.

    Returns:
        The pairs, maybe none. `converged` is false where `most` pairs lie above the bound, or the
        products were spent.

    Raises:
        ValueError: as `top_eigenpairs`, and for a `max_products` below 1.
    """
    check_operator(operator)
    check_count("most", most)
    if max_products is not None:
        check_count("max_products", max_products)
    if math.isnan(as_number(bound)):
        raise ValueError(f"bound is {bound!r}; it must be a number.")
    limit = 1000 + 20 * most if max_products is None else max_products
    largest = min(most + 1, operator.shape[0])
    count = 2 if initial is None or initial.ndim == 1 else initial.shape[1] + 1
    count = min(largest, count, max(1, limit))
    spent = 0
    while True:
        found = top_eigenpairs(operator, count, tol, initial, generator, limit - spent)
        spent += found.matvecs
        above = int((found.values > bound).sum())
        whole = above < count or count == operator.shape[0]
        more = min(largest, 2 * count)
        if whole or count == largest or limit - spent < more:
            break
        initial, count = found.refined, more
    above = min(above, most)
    sure = found.pair_converged[: min(above + 1, count)]
    return dataclasses.replace(
        leading(found, above), matvecs=spent, converged=bool(whole and sure.all())
    )


def leading(found: EigenResult, count: int) -> EigenResult:
    """The first `count` of some pairs."""
    if count >= len(found.values):
        return found
    return dataclasses.replace(
        found,
        values=found.values[:count],
        vectors=found.vectors[:, :count],
        residuals=found.residuals[:count],
        errors=found.errors[:count],
        converged=bool(found.pair_converged[:count].all()),
        refined=found.refined[:, :count],
        pair_converged=found.pair_converged[:count],
        next_value=float(found.values[count]),
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
    check_operator(operator)
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
