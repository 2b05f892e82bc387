"""The semidefinite complementarity problem: closed forms, optimality, another solver."""

import numpy as np
import pytest

from sharpflow.errors import FlowError
from sharpflow.flows import complement
from sharpflow.flows.pairs import multiplicities, packed, pairs, unpacked


def problem(count: int, seed: int, rank: int | None = None, spread: float = 1.0):
    """A symmetric A with eigenvalues of both signs, and B[X]_ij = Σ ⟨T_ij, T_kl⟩ X_kl."""
    draw = np.random.default_rng(seed)
    constant = draw.normal(size=(count, count))
    constant = constant + constant.T
    size = count * (count + 1) // 2
    forces = draw.normal(size=(size, rank or 3 * size)) * spread ** draw.normal(size=(size, 1))
    return constant, forces @ forces.T


def image(operator: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    count = len(matrix)
    return unpacked(operator @ (multiplicities(count) * packed(matrix)), count)


def test_packed_matrices_are_rows_of_the_upper_triangle():
    matrix = np.array([[1.0, 2, 3], [2, 4, 5], [3, 5, 6]])
    assert packed(matrix).tolist() == [1, 2, 3, 4, 5, 6]
    assert pairs(3) == ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    np.testing.assert_array_equal(unpacked(packed(matrix), 3), matrix)
    np.testing.assert_array_equal(multiplicities(3), [1, 2, 2, 1, 2, 1])


@pytest.mark.parametrize(("a", "b", "x"), [(-3.0, 2.0, 1.5), (3.0, 2.0, 0.0), (0.0, 2.0, 0.0)])
def test_one_eigenvalue_has_a_closed_form(a, b, x):
    found = complement(np.array([[a]]), np.array([[b]]))
    assert found.matrix.item() == pytest.approx(x, abs=1e-15)
    assert found.slack.item() == pytest.approx(max(a, 0.0), abs=1e-15)


def test_of_diagonal_matrices_each_entry_is_solved_by_itself():
    a = np.array([-3.0, 2.0, -0.5, 4.0])
    b = np.array([2.0, 1.0, 5.0, 0.3])
    operator = np.diag([b[i] if i == j else 0.7 for i, j in pairs(4)])
    found = complement(np.diag(a), operator)
    np.testing.assert_allclose(found.matrix, np.diag(np.maximum(0, -a / b)), atol=1e-9)


def test_nothing_is_needed_where_the_constant_is_positive():
    constant, operator = problem(3, 0)
    found = complement(constant @ constant, operator)
    assert not found.matrix.any()
    assert found.violation == 0


@pytest.mark.parametrize("spread", [1.0, 3.0])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_solutions_are_complementary(count, spread):
    """These conditions are sufficient: the problem is the optimality of a convex one."""
    for seed in range(10):
        constant, operator = problem(count, seed, spread=spread)
        found = complement(constant, operator)
        slack = constant + image(operator, found.matrix)
        size = np.linalg.norm(constant)
        np.testing.assert_allclose(found.slack, slack, atol=1e-8 * size)
        assert np.linalg.eigvalsh(found.matrix)[0] >= -1e-9 * np.linalg.norm(found.matrix)
        assert np.linalg.eigvalsh(slack)[0] >= -1e-7 * size
        overlap = np.linalg.norm(found.matrix @ slack)
        assert overlap <= 1e-7 * size * max(1e-3, np.linalg.norm(found.matrix))
        assert found.violation < 1e-7


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_general_conic_solver_finds_the_same(count):
    clarabel = pytest.importorskip("clarabel")
    from scipy import sparse

    root = np.sqrt(multiplicities(count))
    # its order is column by column of the upper triangle, ours row by row
    order = [pairs(count).index((i, j)) for j in range(count) for i in range(j + 1)]
    for seed in range(5):
        constant, operator = problem(count, 100 + seed)
        size = len(root)
        quadratic = sparse.triu((root[:, None] * operator * root)[np.ix_(order, order)]).tocsc()
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
        solver = clarabel.DefaultSolver(
            quadratic, (root * packed(constant))[order], -sparse.identity(size).tocsc(),
            np.zeros(size), [clarabel.PSDTriangleConeT(count)], settings,
        )  # fmt: skip
        theirs = np.empty(size)
        theirs[order] = np.array(solver.solve().x)
        ours = complement(constant, operator).matrix
        scale = np.linalg.norm(ours)
        np.testing.assert_allclose(ours, unpacked(theirs / root, count), atol=2e-5 * scale)


def test_a_solution_scales_with_the_problem():
    constant, operator = problem(3, 5)
    found = complement(constant, operator).matrix
    scaled = complement(1e-6 * constant, 1e-12 * operator).matrix
    np.testing.assert_allclose(scaled, 1e6 * found, rtol=1e-6)


def test_eigenvalues_that_nothing_holds_are_refused():
    with pytest.raises(FlowError, match="third derivatives"):
        complement(np.diag([-1.0, 2.0]), np.zeros((3, 3)))
    operator = np.diag([0.0, 0.0, 1.0])  # nothing moves the first eigenvalue
    with pytest.raises(FlowError, match="no oscillation holds"):
        complement(np.diag([-1.0, 2.0]), operator)


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(FlowError, match="NaN or infinite"):
        complement(np.array([[np.nan]]), np.eye(1))
    with pytest.raises(ValueError, match="operator"):
        complement(np.eye(2), np.eye(2))
