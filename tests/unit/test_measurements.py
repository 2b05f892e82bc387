"""Measurements along runs against dense references; replay, divergence, identities."""

import re

import numpy as np
import pytest
import torch
from specs import measurements

from sharpflow.curvature.reference import dense_hessian, dense_jacobian
from sharpflow.errors import IntegrityError, SharpflowError
from sharpflow.measurements.evaluate import due_steps, evaluate
from sharpflow.training import train

HEAVY_BALL = {"kind": "heavy_ball", "momentum": 0.7}


def run(problem, chosen, states=None, stored=None):
    """Train, keep the states of `stored` (all by default), and evaluate."""
    states = train(problem).states if states is None else states
    stored = sorted(states) if stored is None else stored
    return evaluate(problem, stored, lambda step: states[step], measurements(**chosen))


def value(table, quantity, seed, step, index=0):
    rows = table[
        (table["quantity"] == quantity)
        & (table["seed"] == seed)
        & (table["step"] == step)
        & (table["index"] == index)
    ]
    assert len(rows) == 1
    return float(rows["value"].iloc[0])


def curve(table, quantity, seed, index=0):
    rows = table[
        (table["quantity"] == quantity) & (table["seed"] == seed) & (table["index"] == index)
    ].sort_values("step")
    return rows["step"].to_numpy(), rows["value"].to_numpy()


def one_run(problem, state, index):
    return {name: t[index] for name, t in problem.parameters(state).items()}


def outputs_of(problem, parameters):
    return problem.model({k: v[None] for k, v in parameters.items()}, problem.inputs)[0, :, 0]


def dense_gauss_newton(problem, parameters):
    """Eigenvalues (descending), eigenvectors and residual of (2/n) J Jᵀ, by autograd."""
    jacobian = dense_jacobian(lambda p: outputs_of(problem, p), parameters)
    matrix = 2 / problem.samples * jacobian @ jacobian.T
    eigenvalues, vectors = torch.linalg.eigh(matrix)
    residual = outputs_of(problem, parameters) - problem.targets[:, 0]
    return eigenvalues.flip(0), vectors.flip(1), residual


@pytest.mark.parametrize(("activation", "bias"), [("tanh", False), ("relu", True), ("elu", False)])
def test_gauss_newton_against_the_dense_jacobian(make_problem, activation, bias):
    problem = make_problem(model={"activation": activation, "bias": bias}, training={"steps": 5})
    states = train(problem).states
    table = run(problem, {"gauss_newton": {"k": 3, "tol": 1e-8}}, states, [0, 5]).table
    for seed in problem.seeds:
        previous = None
        for step in range(6):
            exact, vectors, residual = dense_gauss_newton(
                problem, one_run(problem, states[step], seed)
            )
            for index in range(3):
                found = value(table, "gauss_newton_sharpness", seed, step, index)
                assert found == pytest.approx(float(exact[index]), rel=1e-6)
            along = float(residual @ vectors[:, 0])
            assert abs(value(table, "residual_along_v1", seed, step)) == pytest.approx(
                abs(along), rel=1e-4, abs=1e-6
            )
            squared = float(residual @ residual)
            assert value(table, "residual_norm_squared", seed, step) == pytest.approx(squared)
            assert value(table, "rest_norm_squared", seed, step) == pytest.approx(
                squared - along**2, rel=1e-4
            )
            outputs = residual + problem.targets[:, 0]
            assert value(table, "residual_dot_outputs", seed, step) == pytest.approx(
                float(residual @ outputs), rel=1e-9
            )
            if 0 < step < 5:
                aligned = abs(float(vectors[:, 0] @ previous))
                assert value(table, "eigenvector_alignment", seed, step) == pytest.approx(
                    aligned, abs=1e-6
                )
            previous = vectors[:, 0]
    assert set(table[table["quantity"] == "gauss_newton_sharpness_converged"]["value"]) == {1.0}


def test_gauss_newton_of_cross_entropy_weighs_by_the_loss_curvature(make_problem):
    problem = make_problem(loss="binary_cross_entropy", training={"steps": 3})
    states = train(problem).states
    table = run(problem, {"gauss_newton": {"tol": 1e-8}}, states).table
    for step in range(4):
        parameters = one_run(problem, states[step], 1)
        jacobian = dense_jacobian(lambda p: outputs_of(problem, p), parameters)
        p = torch.sigmoid(outputs_of(problem, parameters))
        weighted = jacobian.T @ torch.diag(p * (1 - p) / problem.samples) @ jacobian
        assert value(table, "gauss_newton_sharpness", 1, step) == pytest.approx(
            float(torch.linalg.eigvalsh(weighted)[-1]), rel=1e-6
        )


@pytest.mark.parametrize("loss", ["mse", "binary_cross_entropy"])
@pytest.mark.parametrize("bias", [False, True])
def test_hessian_against_the_dense_hessian(make_problem, loss, bias):
    problem = make_problem(
        loss=loss, width=4, seeds=[0, 1], model={"bias": bias}, training={"steps": 6}
    )
    states = train(problem).states
    chosen = {"hessian": {"every": 3, "k": 2, "tol": 1e-6}}
    table = run(problem, chosen, states, [0, 6]).table
    assert sorted(set(table["step"])) == [0, 3, 6]
    for seed in problem.seeds:
        for step in (0, 3, 6):

            def loss_of(p):
                outputs = problem.model({k: v[None] for k, v in p.items()}, problem.inputs)
                return problem.loss(outputs, problem.targets)[0]

            exact = torch.linalg.eigvalsh(
                dense_hessian(loss_of, one_run(problem, states[step], seed))
            )
            for index in range(2):
                assert value(table, "hessian_sharpness", seed, step, index) == pytest.approx(
                    float(exact[-1 - index]), rel=1e-5
                )
    assert set(table[table["quantity"] == "hessian_sharpness_converged"]["value"]) == {1.0}


def test_sharpness_is_that_of_the_uncompressed_network(make_problem, make_dataset):
    data = make_dataset(samples=10, dimensions=40)
    whole = data | {"basis": torch.eye(40, dtype=torch.float64), "coordinates": data["inputs"]}
    chosen = {"gauss_newton": {"tol": 1e-8}, "hessian": {"every": 5, "tol": 1e-6}}
    small, large = (
        run(make_problem(d, training={"steps": 15}), chosen).table for d in (data, whole)
    )
    for quantity, tolerance in (("gauss_newton_sharpness", 1e-7), ("hessian_sharpness", 1e-5)):
        for seed in range(3):
            np.testing.assert_allclose(
                curve(small, quantity, seed)[1], curve(large, quantity, seed)[1], rtol=tolerance
            )


# --- identities, to rounding


def test_loss_is_the_rest_plus_the_part_along_the_eigenvector(make_problem):
    problem = make_problem(learning_rate=0.3, training={"steps": 30})
    trajectory = train(problem)
    table = run(problem, {"gauss_newton": {}}, trajectory.states).table
    n = problem.samples
    for seed in problem.seeds:
        loss = curve(trajectory.table, "loss", seed)[1]
        rest = curve(table, "rest_norm_squared", seed)[1]
        along = curve(table, "residual_along_v1", seed)[1]
        np.testing.assert_allclose(loss - rest / n, along**2 / n, rtol=0, atol=1e-14 * loss.max())
        np.testing.assert_allclose(
            loss, curve(table, "residual_norm_squared", seed)[1] / n, rtol=1e-13
        )


def test_output_norm_identity_from_the_tables(make_problem):
    """Δ‖A‖² + (4η/n) DᵀF = (4η²/n²) ‖HᵀD‖², with ∂L/∂A = (2/n) HᵀD by autograd."""
    rate = 0.3
    problem = make_problem(learning_rate=rate, training={"steps": 25})
    trajectory = train(problem)
    table = run(problem, {"gauss_newton": {}}, trajectory.states).table
    for index, seed in enumerate(problem.seeds):
        norm = curve(trajectory.table, "output_norm_squared", seed)[1]
        dot = curve(table, "residual_dot_outputs", seed)[1]
        left = np.diff(norm) + 4 * rate / problem.samples * dot[:-1]
        for step in range(25):
            state = trajectory.states[step]
            found = problem.loss_and_gradient(state, problem.inputs, problem.targets)
            right = rate**2 * float(found.gradients["weight2"][index].square().sum())
            assert left[step] == pytest.approx(right, rel=0, abs=1e-13 * norm.max())


# --- checkpoint and replay


def test_due_steps_have_the_multiples_and_the_last():
    assert due_steps(10, 4) == {0, 4, 8, 10}
    assert due_steps(3, 100) == {0, 3}


@pytest.mark.parametrize(
    ("training", "optimiser"),
    [({}, None), ({"batch": 4}, None), ({"weight_decay": 0.01}, HEAVY_BALL)],
)
def test_replay_lands_and_measures_what_stored_states_measure(make_problem, training, optimiser):
    problem = make_problem(training={"steps": 70} | training, optimiser=optimiser)
    states = train(problem).states
    chosen = {"gauss_newton": {"every": 5, "tol": 1e-9}}
    dense = run(problem, chosen, states)
    sparse = run(problem, chosen, states, [0, 32, 64, 70])
    assert dense.replay_deviation == sparse.replay_deviation == 0.0
    for seed in problem.seeds:
        steps, sharpness = curve(sparse.table, "gauss_newton_sharpness", seed)
        assert steps.tolist() == list(range(0, 71, 5))
        np.testing.assert_allclose(
            sharpness, curve(dense.table, "gauss_newton_sharpness", seed)[1], rtol=1e-7
        )


def test_alignment_does_not_need_states_to_be_sparse(make_problem):
    """How many states a budget keeps must not decide whether v₁ is followed along the run."""
    problem = make_problem(training={"steps": 12})
    table = run(problem, {"gauss_newton": {}}).table
    steps, aligned = curve(table, "eigenvector_alignment", 0)
    assert len(steps) >= 6
    assert ((aligned >= 0) & (aligned <= 1 + 1e-9)).all()


def test_evaluation_of_a_stretch_does_not_depend_on_the_one_before(make_problem):
    """The rows between two stored states are the same bits wherever evaluation began."""
    problem = make_problem(training={"steps": 20})
    states = train(problem).states
    chosen = {"gauss_newton": {}, "hessian": {"every": 5}}
    whole = run(problem, chosen, states, [0, 10, 20]).table
    tail = run(problem, chosen, states, [10, 20]).table
    late = whole[whole["step"] >= 10].reset_index(drop=True)
    assert late.equals(tail)


@pytest.mark.parametrize("step", [10, 20])
@pytest.mark.parametrize("name", ["weight0", "weight2", "unseen"])
def test_a_tampered_state_is_refused_with_its_size(make_problem, step, name):
    problem = make_problem(training={"steps": 20})
    states = dict(train(problem).states)
    states[step] = states[step] | {name: states[step][name] * (1 + 1e-3)}
    with pytest.raises(IntegrityError, match=rf"missed the stored state of step {step}") as caught:
        run(problem, {"gauss_newton": {}}, states, [0, 10, 20])
    assert isinstance(caught.value, SharpflowError)
    size = float(re.search(r"by (\S+) \(relative", str(caught.value))[1])
    assert size == pytest.approx(1e-3, rel=0.06)
    assert "from step" in str(caught.value)


def test_a_state_that_is_not_a_number_is_refused(make_problem):
    problem = make_problem(training={"steps": 20})
    states = dict(train(problem).states)
    broken = states[20]["weight1"].clone()
    broken[1, 0, 0] = float("nan")
    states[20] = states[20] | {"weight1": broken}
    with pytest.raises(IntegrityError, match="step 20"):
        run(problem, {"gauss_newton": {}}, states, [0, 20])


def test_states_within_rounding_are_accepted(make_problem):
    problem = make_problem(training={"steps": 20})
    states = dict(train(problem).states)
    states[20] = {name: t * (1 + 1e-9) for name, t in states[20].items()}
    evaluation = run(problem, {"gauss_newton": {}}, states, [0, 20])
    assert 1e-10 < evaluation.replay_deviation < 1e-8


def test_the_table_is_long_and_without_doubles(make_problem):
    problem = make_problem(training={"steps": 11})
    table = run(problem, {"gauss_newton": {"every": 4, "k": 2}, "hessian": {"every": 5}}).table
    assert list(table.columns) == ["seed", "step", "quantity", "index", "value"]
    assert not table.duplicated(["seed", "step", "quantity", "index"]).any()
    for name, steps in (("gauss_newton_sharpness", [0, 4, 8, 11]), ("hessian_trace", [])):
        assert sorted(set(table[table["quantity"] == name]["step"])) == steps
    assert sorted(set(table[table["quantity"] == "hessian_sharpness"]["step"])) == [0, 5, 10, 11]
    nothing = run(problem, {}).table
    assert list(nothing.columns) == list(table.columns)
    assert nothing.empty


# --- divergence


def test_evaluation_skips_a_divergent_run_and_no_other(make_problem):
    """Seed 0 of the linear network leaves the finite numbers at this learning rate."""

    def problem(seeds):
        return make_problem(
            seeds=seeds,
            learning_rate=0.35,
            model={"activation": "linear"},
            training={"steps": 60},
        )

    chosen = {"gauss_newton": {}, "hessian": {"every": 20}}
    tables = {}
    for seeds in ((0, 1, 2), (3, 1, 2)):
        shard = problem(list(seeds))
        states = train(shard).states
        tables[seeds] = run(shard, chosen, states, [0, 20, 40, 60]).table
    trajectory = train(problem([0, 1, 2])).table
    (at,) = trajectory[trajectory["quantity"] == "diverged_step"]["step"]
    table = tables[0, 1, 2]
    assert np.isfinite(table["value"]).all()
    steps, _ = curve(table, "gauss_newton_sharpness", 0)
    assert steps.tolist() == list(range(len(steps)))
    assert at - 8 < len(steps) <= at
    for seed in (1, 2):
        mine, theirs = (
            t[t["seed"] == seed].reset_index(drop=True) for t in (table, tables[3, 1, 2])
        )
        assert mine.equals(theirs)
        assert curve(mine, "gauss_newton_sharpness", seed)[0].tolist() == list(range(61))
