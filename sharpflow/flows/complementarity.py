"""The semidefinite complementarity problem of the central flow: X ⪰ 0 ⟂ A + B[X] ⪰ 0.

Source: Cohen, Damian, Talwalkar, Kolter and Lee 2024, "Understanding Optimization in Deep Learning
with Central Flows".
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sharpflow.errors import FlowError
from sharpflow.flows.pairs import multiplicities, packed, pairs, unpacked

_TOLERANCE = 1e-12
_ALLOWED = 1e-6
_NEWTON, _GRADIENT = 50, 20_000
_RIDGE = 1e-14
_ROUNDING = 1e-15


@dataclass(frozen=True)
class Complement:
    """A solution of X ⪰ 0 ⟂ A + B[X] ⪰ 0.

    Attributes:
        matrix: X, (k, k), positive semidefinite to rounding.
        slack: A + B[X], (k, k).
        violation: the larger of −λ_min(Z) and ‖X Z‖/‖X‖, Z the slack, over ‖A‖; 0 for a solution.
            X is positive semidefinite by construction.
        iterations: that were needed.
    """

    matrix: np.ndarray
    slack: np.ndarray
    violation: float
    iterations: int


def complement(constant: np.ndarray, operator: np.ndarray) -> Complement:
    """Solve X ⪰ 0, A + B[X] ⪰ 0, ⟨X, A + B[X]⟩ = 0.

    For symmetric positive semidefinite B it is the optimality condition of least
    ½⟨X, B[X]⟩ + ⟨A, X⟩ over the positive semidefinite cone. One eigenvalue has the closed form
    max(0, −A/B). Else with M = X − Z, whose parts are X = M₊ and Z = M₋ (Moreau),
    F(M) = A + B[M₊] − M₋ = 0 is solved by Newton's method (F is strongly semismooth), from the
    projected gradient's iterates wherever a Newton step does not reduce ‖F‖.

    Args:
        constant: A, (k, k), symmetric.
        operator: B on packed matrices, (m, m) with m = k(k + 1)/2: B[X]_r = Σ_s B_rs c_s X_s, where
            r and s run over the pairs i ≤ j row by row and c_s is 1 for i = j, else 2. Symmetric.

    Returns:
        The solution.

    Raises:
        FlowError: numbers are not finite, or no X has A + B[X] ⪰ 0 to the accuracy wanted.
        ValueError: a shape does not fit.
    """
    count = len(constant)
    size = count * (count + 1) // 2
    if constant.shape != (count, count) or operator.shape != (size, size):
        raise ValueError(
            f"constant is {constant.shape} and operator {operator.shape}; for k = {count} they "
            f"must be {(count, count)} and {(size, size)}."
        )
    if not (np.isfinite(constant).all() and np.isfinite(operator).all()):
        raise FlowError(
            "central flow: the sharpness or its gradient is NaN or infinite; the flow has left the "
            "region where the loss has finite derivatives."
        )
    if count == 0:
        return Complement(np.zeros((0, 0)), np.zeros((0, 0)), 0.0, 0)
    if np.linalg.eigvalsh(constant)[0] >= 0:
        return Complement(np.zeros_like(constant), constant.copy(), 0.0, 0)
    diagonal = np.array([operator[r, r] for r, (i, j) in enumerate(pairs(count)) if i == j])
    if not diagonal.max() > 0:
        raise FlowError(_NO_FORCE)
    # X = D Y D with D that makes the diagonal of B equal, then A and B of norm 1, and an
    # orthonormal basis of the symmetric matrices, in which B is an ordinary symmetric matrix
    stretch = np.maximum(diagonal, 1e-12 * diagonal.max()) ** -0.25
    across = packed(stretch[:, None] * stretch)
    root = np.sqrt(multiplicities(count))
    turned = (root * across)[:, None] * ((operator + operator.T) / 2) * (root * across)
    level = root * across * packed(constant)
    scale_a, scale_b = float(np.linalg.norm(level)), float(np.linalg.norm(turned, 2))
    a, b = level / scale_a, turned / scale_b
    if count == 1:
        moved, steps = -a / b[0], 0
    else:
        moved, steps = _solve(a, b, count)
    positive = _positive(moved, count)[0]
    matrix = unpacked(positive * across / root, count) * scale_a / scale_b
    slack = constant + unpacked(operator @ (multiplicities(count) * packed(matrix)), count)
    violation = _violation(matrix, slack, float(np.linalg.norm(constant)))
    if violation > _ALLOWED:
        raise FlowError(_NO_FORCE)
    return Complement(matrix, slack, violation, steps)


def _violation(matrix: np.ndarray, slack: np.ndarray, size: float) -> float:
    below = max(0.0, -float(np.linalg.eigvalsh(slack)[0]))
    length = float(np.linalg.norm(matrix))
    overlap = float(np.linalg.norm(matrix @ slack)) / length if length > 0 else 0.0
    return max(below, overlap) / size


_NO_FORCE = (
    "central flow: no oscillation holds the unstable eigenvalues at the threshold, since their "
    "gradients vanish or cannot be told apart; the loss must have third derivatives along the "
    "unstable directions (tanh, softplus or ELU in place of ReLU)."
)


@lru_cache
def _basis(count: int) -> np.ndarray:
    """An orthonormal basis of the symmetric matrices, (m, k²), in the order of `pairs`."""
    size = count * (count + 1) // 2
    scaled = np.eye(size) / np.sqrt(multiplicities(count))
    return np.stack([unpacked(row, count) for row in scaled]).reshape(size, -1)


def _positive(numbers: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """M₊ of the numbers of M in the basis, and M's eigenvalues and vectors."""
    basis = _basis(count)
    values, vectors = np.linalg.eigh((numbers @ basis).reshape(count, count))
    kept = (vectors * np.maximum(values, 0)) @ vectors.T
    return basis @ kept.ravel(), values, vectors


def _slope(values: np.ndarray, vectors: np.ndarray, count: int) -> np.ndarray:
    """Derivative of M ↦ M₊ in the basis, an element of the generalised Jacobian."""
    basis = _basis(count)
    high = np.maximum(values, 0)
    gap = values[:, None] - values[None, :]
    near = np.abs(gap) < 1e-14 * max(1.0, float(np.abs(values).max()))
    share = np.where(
        near, (values[:, None] > 0).astype(float), (high[:, None] - high) / np.where(near, 1.0, gap)
    )
    moved = share * (vectors.T @ basis.reshape(-1, count, count) @ vectors)
    return basis @ (vectors @ moved @ vectors.T).reshape(len(basis), -1).T


def _solve(a: np.ndarray, b: np.ndarray, count: int) -> tuple[np.ndarray, int]:
    """M = X − Z for A, B of norm 1 in the basis."""

    def parts(moved: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        positive, values, vectors = _positive(moved, count)
        return a + b @ positive - (positive - moved), positive, values, vectors

    moved = -a
    force, positive, values, vectors = parts(moved)
    best = float(np.linalg.norm(force))
    identity = np.eye(len(a))
    steps = 0
    for _ in range(_NEWTON):
        if best <= _TOLERANCE + _ROUNDING * float(np.linalg.norm(moved)):
            return moved, steps
        steps += 1
        slope = _slope(values, vectors, count)
        jacobian = (b - identity) @ slope + identity
        change = np.linalg.solve(jacobian + _RIDGE * identity, -force)
        length = 1.0
        while length > 1e-3:
            trial = parts(moved + length * change)
            if np.linalg.norm(trial[0]) < (1 - 1e-4 * length) * best:
                moved = moved + length * change
                break
            length /= 2
        else:  # the projected gradient goes on from here
            moved, taken = _project(a, b, count, positive, 200)
            steps += taken
            trial = parts(moved)
        force, positive, values, vectors = trial
        best = float(np.linalg.norm(force))
    moved, taken = _project(a, b, count, positive, _GRADIENT)
    return moved, steps + taken


def _project(
    a: np.ndarray, b: np.ndarray, count: int, start: np.ndarray, most: int
) -> tuple[np.ndarray, int]:
    """Accelerated projected gradient on the cone, restarted where it turns back."""
    now = ahead = start
    momentum = 1.0
    step = 0
    while step < most:
        step += 1
        after = _positive(ahead - (a + b @ ahead), count)[0]  # ‖B‖ = 1: the step is 1
        if np.linalg.norm(after - ahead) <= _TOLERANCE:
            now = after
            break
        if (ahead - after) @ (after - now) > 0:
            momentum = 1.0
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = after + (momentum - 1) / following * (after - now)
        now, momentum = after, following
    return now - (a + b @ now), step
