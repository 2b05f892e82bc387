"""Batch sharpness against the Hessian of every batch, and on a quadratic where it is known."""

import pytest
import torch
from shards import found, network, one_run, shard, trained
from specs import measurements

from sharpflow.curvature.reference import dense_hessian
from sharpflow.errors import SharpflowError
from sharpflow.measurements.base import Snapshot
from sharpflow.measurements.batch_sharpness import build
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


MEANS = ("mean_of_ratios", "ratio_of_means")


def drawn(source, sampling, count, size, samples):
    """Places of the samples of batches, (count, size)."""
    if sampling == "with_replacement":
        return torch.randint(samples, (count, size), generator=source)
    return torch.stack([torch.randperm(samples, generator=source)[:size] for _ in range(count)])


@pytest.mark.parametrize("sampling", ["with_replacement", "epochs"])
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("loss", ["mse", "binary_cross_entropy"])
def test_both_means_over_the_drawn_batches(make_dataset, model, loss, sampling):
    training = {"steps": 2, "batch": 4, "sampling": sampling}
    problem = shard(make_dataset(), model, training, loss=loss, width=3)
    draws = 18  # more than one chunk
    trajectory, table = trained(problem, batch_sharpness={"every": 1, "draws": draws})
    for step in (0, 2):
        run = one_run(trajectory.states[step], 1)
        source = generator("test", 1, "batch_sharpness", step)
        rows = drawn(source, sampling, draws, 4, 12)
        pairs = [by_hand(problem, run, row) for row in rows]
        curved, squared = (torch.stack(part) for part in zip(*pairs, strict=True))
        ratios = curved / squared
        ratio = curved.mean() / squared.mean()
        assert abs(ratio - ratios.mean()) > 1e-3 * ratio
        expected = {
            "mean_of_ratios": ratios.mean(),
            "mean_of_ratios_error": ratios.std() / draws**0.5,
            "ratio_of_means": ratio,
            "ratio_of_means_error": (curved - ratio * squared).std() / draws**0.5 / squared.mean(),
        }
        for name, value in expected.items():
            torch.testing.assert_close(found(table, f"batch_sharpness_{name}", 1, step)[0], value)
    assert set(table["quantity"]) == {f"batch_sharpness_{name}" for name in expected}


def test_of_gradient_descent_both_are_the_rayleigh_quotient_of_the_gradient(make_dataset):
    problem = shard(make_dataset(), MODELS[0], {"steps": 2})
    trajectory, table = trained(problem, batch_sharpness={"every": 1})
    curved, squared = by_hand(problem, one_run(trajectory.states[2], 0), torch.arange(12))
    for mean in MEANS:
        torch.testing.assert_close(
            found(table, f"batch_sharpness_{mean}", 0, 2)[0], curved / squared
        )
        assert not len(found(table, f"batch_sharpness_{mean}_error", 0, 2))


def test_both_means_come_from_one_pass_a_batch(make_dataset, monkeypatch):
    """Of a stateless network a chunk of batches is one forward and one second-order pass."""
    problem = shard(make_dataset(), MODELS[0], {"steps": 1, "batch": 4})
    state = train(problem).states[1]
    passes, gradients, network_of = [], [], type(problem.model).__call__
    differentiate = torch.autograd.grad
    monkeypatch.setattr(
        type(problem.model),
        "__call__",
        lambda self, parameters, x: passes.append(len(x)) or network_of(self, parameters, x),
    )
    monkeypatch.setattr(
        torch.autograd, "grad", lambda *a, **k: gradients.append(1) or differentiate(*a, **k)
    )
    measurement = build({"draws": 18})
    found_values = measurement.measure(Snapshot(problem, 0, state, {}, 1))
    assert {f"batch_sharpness_{mean}" for mean in MEANS} < set(found_values)
    assert passes == [16, 2]
    assert len(gradients) == 4  # first and second derivatives of the two chunks


def test_one_batch_without_a_gradient_leaves_no_mean_of_ratios(make_dataset):
    """Three samples are fitted exactly: a batch of those has no direction to be curved along."""
    dataset = make_dataset()
    problem = shard(dataset, {"kind": "mlp", "activation": "linear"}, {"steps": 1, "batch": 1})
    state = problem.initial_state()
    outputs = problem.model(problem.parameters(state), problem.inputs)[0].detach()
    problem.batches.targets = outputs.clone()
    problem.batches.targets[3:] += 1.0
    values = build({"draws": 60}).measure(Snapshot(problem, 0, state, {}, 0))
    assert set(values) == {f"batch_sharpness_ratio_of_means{end}" for end in ("", "_error")}
    assert torch.isfinite(torch.tensor(list(values.values()))).all()


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
    assert 0 < len(table) < 2 * 2 * 13
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
