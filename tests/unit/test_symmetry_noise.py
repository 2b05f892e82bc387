"""Charges, noise and predictions of symmetries along runs."""

from itertools import combinations
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from shards import found, shard, trained
from specs import part

from sharpflow.errors import ConfigError
from sharpflow.measurements.base import Snapshot
from sharpflow.measurements.symmetry_noise import build
from sharpflow.symmetry import GradientMoments, Slots, Symmetry

UNITS = torch.arange(5)[:, None]
RELU = {"kind": "mlp", "hidden_layers": 1, "activation": "relu", "bias": True}
SIDES = ("outer", "inner")


def data(samples=12, inputs=4, outputs=3):
    source = torch.Generator().manual_seed(1)
    return {
        "inputs": torch.randn(samples, inputs, generator=source),
        "targets": torch.randn(samples, outputs, generator=source),
    }


def rows(problem, parameters, symmetry):
    """Gradients of single samples, one by one, as rows of both sides."""
    inputs, targets = problem.inputs, problem.targets
    sides = []
    for x, y in zip(inputs, targets, strict=True):
        leaves = {n: t.clone().requires_grad_() for n, t in parameters.items()}
        outputs = problem.model({n: t[None] for n, t in leaves.items()}, x[None])[0]
        loss = problem.loss(outputs, y[None])
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        gradients = dict(zip(leaves, found, strict=True))
        sides.append(
            [
                torch.cat([s.rows(gradients[s.parameter]) for s in side], dim=1)
                for side in (symmetry.outer, symmetry.inner)
            ]
        )
    return [torch.stack(side) for side in zip(*sides, strict=True)]


def relu_symmetry():
    inner = (Slots("weight0", 2, -1, UNITS), Slots("bias0", 1, -1, UNITS))
    return Symmetry("rescaling", (Slots("weight1", 2, -2, UNITS),), inner)


def test_sides_are_those_of_gradients_taken_one_by_one():
    problem = shard(data(), RELU, {"batch": 3, "steps": 4, "states_megabytes": 10})
    trajectory, table = trained(problem, symmetry_noise={"every": 2})
    symmetry = relu_symmetry()
    for step in (0, 2, 4):
        parameters = {n: t[1] for n, t in trajectory.states[step].items() if n != "unseen"}
        sides = rows(problem, parameters, symmetry)
        grams = symmetry.grams(parameters)
        for name, side in zip(SIDES, sides, strict=True):
            mean = side.mean(0)
            noise = (side - mean).square().sum(-1).mean(0)
            wanted = {
                "noise": noise,
                "gradient": mean.square().sum(-1),
                "root": ((side - mean).square().mean(0) / 3 + mean.square()).sqrt().sum(-1),
            }
            for quantity, value in wanted.items():
                got = found(table, f"symmetry_{quantity}_{name}", 1, step)
                torch.testing.assert_close(got, value.detach())
        torch.testing.assert_close(found(table, "symmetry_charge", 1, step), grams[0] - grams[1])
    assert found(table, "symmetry_of", 0, 0).tolist() == [0.0] * 5


def one_step(problem, state, batch, decay=0.0, rate=0.05):
    """Charges after a step of one run of SGD on the samples of a batch."""
    inputs, targets = problem.inputs[list(batch)], problem.targets[list(batch)]
    parameters = {n: t[:1] for n, t in state.items()}
    gradients = problem.loss_and_gradient(parameters, inputs, targets).gradients
    moved = {n: (1 - rate * decay) * t - rate * gradients[n] for n, t in parameters.items()}
    return relu_symmetry().charge({n: t[0] for n, t in moved.items()})


@pytest.mark.parametrize(("size", "sampling"), [(1, "with_replacement"), (2, "epochs")])
def test_the_drift_is_the_mean_over_all_batches(size, sampling):
    decay = 0.3
    training = {"batch": size, "steps": 1, "sampling": sampling, "weight_decay": decay}
    problem = shard(data(), RELU, training | {"states_megabytes": 10})
    trajectory, table = trained(problem, symmetry_noise={"every": 1})
    state = trajectory.states[0]
    after = [one_step(problem, state, each, decay) for each in combinations(range(12), size)]
    charge, drift = (found(table, f"symmetry_{name}", 0, 0) for name in ("charge", "drift"))
    kept = (1 - 0.05 * decay) ** 2
    torch.testing.assert_close(torch.stack(after).mean(0), kept * charge + drift)


def test_gradient_descent_goes_where_drift_and_decay_lead():
    training = {"steps": 60, "weight_decay": 0.2, "states_megabytes": 10}
    _, table = trained(shard(data(), RELU, training), symmetry_noise={"every": 1})
    start, end, led = (
        found(table, f"symmetry_{name}", 0, step)
        for name, step in (("charge", 0), ("charge", 60), ("charge_predicted", 60))
    )
    still = (1 - 0.05 * 0.2) ** 120 * start
    assert (end - still).abs().max() > 0.005
    torch.testing.assert_close(led, end)


def changes(optimiser, first, last):
    """Mean over seeds of the measured and the predicted change of the charges between two steps."""
    problem = shard(
        data(),
        RELU,
        {"batch": 1, "steps": last, "record_every": 10, "states_megabytes": 10},
        seeds=list(range(20)),
        optimiser=optimiser,
        learning_rate=0.01 if optimiser is None else 0.001,
    )
    _, table = trained(problem, symmetry_noise={"every": 10})
    wide = table.pivot_table(index=["seed", "step", "index"], columns="quantity", values="value")
    end, start = (wide.xs(step, level="step") for step in (last, first))
    measured, predicted = (
        (end[name] - start[name]).groupby("index").mean()
        for name in ("symmetry_charge", "symmetry_charge_predicted")
    )
    return torch.tensor(measured.to_numpy()), torch.tensor(predicted.to_numpy())


@pytest.mark.parametrize(
    "optimiser",
    [None, {"kind": "heavy_ball", "momentum": 0.9}, {"kind": "nesterov", "momentum": 0.9}],
    ids=["sgd", "heavy_ball", "nesterov"],
)
def test_the_change_of_charges_over_a_run_is_that_predicted(optimiser):
    measured, predicted = changes(optimiser, 100, 600)
    slope = (measured @ predicted) / predicted.square().sum()
    assert slope == pytest.approx(1.0, abs=0.1)


def measured_once(problem, state, run=0, step=0, measurement=None, **options) -> dict[str, Any]:
    chosen = part("measurements", "symmetry_noise", **options)
    snapshot = Snapshot(problem, run, state, problem.__dict__.setdefault("kept", {}), step)
    return (measurement or build(chosen)).measure(snapshot)


def test_drawn_batches_and_drawn_samples_agree_with_all_samples():
    problem = shard(data(), RELU, {"batch": 3})
    state = problem.initial_state()
    whole = measured_once(problem, state)
    for options in (
        {"gradients": "batches", "draws": 6000},
        {"gradients": "batches", "draws": 6000, "batch": 1},
    ):
        drawn = measured_once(problem, state, **options)
        for name in ("noise", "gradient"):
            for side in SIDES:
                got, wanted = (torch.tensor(v[f"symmetry_{name}_{side}"]) for v in (drawn, whole))
                assert (got - wanted).norm() < 0.15 * wanted.norm()
    once = {"samples": 3, "law": None}
    few = [measured_once(problem, state, step=s, **once) for s in range(600)]
    for name in ("noise_outer", "gradient_inner"):
        mean = torch.stack([torch.tensor(v[f"symmetry_{name}"]) for v in few]).mean(0)
        wanted = torch.tensor(whole[f"symmetry_{name}"])
        error = torch.stack([torch.tensor(v[f"symmetry_{name}"]) for v in few]).std(0) / 600**0.5
        assert ((mean - wanted).abs() < 4 * error).all()
        assert (4 * error < wanted).any()


NORMALISED = """
from torch import nn

def build(width, input_shape, outputs):
    first = nn.Linear(*input_shape, width, bias=False)
    return nn.Sequential(first, nn.BatchNorm1d(width, eps=1e-12), nn.Linear(width, outputs))
"""


def test_networks_in_which_samples_meet_need_batches(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(NORMALISED)
    net = {"kind": "module", "file": str(file)}
    problem = shard(data(), net, {"batch": 4}, seeds=list(range(100)))
    state = problem.initial_state()
    with pytest.raises(ConfigError, match=r"samples of a batch meet.*gradients: batches"):
        measured_once(problem, state)
    chosen = {"gradients": "batches", "draws": 3000, "parameters": ["0.weight"]}
    scales = measured_once(problem, state, **chosen)
    after, repeated = [], {n: t[:1].expand(100, *t.shape[1:]) for n, t in state.items()}
    moment = problem.moment(repeated, 0)
    source = torch.Generator().manual_seed(3)
    for _ in range(30):
        rows = torch.randint(12, (100, 4), generator=source)
        batch = problem.inputs[rows], problem.targets[rows]
        gradients = problem.loss_and_gradient(
            problem.parameters(repeated), *batch, moment
        ).gradients
        after.append((repeated["0.weight"] - 0.05 * gradients["0.weight"]).square().sum(-1))
    grown = torch.cat(after).mean(0) - torch.tensor(scales["symmetry_charge"])
    drift = torch.tensor(scales["symmetry_drift"])
    assert (grown - drift).norm() < 0.2 * drift.norm()


def test_a_stretch_goes_on_from_what_a_checkpoint_kept():
    problem = shard(data(), RELU, {"batch": 3, "weight_decay": 0.1})
    states = [problem.initial_state()]
    for step in range(3):
        states.append(problem.step(states[-1], step).state)
    first = build(part("measurements", "symmetry_noise"))
    for step in (0, 2):
        measured_once(problem, states[step], 0, step, first)
    second = build(part("measurements", "symmetry_noise"))
    second.recall(first.memory())
    ends = [measured_once(problem, states[3], 0, 3, each) for each in (first, second)]
    name = "symmetry_charge_predicted"
    assert ends[0][name].tolist() == ends[1][name].tolist()
    anew = build(part("measurements", "symmetry_noise"))
    measured_once(problem, states[0], 0, 0, anew)
    assert measured_once(problem, states[3], 0, 3, anew)[name].tolist() != ends[0][name].tolist()


def test_moments_in_chunks_are_those_of_all_gradients_at_once():
    source = torch.Generator().manual_seed(0)
    u = torch.randn(30, 2, 5, generator=source, dtype=torch.float64) + 100
    w = torch.randn(30, 5, 4, generator=source, dtype=torch.float64)
    mixed = Symmetry("rotation", (Slots("u", 2, -1, UNITS),), (Slots("w", 2, -2, UNITS),))
    scaled = Symmetry("rescaling", mixed.outer, mixed.inner)
    moments = GradientMoments([mixed, scaled])
    for part_u, part_w in zip(u.split(7), w.split(7), strict=True):
        moments.add({"u": part_u, "w": part_w})
    rest = u - u.mean(0)
    outer = torch.einsum("nai,naj->ij", rest, rest)
    for whole, divisor in ((30, 30), (None, 29), (31, 29 * 31 / 30)):
        noise = moments.noise(0, whole)
        torch.testing.assert_close(noise[0], outer / divisor)
        torch.testing.assert_close(moments.noise(1, whole)[0], noise[0].diagonal())
    mean = w.mean(0)
    torch.testing.assert_close(moments.drift(0, 30)[1], mean @ mean.T)
    unbiased = mean @ mean.T - moments.noise(0)[1] / 30
    torch.testing.assert_close(moments.drift(0)[1], unbiased)
    for gradients, whole in ((GradientMoments([mixed]), None), (moments, 29)):
        with pytest.raises(ValueError, match="whole must be None or at least the number"):
            gradients.variance(whole)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ValidationError, match="draws is not for gradients = samples"):
        part("measurements", "symmetry_noise", draws=50)
    problem = shard(data(), RELU, {"batch": None})
    state = problem.initial_state()
    with pytest.raises(ConfigError, match="moves a parameter named like key; it has weight0"):
        measured_once(problem, state, parameters=["key"])
    with pytest.raises(ConfigError, match="gradients = batches needs a batch size"):
        measured_once(problem, state, gradients="batches")
