"""Measurements of ziyin2024 on finite data, against sums over single samples and dense Hessians."""

from itertools import combinations, product

import numpy as np
import pytest
import specs
import torch

from sharpflow.config.feasible import check_parts
from sharpflow.data.base import generate
from sharpflow.errors import ConfigError
from sharpflow.measurements.base import Snapshot
from sharpflow.parts.loading import load_part
from sharpflow.training import Problem

LINEAR = {"kind": "two_layer"}
NETS = {
    "linear": LINEAR,
    "tanh": {"kind": "two_layer", "activation": "tanh"},
    "net_a": {"kind": "scale_invariant", "normalisation": "global"},
    "net_b": {"kind": "scale_invariant", "normalisation": "layer"},
}


def pictures(samples: int) -> dict[str, torch.Tensor]:
    """Pictures of four pixels and two classes."""
    chosen = {"targets": "one_hot", "pooling": 16, "draw": "fixed", "draw_seed": 1}
    return generate(specs.part("data", "photos", samples=samples, **chosen))[0]


def shard(model, samples=6, width=3, batch=2, seeds=(0, 1), **training) -> Problem:
    options = {"steps": 40, "batch": batch, "record_every": 10} | training
    spec = specs.spec(model, options, seeds=list(seeds), width=width, learning_rate=0.01)
    return Problem(spec, pictures(samples))


def measured(problem, name, step=0, **options):
    """What a measurement gives of each run at the initial state, and the state."""
    state = problem.initial_state()
    part = specs.measurements(**{name: options})[name]
    found = [
        load_part("measurements", part | {"kind": name})
        .build(part)
        .measure(Snapshot(problem, run, state, {}, step))
        for run in range(len(problem.seeds))
    ]
    return found, state


def dense_trace(problem, parameters, run):
    """Trace of the Hessian of the mean loss of one run, by automatic differentiation."""
    x, y = problem.batches.of_run(run)
    sizes = [parameters[n].numel() for n in ("u", "w")]
    shapes = [parameters[n].shape for n in ("u", "w")]

    def loss(flat):
        u, w = (part.reshape(s) for part, s in zip(flat.split(sizes), shapes, strict=True))
        return (x @ w.T @ u.T - y).square().sum(1).mean()

    flat = torch.cat([parameters[n].flatten() for n in ("u", "w")])
    return float(torch.autograd.functional.hessian(loss, flat).trace())


def of_run(state, run):
    return {name: tensor[run] for name, tensor in state.items()}


def gammas_of(problem, parameters, run):
    """Γ_U and Γ_W as sums over single samples."""
    x, y = problem.batches.of_run(run)
    outputs = problem.model({n: t[None] for n, t in parameters.items()}, x)[0]
    gamma_u = torch.zeros(y.shape[1], y.shape[1], dtype=x.dtype)
    gamma_w = torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype)
    for inputs, residual in zip(x, outputs - y, strict=True):
        gamma_u += inputs.dot(inputs) * torch.outer(residual, residual) / len(x)
        gamma_w += residual.dot(residual) * torch.outer(inputs, inputs) / len(x)
    return gamma_u, gamma_w


def test_hessian_trace_is_that_of_the_loss_over_all_pictures():
    problem = shard(LINEAR)
    values, state = measured(problem, "hessian_trace")
    for run in (0, 1):
        exact = dense_trace(problem, of_run(state, run), run)
        assert values[run] == {"hessian_trace": pytest.approx(exact, rel=1e-9)}


def test_the_equilibrium_of_one_unit_is_where_both_layers_noise_is_equal():
    problem = shard(LINEAR, samples=40, width=1)
    values, state = measured(problem, "hessian_trace", equilibrium=True)
    own = of_run(state, 1)
    gamma_u, gamma_w = gammas_of(problem, own, 1)
    noise_u = float(own["u"].T @ gamma_u @ own["u"])
    noise_w = float(own["w"] @ gamma_w @ own["w"].T)
    factor = (noise_w / noise_u) ** 0.25
    balanced = {"u": own["u"] * factor, "w": own["w"] / factor}
    exact = dense_trace(problem, balanced, 1)
    assert values[1]["hessian_trace_equilibrium"] == pytest.approx(exact, rel=1e-6)
    assert abs(exact / values[1]["hessian_trace"] - 1) > 0.01


def test_no_equilibrium_is_said_where_the_noise_reaches_one_layer_alone():
    problem = shard(LINEAR, width=1)
    start = problem.initial_state()
    seen = torch.linalg.qr(problem.inputs.T).Q  # 6 pictures span a part of 12 dimensions
    start["w"] -= start["w"] @ seen @ seen.T
    problem.initial_state = lambda: start
    values, _ = measured(problem, "hessian_trace", equilibrium=True)
    assert [set(own) for own in values] == [{"hessian_trace"}] * 2


@pytest.mark.parametrize("model", [LINEAR, NETS["tanh"]], ids=["linear", "tanh"])
def test_representations_are_sums_over_the_run_s_pictures(model):
    problem = shard(model)
    (other, values), state = measured(problem, "representations", problem.steps, grams_of=1)
    assert "gram_u" not in other
    own = of_run(state, 1)
    gamma_u, gamma_w = gammas_of(problem, own, 1)
    left, right = own["u"].T @ gamma_u @ own["u"], own["w"] @ gamma_w @ own["w"].T
    cosine = float((left * right).sum() / (left.norm() * right.norm()))
    assert values["alignment"] == pytest.approx(cosine, rel=1e-9)
    assert np.allclose(values["gram_u"], left.flatten())
    assert np.allclose(values["gram_w"], right.flatten())


@pytest.mark.parametrize("sampling", ["with_replacement", "epochs"])
@pytest.mark.parametrize("net", ["net_a", "net_b"])
def test_norm_growth_is_the_mean_over_all_batches(net, sampling):
    problem = shard(NETS[net], samples=6, sampling=sampling)
    values, state = measured(problem, "norm_growth")
    pairs = combinations(range(6), 2) if sampling == "epochs" else product(range(6), repeat=2)
    x, y = problem.batches.of_run(0)
    own = {name: tensor[:1] for name, tensor in state.items()}
    grown = []
    for pair in map(list, pairs):
        found = problem.loss_and_gradient(own, x[pair], y[pair]).gradients
        grown.append(
            sum(
                float((own[n] - 0.01 * found[n]).square().sum() - own[n].square().sum())
                for n in own
            )
        )
    assert values[0]["norm_increment_predicted"] == pytest.approx(np.mean(grown), rel=1e-6)


@pytest.mark.parametrize("batch", [2, None])
@pytest.mark.parametrize("net", NETS)
def test_written_out_steps_on_pictures_are_autograd_steps(net, batch):
    problem = shard(NETS[net], batch=batch, weight_decay=0.1)
    state = expected = problem.initial_state()
    for step in range(30):
        expected = problem.step(expected, step).state
    moved = problem.advance(state, 0, 30)
    assert moved.losses is None  # they were written out
    for name, tensor in expected.items():
        assert torch.allclose(moved.state[name], tensor, rtol=1e-9, atol=1e-9)


def setup_of(model, loss="mse", optimiser="sgd", **measurements):
    return specs.TYPES.setup.model_validate(
        {
            "data": {"source": "photos", "samples": 20, "targets": "one_hot", "pooling": 8},
            "model": model,
            "loss": loss,
            "optimiser": optimiser,
            "training": {"batch": 3},
            "widths": [6],
            "learning_rates": [0.01],
            "measurements": measurements,
        }
    )


@pytest.mark.parametrize(
    ("name", "chosen", "needed"),
    [
        ("hessian_trace", {"model": NETS["tanh"]}, "'linear two layers'"),
        ("hessian_trace", {"model": LINEAR, "loss": "cross_entropy"}, "'squared error'"),
        ("representations", {"model": LINEAR, "loss": "cross_entropy"}, "'squared error'"),
        ("norm_growth", {"model": LINEAR}, "'scale invariance'"),
        ("norm_growth", {"model": NETS["net_a"], "optimiser": "adam"}, "'plain steps'"),
        ("noise_balance", {"model": LINEAR}, "'gaussian population'"),
    ],
)
def test_measurements_on_pictures_say_what_they_need(name, chosen, needed):
    setup = setup_of(**chosen, **{name: {}})
    with pytest.raises(ConfigError, match=rf"measurements\.{name} needs {needed}, which"):
        check_parts(setup, range(3), specs.TYPES, lambda keys: "test.yaml")


def test_what_goes_with_pictures_is_accepted():
    for model, name in ((LINEAR, "hessian_trace"), (NETS["tanh"], "representations")):
        check_parts(setup_of(model, **{name: {}}), range(3), specs.TYPES, lambda keys: "test.yaml")
    balanced = setup_of(LINEAR | {"initialisation": "balanced"})
    with pytest.raises(ConfigError, match="'balanced' needs 'gaussian population'"):
        check_parts(balanced, range(3), specs.TYPES, lambda keys: "test.yaml")
