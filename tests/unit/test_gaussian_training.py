import math

import pytest
import torch
from gaussian_shards import population, shard
from hypothesis import given, settings
from hypothesis import strategies as st
from specs import part

from papers.ziyin2024.models import deep_linear, scale_invariant, two_layer
from sharpflow.data.population import Population
from sharpflow.errors import ConfigError
from sharpflow.losses.mse import SquaredError
from sharpflow.models import stacks
from sharpflow.models.base import Setting, build
from sharpflow.symmetry import population_gradient
from sharpflow.training import BLOCK, train

MODELS = {
    "linear": {},
    "tanh": {"activation": "tanh"},
    "relu": {"activation": "relu"},
    "swish": {"activation": "swish"},
    "net_a": {"kind": "scale_invariant", "normalisation": "global"},
    "net_b": {"kind": "scale_invariant", "normalisation": "layer"},
    "deep": {"kind": "deep_linear", "depth": 4},
}
DEEP = MODELS["deep"]


def by_autograd(problem, state, first, last):
    """The state after steps that are differentiated automatically."""
    for step in range(first, last):
        state = problem.step(state, step).state
    return state


def assert_same(left, right, tolerance=1e-9):
    assert left.keys() == right.keys()
    for name in left:
        assert torch.allclose(left[name], right[name], rtol=tolerance, atol=tolerance), name


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_written_out_steps_are_autograd_steps(model, decay):
    problem = shard(model=model, weight_decay=decay)
    state = problem.initial_state()
    before = {name: tensor.clone() for name, tensor in state.items()}
    moved = problem.advance(state, 0, 70)
    assert moved.losses is None
    assert_same(moved.state, by_autograd(problem, state, 0, 70))
    assert_same(state, before, 0.0)


@pytest.mark.parametrize("samples", [None, 20])
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_a_run_alone_is_the_run_in_a_shard(model, samples):
    dataset = population(samples=samples)
    together = train(shard(dataset, (0, 1, 2, 3), model=model))
    alone = train(shard(dataset, (2,), model=model))
    table = together.table[together.table.seed == 2].reset_index(drop=True)
    assert table.quantity.tolist() == alone.table.quantity.tolist()
    assert (table.value - alone.table.value).abs().max() < 1e-9
    last = {name: tensor[2:3] for name, tensor in together.states[120].items()}
    assert_same(last, alone.states[120])


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_written_out_steps_on_tensors_are_those_on_arrays(model, monkeypatch):
    stochastic = shard(model=model, weight_decay=0.1)
    exact = shard(model=DEEP if model == DEEP else {}, batch=None, weight_decay=0.1)
    state, start = stochastic.initial_state(), exact.initial_state()
    moved, fallen = stochastic.advance(state, 0, 30).state, exact.advance(start, 0, 30).state
    for module in (two_layer, deep_linear, scale_invariant, stacks):
        monkeypatch.setattr(module, "stack", lambda tensor: tensor)
    assert_same(stochastic.advance(state, 0, 30).state, moved)
    assert_same(exact.advance(start, 0, 30).state, fallen)


def test_steps_do_not_depend_on_how_the_state_lies_in_memory():
    problem = shard(seeds=(0, 1))
    state = problem.initial_state()
    turned = {name: t.mT.contiguous().mT for name, t in state.items()}
    assert not turned["w"].is_contiguous()
    whole = problem.advance(state, 0, 60).state
    assert_same(problem.advance(turned, 0, 60).state, whole, 0.0)
    cut = problem.advance(problem.advance(state, 0, 7).state, 7, 60).state
    assert_same(cut, whole, 0.0)
    assert all(t.is_contiguous() for t in whole.values())


def test_seeds_differ_and_learning_rates_share_their_random_numbers():
    slow, fast = shard(learning_rate=0.01), shard(learning_rate=0.02)
    assert torch.equal(slow.batch(7)[0], fast.batch(7)[0])
    first, second, _ = slow.batch(7)[0]
    assert not torch.equal(first, second)
    assert not torch.equal(slow.batch(7)[0], slow.batch(7 + BLOCK)[0])


@pytest.mark.parametrize("samples", [None, 20])
def test_any_step_can_be_drawn_again_by_itself(samples):
    problem, other = shard(population(samples=samples)), shard(population(samples=samples))
    drawn = [problem.batch(step) for step in range(2 * BLOCK)]
    for step in (BLOCK + 3, 5):
        for left, right in zip(drawn[step], other.batch(step), strict=True):
            assert torch.equal(left, right)


def test_online_batches_have_the_moments_of_the_population():
    problem = shard(batch=2000, seeds=(0, 1))
    inputs, targets = (t.flatten(0, 1) for t in problem.batch(0))
    law = problem.population
    noise = targets - inputs @ law.teacher.mT
    for sample, covariance in ((inputs, law.input_covariance), (noise, law.noise_covariance)):
        found = sample.mT @ sample / len(sample)
        assert torch.allclose(found, covariance, atol=0.15)
        assert sample.mean(0).abs().max() < 0.12
    assert (inputs.mT @ noise / len(inputs)).abs().max() < 0.12


def test_finite_samples_are_a_run_s_own_and_batches_come_from_them():
    problem = shard(population(samples=8), batch=5)
    assert problem.samples == 8
    assert not torch.equal(problem.inputs[0], problem.inputs[1])
    inputs, targets = problem.batch(11)
    for run in range(3):
        rows = (inputs[run][:, None] == problem.inputs[run]).all(-1)
        assert (rows.sum(1) == 1).all()
        assert torch.equal(targets[run], problem.targets[run][rows.int().argmax(1)])


def test_gradient_descent_on_samples_uses_all_of_them():
    problem = shard(population(samples=8), batch=None)
    inputs, targets = problem.batch(3)
    assert torch.equal(inputs, problem.inputs)
    assert torch.equal(targets, problem.targets)
    state = problem.initial_state()
    assert_same(problem.advance(state, 0, 20).state, by_autograd(problem, state, 0, 20))


def test_gradient_descent_on_the_population_follows_its_gradient():
    problem = shard(batch=None, weight_decay=0.2)
    state = problem.initial_state()
    law = problem.population
    grad_u, grad_w = population_gradient(state["u"], state["w"], law.teacher, law.input_covariance)
    moved = problem.advance(state, 0, 1).state
    assert torch.allclose(moved["u"], state["u"] - 0.01 * (grad_u + 0.2 * state["u"]))
    assert torch.allclose(moved["w"], state["w"] - 0.01 * (grad_w + 0.2 * state["w"]))
    assert_same(problem.advance(state, 0, 60).state, by_autograd(problem, state, 0, 60))


@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_deep_gradient_descent_on_the_population_is_that_of_autograd(decay):
    problem = shard(model=DEEP, batch=None, weight_decay=decay)
    state = problem.initial_state()
    moved = problem.advance(state, 0, 60).state
    assert_same(moved, by_autograd(problem, state, 0, 60))
    assert (problem.full_loss(moved, 60) < problem.full_loss(state, 0)).all()


@pytest.mark.parametrize(
    "model",
    [{}, DEEP, {"kind": "circle", "angle": 2.4}],
    ids=["linear", "deep", "circle"],
)
def test_population_loss_is_the_limit_of_many_samples(model):
    circle = model.get("kind") == "circle"
    shape = {"inputs": 2, "outputs": 1, "teacher": "identity"} if circle else {}
    problem = shard(population(**shape), model=model, batch=20_000, seeds=(0,))
    state = problem.initial_state()
    inputs, targets = problem.batch(0)
    sampled = problem.loss(problem.model(state, inputs), targets)
    assert torch.allclose(problem.full_loss(state, 0), sampled, rtol=0.05)


@settings(max_examples=15, deadline=None)
@given(
    inputs=st.integers(1, 4),
    outputs=st.integers(1, 4),
    extra=st.integers(1, 30),
    decay=st.sampled_from([0.0, 0.3]),
)
def test_width_compression_is_exact(inputs, outputs, extra, decay):
    dataset = population(inputs, outputs)
    width = inputs + outputs + extra
    compressed = shard(dataset, width=width, weight_decay=decay, steps=40)
    state = compressed.initial_state()
    assert state["u"].shape == (3, outputs, inputs + outputs)
    # a network of the generic class trains the whole width from the same draw
    whole = shard(dataset, model={"activation": "relu"}, width=width, weight_decay=decay)
    full = whole.initial_state()
    object.__setattr__(whole.model, "activation", "linear")
    for _ in range(2):
        for name in ("u", "w"):
            found, wanted = state[name].square().sum((1, 2)), full[name].square().sum((1, 2))
            assert torch.allclose(found, wanted, rtol=1e-9)
        assert torch.allclose(state["u"] @ state["w"], full["u"] @ full["w"], atol=1e-9)
        state, full = compressed.advance(state, 0, 40).state, whole.advance(full, 0, 40).state


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)])
def test_balanced_start(shape):
    dataset = population(*shape)
    problem = shard(dataset, model={"initialisation": "balanced"}, width=6)
    state = problem.initial_state()
    assert torch.allclose(state["u"] @ state["w"], dataset["teacher"].expand(3, -1, -1))
    assert torch.allclose(state["u"].mT @ state["u"], state["w"] @ state["w"].mT, atol=1e-12)
    assert not torch.allclose(state["u"][0], state["u"][1])


def test_layers_start_with_the_stds_that_are_given():
    model = {"kind": "deep_linear", "initialisation": {"kind": "layers", "stds": [0.5, 1, 2]}}
    state = shard(population(40, 40), model=model, width=40).initial_state()
    spreads = [state[f"w{layer}"].std().item() * 40**0.5 for layer in (1, 2, 3)]
    assert spreads == pytest.approx([0.5, 1, 2], rel=0.1)
    short = DEEP | {"initialisation": {"kind": "layers", "stds": [1, 1]}}
    with pytest.raises(ConfigError, match="lists 2 numbers, and the network has 4 layers"):
        shard(model=short).initial_state()


def test_balanced_start_needs_width():
    with pytest.raises(ConfigError, match="width of at least 4; got 3"):
        shard(model={"initialisation": "balanced"}, width=3).initial_state()


@pytest.mark.parametrize(("unit", "scale_w"), [("fan_in", 1 / 9), ("width", 1 / 400)])
def test_stds_of_the_start_are_in_the_stated_unit(unit, scale_w):
    start = {"kind": "factors", "u": 0.5, "w": 2.0, "unit": unit}
    options = part("models", "two_layer", activation="tanh", initialisation=start)
    model = build(options, Setting(400, (9,), 9))
    dataset = population(9, 9)
    drawn = model.initialise(dataset, torch.Generator().manual_seed(0))
    assert drawn["u"].var().item() == pytest.approx(0.25 / 400, rel=0.1)
    assert drawn["w"].var().item() == pytest.approx(4 * scale_w, rel=0.1)


@pytest.mark.parametrize(("kind", "scaled"), [("net_a", ("u", "w")), ("net_b", ("u",))])
def test_scale_invariance(kind, scaled):
    problem = shard(model=MODELS[kind])
    state = problem.initial_state()
    inputs, _ = problem.batch(0)
    outputs = problem.model(state, inputs)
    grown = {name: 3.0 * t if name in scaled else t for name, t in state.items()}
    assert torch.allclose(problem.model(grown, inputs), outputs)
    one = {"u": 3.0 * state["u"], "w": state["w"]}
    assert torch.allclose(problem.model(one, inputs), outputs) == (kind == "net_b")


def test_circle_starts_on_the_unit_circle_and_moves_along_its_tangent():
    dataset = population(2, 1, teacher="identity")
    problem = shard(dataset, model={"kind": "circle", "angle": 2.4}, batch=1)
    theta = problem.initial_state()["theta"]
    assert torch.allclose(theta, torch.tensor([math.cos(2.4), math.sin(2.4)]).double())
    found = problem.loss_and_gradient({"theta": theta}, *problem.batch(0))
    assert (found.gradients["theta"] * theta).sum(-1).abs().max() < 1e-12


def test_a_diverged_run_leaves_its_shard_mates_alone():
    calm = train(shard(seeds=(1,), learning_rate=0.05, steps=60))
    problem = shard(seeds=(0, 1), learning_rate=0.05, steps=60)
    start = problem.initial_state()
    start["u"][0] *= 1e6
    problem.initial_state = lambda: start
    table = train(problem).table
    assert table[table.quantity == "diverged_step"].seed.tolist() == [0]
    loss = table[(table.quantity == "loss") & (table.seed == 1)].value.to_numpy()
    assert loss == pytest.approx(calm.table[calm.table.quantity == "loss"].value.to_numpy())


def test_momentum_and_warmup_take_the_same_path_as_before():
    problem = shard(schedule={"kind": "warmup", "learning_rate": 0.001, "until": 5})
    state = problem.initial_state()
    assert_same(problem.advance(state, 0, 12).state, by_autograd(problem, state, 0, 12))
    heavy = shard(optimiser={"kind": "heavy_ball", "momentum": 0.9})
    state = heavy.initial_state()
    assert_same(heavy.advance(state, 0, 12).state, by_autograd(heavy, state, 0, 12))


def test_refusals():
    with pytest.raises(ConfigError, match="larger than the dataset, which has 8"):
        shard(population(samples=8), batch=9)
    with pytest.raises(ConfigError, match="this network has none in closed form"):
        shard(model={"activation": "tanh"}, batch=None)


def test_samples_of_a_population_from_normals():
    law = Population.of(population(3, 2), torch.empty(0, dtype=torch.float64))
    normals = torch.eye(5)
    inputs, targets = law.sample(normals)
    assert torch.allclose(inputs[:3], torch.diag(law.input_std))
    assert torch.allclose(targets[:3], torch.diag(law.input_std) @ law.teacher.mT)
    assert torch.allclose(targets[3:], torch.diag(law.noise_std))


def test_online_runs_state_no_number_of_samples():
    table = train(shard(steps=10)).table
    assert "samples" not in set(table.quantity)
    finite = train(shard(population(samples=7), steps=10)).table
    assert set(finite[finite.quantity == "samples"].value) == {7.0}


def test_loss_is_summed_over_outputs_and_averaged_over_samples():
    outputs, targets = torch.zeros(2, 4, 3), torch.ones(2, 4, 3)
    assert SquaredError()(outputs, targets).tolist() == [3.0, 3.0]
