"""Batch sharpness against the Hessian of every batch, and on a quadratic where it is known."""

import pytest
import torch
from shards import found, network, one_run, shard, trained
from specs import measurements

from sharpflow.curvature.reference import dense_hessian
from sharpflow.errors import SharpflowError
from sharpflow.measurements.evaluate import evaluate
from sharpflow.training import generator, train

MODELS = [
    {"kind": "mlp", "hidden_layers": 2, "activation": "tanh"},
    {"kind": "block_mlp", "hidden_layers": 2, "batch_normalisation": True, "residual": True},
]


def by_hand(problem, run, rows):
    """gᵀ H g and ‖g‖² of one batch, from its dense Hessian."""
    inputs, targets = problem.inputs[rows], problem.targets[rows]
    names = [name for name in run if name != "unseen"]

    def loss(chosen):
        return problem.loss(network(problem, inputs)(run | chosen), targets)

    leaves = {name: run[name].clone().requires_grad_() for name in names}
    parts = torch.autograd.grad(loss(leaves), list(leaves.values()))
    gradient = torch.cat([part.flatten() for part in parts])
    hessian = dense_hessian(loss, {name: run[name] for name in names})
    return gradient @ hessian @ gradient, gradient @ gradient


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("loss", ["mse", "binary_cross_entropy"])
def test_it_is_the_ratio_of_means_over_the_drawn_batches(make_dataset, model, loss):
    problem = shard(make_dataset(), model, {"steps": 2, "batch": 4}, loss=loss, width=3)
    draws = 18  # more than one chunk
    trajectory, table = trained(problem, batch_sharpness={"every": 1, "draws": draws})
    for step in (0, 2):
        run = one_run(trajectory.states[step], 1)
        source = generator("test", 1, "batch_sharpness", step)
        rows = torch.randint(12, (draws, 4), generator=source)
        pairs = [by_hand(problem, run, row) for row in rows]
        curved, squared = (torch.stack(part) for part in zip(*pairs, strict=True))
        ratio = curved.mean() / squared.mean()
        torch.testing.assert_close(found(table, "batch_sharpness", 1, step)[0], ratio)
        error = (curved - ratio * squared).std() / (draws**0.5 * squared.mean())
        torch.testing.assert_close(found(table, "batch_sharpness_error", 1, step)[0], error)


def test_of_gradient_descent_it_is_the_rayleigh_quotient_of_the_gradient(make_dataset):
    problem = shard(make_dataset(), MODELS[0], {"steps": 2})
    trajectory, table = trained(problem, batch_sharpness={"every": 1})
    curved, squared = by_hand(problem, one_run(trajectory.states[2], 0), torch.arange(12))
    torch.testing.assert_close(found(table, "batch_sharpness", 0, 2)[0], curved / squared)
    assert not len(found(table, "batch_sharpness_error", 0, 2))


def test_a_diverged_run_leaves_no_rows_and_its_mates_go_on(make_dataset):
    problem = shard(make_dataset(), MODELS[0], {"steps": 2, "batch": 4})
    states = train(problem).states
    for state in states.values():
        state["weight1"][0, 0, 0] = float("nan")
    options = measurements(batch_sharpness={"every": 1, "draws": 3})
    table = evaluate(problem, sorted(states), lambda step: states[step], options).table
    assert set(table["seed"]) == {1}
    assert set(table["step"]) == {0, 1, 2}
    assert table["value"].notna().all()


def test_no_row_where_the_gradient_vanishes_or_overflows(make_dataset):
    problem = shard(
        make_dataset(), {"kind": "mlp", "activation": "relu"}, {"steps": 60}, learning_rate=10.0
    )
    _, table = trained(problem, batch_sharpness={"every": 5})
    assert 0 < len(table) < 2 * 13
    assert table["value"].abs().max() < float("inf")
    assert table["value"].notna().all()


def test_it_needs_a_finite_dataset():
    dataset = {
        "teacher": torch.eye(2, dtype=torch.float64),
        "input_std": torch.ones(2, dtype=torch.float64),
        "noise_std": torch.ones(2, dtype=torch.float64),
        "samples": torch.tensor(0),
    }
    problem = shard(dataset, {"kind": "two_layer"}, {"steps": 1, "batch": 3})
    with pytest.raises(SharpflowError, match="finite dataset"):
        trained(problem, batch_sharpness={"every": 1})
