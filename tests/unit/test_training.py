"""GD and SGD against torch.optim and closed forms; shards, streams, batches."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from specs import TYPES, part, spec
from torch.nn import functional as F
from trajectories import values

from sharpflow.errors import ConfigError
from sharpflow.initialisations.base import Weight, uniform
from sharpflow.models.input_product import InputProduct
from sharpflow.models.mlp import DenseNetwork
from sharpflow.parts.loading import load_part
from sharpflow.training import BLOCK, Problem, generator, stored_steps, train
from sharpflow.training.streams import normals

SIZES = (30, 7, 7, 1)


# --- streams


def test_a_stream_is_its_address():
    def draw(*address):
        return torch.rand(4, generator=generator(*address)).tolist()

    assert draw("a", 0, "batches", 3) == draw("a", 0, "batches", 3)
    addresses = [("a", 0, "x", 0), ("b", 0, "x", 0), ("a", 1, "x", 0), ("a", 0, "y", 0)]
    addresses += [("a", 0, "x", 1), ("a", 10, "x", 1), ("a", 1, "x", 10)]
    draws = [draw(*address) for address in addresses]
    assert all(a != b for a, b in itertools.combinations(draws, 2))


def drawn(size, *address):
    out = np.empty(size, dtype=np.float32)
    normals(out, *address)
    return out


def test_normals_are_their_address_and_number():
    address = ("a", 0, "normals", 3)
    assert np.array_equal(drawn(31, *address), drawn(31, *address))
    assert not np.array_equal(drawn(30, *address), drawn(30, "a", 0, "normals", 4))
    assert not np.array_equal(drawn(30, *address), drawn(30, "a", 1, "normals", 3))
    assert np.isfinite(drawn(1, *address)).all()


def test_normals_are_standard_and_independent():
    sample = np.stack([drawn(100_001, "a", seed, "normals") for seed in range(10)]).astype(float)
    assert stats.kstest(sample.ravel(), "norm").pvalue > 1e-3
    count = sample.size
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10_170)):
        assert abs((sample**power).mean() - moment) < 4 * (variance / count) ** 0.5
    assert 4.5 < np.abs(sample).max() < 7
    # the two numbers of a pair are half a row apart; powers show dependence that products hide
    half = sample.shape[1] // 2 + 1
    for lag in (1, 2, half - 1, half, half + 1):
        for power in (1, 2):
            left, right = sample[:, :-lag] ** power, sample[:, lag:] ** power
            assert abs(np.corrcoef(left.ravel(), right.ravel())[0, 1]) < 4 / left.size**0.5
    between = np.corrcoef(sample)
    assert np.abs(between - np.eye(10)).max() < 4.5 / sample.shape[1] ** 0.5


def test_seeds_are_paired_across_learning_rates_and_shards(make_problem):
    one = make_problem(seeds=[4, 5], learning_rate=0.1).initial_state()
    two = make_problem(seeds=[5], learning_rate=0.2, loss="binary_cross_entropy").initial_state()
    for name in one:
        assert torch.equal(one[name][1], two[name][0])
    other = make_problem(seeds=[5], stream="another").initial_state()
    assert not torch.equal(other["weight0"], two["weight0"])


# --- the uncompressed network under torch.optim


def reference(data, seed, *, steps, optimiser, rate_at=lambda step: None, bias=False):
    """Losses and squared layer norms of the network on uncompressed inputs, by torch.optim."""
    stream = generator("test", seed, "initialise")
    layers = []
    for fan_in, fan_out in itertools.pairwise(SIZES):
        layer = [uniform(Weight("weight", (fan_in, fan_out), fan_in, fan_out), stream)]
        if bias:
            layer.append(uniform(Weight("bias", (fan_out,), fan_in, fan_out), stream))
        layers.append([t.requires_grad_() for t in layer])
    descent = torch.optim.SGD([t for layer in layers for t in layer], **optimiser)
    losses, norms = [], []
    for step in range(steps + 1):
        hidden = data["inputs"]
        for index, layer in enumerate(layers):
            hidden = hidden @ layer[0] + (layer[1] if bias else 0.0)
            hidden = torch.tanh(hidden) if index < len(layers) - 1 else hidden
        loss = ((hidden - data["targets"]) ** 2).mean()
        losses.append(float(loss.detach()))
        norms.append([sum(float(t.detach().square().sum()) for t in layer) for layer in layers])
        descent.zero_grad()
        loss.backward()
        if rate_at(step) is not None:
            descent.param_groups[0]["lr"] = rate_at(step)
        descent.step()
    return np.array(losses), np.array(norms)


@pytest.mark.parametrize(
    ("momentum", "decay", "bias"),
    [(0.0, 0.0, False), (0.0, 0.1, True), (0.9, 0.0, True), (0.8, 0.05, False)],
)
def test_compressed_training_is_uncompressed_torch_sgd(
    make_problem, make_dataset, momentum, decay, bias
):
    data = make_dataset()
    problem = make_problem(
        data,
        model={"bias": bias},
        training={"steps": 60, "weight_decay": decay},
        optimiser={"kind": "heavy_ball", "momentum": momentum} if momentum else None,
    )
    table = train(problem).table
    for seed in problem.seeds:
        losses, norms = reference(
            data,
            seed,
            steps=60,
            bias=bias,
            optimiser={"lr": 0.05, "momentum": momentum, "weight_decay": decay},
        )
        np.testing.assert_allclose(values(table, "loss", seed), losses, rtol=1e-9)
        for layer in range(3):
            np.testing.assert_allclose(
                values(table, "norm_squared", seed, layer), norms[:, layer], rtol=1e-9
            )
        np.testing.assert_allclose(
            values(table, "output_norm_squared", seed), norms[:, -1], rtol=1e-9
        )
        assert losses[-1] < 0.7 * losses[0]


def test_warmup_uses_its_rate_before_the_step_until(make_problem, make_dataset):
    data = make_dataset()
    problem = make_problem(
        data,
        learning_rate=0.2,
        schedule={"kind": "warmup", "learning_rate": 0.01, "until": 10},
        training={"steps": 25},
    )
    table = train(problem).table

    def rate_at(step):
        return 0.01 if step < 10 else 0.2

    losses, _ = reference(data, 1, steps=25, optimiser={"lr": 0.01}, rate_at=rate_at)
    np.testing.assert_allclose(values(table, "loss", 1), losses, rtol=1e-9)
    assert values(table, "learning_rate", 1).tolist() == [rate_at(step) for step in range(26)]


def test_without_gradient_weight_decay_shrinks_by_the_same_factor(make_problem, make_dataset):
    problem = make_problem(
        model={"activation": "linear"}, training={"steps": 30, "weight_decay": 0.3}
    )
    states = train(problem).states
    unseen = torch.stack([states[step]["unseen"] for step in range(31)])
    expected = unseen[0] * (1 - 0.05 * 0.3) ** torch.arange(31, dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(unseen, expected, rtol=1e-12, atol=0)


# --- exact identities


def test_output_norm_identity_of_gradient_descent(make_problem):
    """‖A⁺‖² − ‖A‖² = −(4η/n) DᵀF + (4η²/n²) ‖HᵀD‖²."""
    for activation in ("tanh", "relu", "linear"):
        problem = make_problem(
            learning_rate=0.25, model={"activation": activation}, training={"steps": 40}
        )
        trajectory = train(problem)
        function = {"tanh": torch.tanh, "relu": torch.relu, "linear": lambda z: z}[activation]
        n, rate = problem.samples, 0.25
        norms = np.array([values(trajectory.table, "output_norm_squared", s) for s in range(3)])
        assert np.isfinite(norms).all()
        for step in range(40):
            state = trajectory.states[step]
            hidden = function(function(problem.inputs @ state["weight0"]) @ state["weight1"])
            outputs = hidden @ state["weight2"]
            residual = outputs - problem.targets
            first = (residual * outputs).sum((1, 2))
            second = (hidden.mT @ residual).square().sum((1, 2))
            predicted = -(4 * rate / n) * first + (4 * rate**2 / n**2) * second
            change = norms[:, step + 1] - norms[:, step]
            np.testing.assert_allclose(change, predicted.numpy(), rtol=0, atol=1e-13 * norms.max())
            assert float(predicted.abs().max()) > 1e-8


def test_gradient_by_central_differences(make_problem):
    problem = make_problem(loss="binary_cross_entropy", model={"activation": "elu", "bias": True})
    state = problem.initial_state()
    found = problem.loss_and_gradient(state, *problem.batch(0))
    torch.testing.assert_close(found.losses, problem.full_loss(state, 0))
    h = 1e-5
    for name in ("weight0", "weight1", "bias0", "bias2"):
        direction = torch.randn(
            state[name].shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
        )
        up = problem.full_loss(state | {name: state[name] + h * direction}, 0)
        down = problem.full_loss(state | {name: state[name] - h * direction}, 0)
        expected = (found.gradients[name] * direction).flatten(1).sum(1)
        torch.testing.assert_close((up - down) / (2 * h), expected, rtol=1e-6, atol=1e-9)
    assert not found.gradients["unseen"].any()


# --- a run alone and in a shard


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-9)])
@pytest.mark.parametrize("batch", [None, 4])
def test_a_run_alone_agrees_with_the_same_run_in_a_shard(
    make_problem, make_dataset, dtype, tolerance, batch
):
    data = make_dataset(samples=40, dimensions=60)
    options = {"dtype": dtype, "width": 30, "training": {"steps": 50, "batch": batch}}
    shard = train(make_problem(data, seeds=[0, 1, 2, 3], **options)).table
    for seed in (1, 3):
        alone = train(make_problem(data, seeds=[seed], **options)).table
        for quantity, index in (("loss", 0), ("norm_squared", 0), ("output_norm_squared", 0)):
            np.testing.assert_allclose(
                values(alone, quantity, seed, index),
                values(shard, quantity, seed, index),
                rtol=tolerance,
            )


def test_training_twice_gives_the_same_bits(make_problem):
    first, second = (train(make_problem(training={"steps": 30, "batch": 3})) for _ in range(2))
    assert first.table.equals(second.table)
    assert first.states.keys() == second.states.keys()
    for step, state in first.states.items():
        assert all(torch.equal(tensor, second.states[step][name]) for name, tensor in state.items())


# --- batches


def test_batches_are_addressed_by_block(make_problem):
    steps = 3 * BLOCK
    walked = make_problem(training={"steps": steps, "batch": 5})
    seen = [walked.batch(step) for step in range(steps)]
    for step in (2 * BLOCK + 7, 0, BLOCK - 1, BLOCK, steps - 1):
        inputs, targets = make_problem(training={"steps": steps, "batch": 5}).batch(step)
        assert inputs.shape == (3, 5, 12)
        assert targets.shape == (3, 5, 1)
        assert torch.equal(inputs, seen[step][0])
        assert torch.equal(targets, seen[step][1])
    alone = make_problem(seeds=[2], learning_rate=0.5, training={"steps": steps, "batch": 5})
    assert torch.equal(alone.batch(77)[0][0], seen[77][0][2])
    assert not torch.equal(seen[0][0], seen[BLOCK][0])
    assert not torch.equal(seen[0][0][0], seen[0][0][1])


def test_batches_are_drawn_uniformly_with_replacement(make_problem):
    problem = make_problem(training={"steps": 400, "batch": 6}, seeds=[0])
    rows = {tuple(row.tolist()): i for i, row in enumerate(problem.inputs)}
    drawn = [[rows[tuple(r.tolist())] for r in problem.batch(s)[0][0]] for s in range(400)]
    counts = np.bincount(np.concatenate(drawn), minlength=12)
    assert (np.abs(counts - 200) < 5 * np.sqrt(200)).all()
    assert any(len(set(batch)) < 6 for batch in drawn)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "a dataset a run"])
def test_an_epoch_sees_every_sample_at_most_once(make_problem, make_dataset, own):
    """Of twelve samples in batches of five, two are left out, other ones in another epoch."""
    training = {"steps": 40, "batch": 5, "sampling": "epochs"}
    datasets = [make_dataset()]
    if own:
        datasets = [
            {name: t + seed if name == "inputs" else t for name, t in make_dataset().items()}
            for seed in range(3)
        ]
    problem = Problem(spec(training=training), *datasets)

    def drawn(problem, step, run):
        whole = problem.batches.of_run(run)[0]
        rows = {tuple(row.tolist()): i for i, row in enumerate(whole)}
        return [rows[tuple(r.tolist())] for r in problem.batch(step)[0][run]]

    for run in range(3):
        epochs = [drawn(problem, 2 * e, run) + drawn(problem, 2 * e + 1, run) for e in range(20)]
        assert all(len(set(epoch)) == 10 for epoch in epochs)
        assert set().union(*map(set, epochs)) == set(range(12))
        assert len({frozenset(epoch) for epoch in epochs}) > 5
        assert len({tuple(epoch) for epoch in epochs}) == 20
    assert drawn(problem, 0, 0) != drawn(problem, 0, 1)
    again = Problem(spec(training=training), *datasets)
    assert drawn(again, 31, 2) == epochs[15][5:]
    assert drawn(again, 6, 2) == epochs[3][:5]


def test_a_batch_step_uses_the_batch_of_each_run(make_problem):
    problem = make_problem(training={"steps": 5, "batch": 4})
    state = problem.initial_state()
    inputs, targets = problem.batch(2)
    taken = problem.step(state, 2)
    for run in range(3):
        leaves = {k: v[run : run + 1].clone().requires_grad_() for k, v in state.items()}
        loss = ((problem.model(leaves, inputs[run])[0] - targets[run]) ** 2).mean()
        loss.backward()
        torch.testing.assert_close(taken.losses[run], loss.detach())
        for name in ("weight0", "weight1", "weight2"):
            expected = leaves[name].detach() - 0.05 * leaves[name].grad
            torch.testing.assert_close(taken.state[name][run : run + 1], expected)


def test_sgd_records_the_loss_over_all_samples(make_problem):
    problem = make_problem(training={"steps": 12, "batch": 3})
    trajectory = train(problem)
    for step in (0, 5, 12):
        expected = problem.full_loss(trajectory.states[step], step)
        found = [values(trajectory.table, "loss", seed)[step] for seed in problem.seeds]
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-12)


def test_a_batch_larger_than_the_dataset_is_refused(make_problem):
    with pytest.raises(ConfigError, match=r"training\.batch = 13.*12 samples"):
        make_problem(training={"batch": 13})


# --- what is stored and recorded


@given(st.integers(1, 5000), st.integers(1, 50), st.integers(1, 10**7), st.integers(0, 10**9))
def test_stored_steps_fit_their_budget(steps, every, size, budget):
    kept = stored_steps(steps, every, size, budget)
    assert kept == sorted(set(kept))
    assert kept[0] == 0
    assert kept[-1] == steps
    assert len(kept) * size <= max(budget, 2 * size)
    gaps = {b - a for a, b in itertools.pairwise(kept[:-1])}
    assert len(gaps) <= 1
    assert all(gap % every == 0 for gap in gaps)
    if budget >= size * (steps // every + 2):
        assert kept == sorted({*range(0, steps, every), steps})


def test_states_fit_the_megabytes(make_problem):
    problem = make_problem(width=40, training={"steps": 60, "states_megabytes": 0.1})
    trajectory = train(problem)
    per_run = sum(
        t[0].numel() * t.element_size()
        for state in trajectory.states.values()
        for t in state.values()
    )
    assert 3 <= len(trajectory.states) < 61
    assert per_run <= 0.1 * 2**20


def test_rows_stand_at_the_stride_and_the_last_step(make_problem):
    every = train(make_problem(training={"steps": 23})).table
    sparse = train(make_problem(training={"steps": 23, "record_every": 5})).table
    recorded = [0, 5, 10, 15, 20, 23]
    loss = sparse[(sparse["quantity"] == "loss") & (sparse["seed"] == 1)]
    assert loss["step"].tolist() == recorded
    np.testing.assert_array_equal(loss["value"], values(every, "loss", 1)[recorded])


def test_the_table_is_complete(make_problem):
    problem = make_problem(
        training={"steps": 10}, optimiser={"kind": "heavy_ball", "momentum": 0.5}
    )
    table = train(problem).table
    assert list(table.columns) == ["seed", "step", "quantity", "index", "value"]
    counts = table.groupby("quantity").size().to_dict()
    rows = 3 * 11
    assert counts == {
        "loss": rows,
        "learning_rate": rows,
        "norm_squared": 3 * rows,
        "output_norm_squared": rows,
        "samples": 3,
        "stability_threshold": rows,
    }
    thresholds = table[table["quantity"] == "stability_threshold"]["value"]
    assert set(thresholds) == {3.0 / 0.05}
    samples = table[table["quantity"] == "samples"]
    assert set(samples["step"]) == {0}
    assert set(samples["value"]) == {12.0}
    assert not table.duplicated(["seed", "step", "quantity", "index"]).any()


def drawn_targets(loss, samples, stream):
    """Targets (n, 2) that the loss takes: a distribution over classes, or signs."""
    signs = torch.randn(samples, 2, dtype=torch.float64, generator=stream).sign()
    return F.one_hot((signs[:, 0] > 0).long(), 2).double() if loss == "cross_entropy" else signs


@pytest.mark.parametrize("samples", [40, 300])
@pytest.mark.parametrize("loss", sorted(TYPES.options("losses")))
@pytest.mark.parametrize("activation", ["tanh", "elu", "swish"])
def test_the_written_out_gradient_is_that_of_autograd(samples, loss, activation):
    stream = torch.Generator().manual_seed(0)
    inputs = torch.randn(samples, samples, dtype=torch.float64, generator=stream).tril()
    targets = drawn_targets(loss, samples, stream)
    options = part("losses", loss)
    function = load_part("losses", options).build(options)
    model = DenseNetwork(6, 2, activation, bias=True, outputs=2)
    shapes = {"weight0": (samples, 6), "bias0": (6,), "weight1": (6, 6), "bias1": (6,)}
    shapes |= {"weight2": (6, 2), "bias2": (2,), "unseen": (1,)}
    leaves = {
        name: (torch.randn(3, *shape, dtype=torch.float64, generator=stream) / 6).requires_grad_()
        for name, shape in shapes.items()
    }
    expected = function(model(leaves, inputs), targets)
    exact = torch.autograd.grad(expected.sum(), list(leaves.values()), materialize_grads=True,
                                allow_unused=True)  # fmt: skip
    product = InputProduct(inputs)
    assert (product.kept < 1) == (samples == 300)
    detached = {name: leaf.detach() for name, leaf in leaves.items()}
    found = model.loss_and_gradient(detached, product, targets, function)
    torch.testing.assert_close(found.losses, expected.detach())
    for name, gradient in zip(leaves, exact, strict=True):
        torch.testing.assert_close(found.gradients[name], gradient, msg=name)
