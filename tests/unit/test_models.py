"""Networks, losses, activations and initial weights against autograd and torch.nn."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from specs import part
from torch import nn
from torch.nn import functional as F

from sharpflow.initialisations.base import Weight, draw_weights
from sharpflow.losses.binary_cross_entropy import BinaryCrossEntropy
from sharpflow.losses.mse import SquaredError
from sharpflow.models.activations import ACTIVATIONS
from sharpflow.models.base import Setting, build

LOSSES = {"mse": SquaredError(), "binary_cross_entropy": BinaryCrossEntropy()}
finite = st.floats(-8, 8)


def derivative(function, z):
    z = z.clone().requires_grad_()
    return torch.autograd.grad(function(z).sum(), z, create_graph=True)[0].detach()


REFERENCES = {
    "linear": lambda z: z + 0.0,
    "tanh": torch.tanh,
    "relu": F.relu,
    "elu": F.elu,
    "softplus": F.softplus,
    "swish": F.silu,
    "gelu": F.gelu,
}


@pytest.mark.parametrize("name", REFERENCES)
@settings(max_examples=25)
@given(values=st.lists(finite.filter(lambda z: abs(z) > 1e-9), min_size=1, max_size=20))
def test_activations_and_their_derivatives(name, values):
    activation = ACTIVATIONS[name]
    z = torch.tensor(values, dtype=torch.float64)
    torch.testing.assert_close(activation.function(z), REFERENCES[name](z), rtol=1e-12, atol=0)
    slope = activation.derivative(z)
    torch.testing.assert_close(slope, derivative(REFERENCES[name], z), rtol=1e-9, atol=1e-12)
    h = 1e-4
    difference = (activation.derivative(z + h) - activation.derivative(z - h)) / (2 * h)
    away = z.abs() > 2 * h
    torch.testing.assert_close(
        activation.second_derivative(z)[away], difference[away], rtol=1e-6, atol=1e-6
    )
    value, slope = activation.value_and_derivative(z)
    torch.testing.assert_close(
        activation.bend(z, value, slope), activation.second_derivative(z), rtol=1e-9, atol=1e-12
    )


def test_activation_references_cover_the_registry():
    assert REFERENCES.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("name", REFERENCES)
def test_derivatives_at_zero_and_far_out(name):
    activation = ACTIVATIONS[name]
    z = torch.tensor([0.0, 50.0, -50.0, 800.0, -800.0], dtype=torch.float64)
    torch.testing.assert_close(
        activation.derivative(z), derivative(REFERENCES[name], z), rtol=1e-12, atol=1e-12
    )
    assert torch.isfinite(activation.second_derivative(z)).all()


# --- losses


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=25)
@given(values=st.lists(st.tuples(finite, st.sampled_from([-1.0, 1.0])), min_size=1, max_size=20))
def test_loss_slope_and_curvature_by_autograd(name, values):
    loss = LOSSES[name]
    f = torch.tensor([[v[0]] for v in values], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[v[1]] for v in values], dtype=torch.float64)
    (slope,) = torch.autograd.grad(loss.rows(f, y).sum(), f, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), f)
    torch.testing.assert_close(loss.slope(f, y), slope, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(loss.curvature(f, y), curvature, rtol=1e-9, atol=1e-12)


def test_losses_in_closed_form():
    f = torch.tensor([[[0.5], [-2.0]], [[3.0], [0.0]]], dtype=torch.float64)
    y = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    torch.testing.assert_close(
        LOSSES["mse"](f, y), torch.tensor([(0.25 + 1) / 2, (4 + 1) / 2], dtype=torch.float64)
    )
    expected = [(math.log1p(math.exp(-0.5)) + math.log1p(math.exp(-2))) / 2]
    expected += [(math.log1p(math.exp(-3.0)) + math.log(2.0)) / 2]
    torch.testing.assert_close(
        LOSSES["binary_cross_entropy"](f, y), torch.tensor(expected, dtype=torch.float64)
    )
    torch.testing.assert_close(
        LOSSES["binary_cross_entropy"](f[0], y),
        F.binary_cross_entropy_with_logits(f[0], (y + 1) / 2),
    )


def test_mse_sums_over_outputs_and_averages_over_samples():
    f, y = torch.ones(4, 5, 3), torch.zeros(5, 3)
    torch.testing.assert_close(LOSSES["mse"](f, y), torch.full((4,), 3.0))


def test_binary_cross_entropy_of_a_huge_logit_is_finite():
    f, y = torch.tensor([[-1e5], [1e5]]), torch.ones(2, 1)
    loss = LOSSES["binary_cross_entropy"]
    torch.testing.assert_close(loss(f, y), torch.tensor(5e4))
    assert loss.slope(f, y).flatten().tolist() == [-1.0, 0.0]
    assert loss.curvature(f, y).flatten().tolist() == [0.0, 0.0]


# --- initialisation


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn(scheme, inputs, outputs, seed=0):
    """One layer's weights."""
    weight = Weight("weight", (inputs, outputs), inputs, outputs)
    return draw_weights({"kind": scheme}, [weight], {}, generator(seed))["weight"]


def test_default_initialisation_is_that_of_torch():
    weight = drawn("default", 400, 300)
    assert weight.dtype == torch.float64
    bound = 1 / math.sqrt(400)
    assert float(weight.abs().max()) <= bound
    assert float(weight.abs().max()) > 0.999 * bound
    layer = nn.Linear(400, 300)
    assert float(weight.std()) == pytest.approx(float(layer.weight.detach().std()), rel=0.02)
    assert float(weight.std()) == pytest.approx(bound / math.sqrt(3), rel=0.01)


@pytest.mark.parametrize(("scheme", "variance"), [("kaiming", 2 / 400), ("xavier", 2 / 700)])
def test_normal_initialisations(scheme, variance):
    weight = drawn(scheme, 400, 300)
    assert float(weight.var()) == pytest.approx(variance, rel=0.02)
    assert abs(float(weight.mean())) < 4 * math.sqrt(variance / weight.numel())
    kurtosis = float((weight**4).mean() / weight.var() ** 2)
    assert kurtosis == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("scheme", ["default", "kaiming", "xavier"])
def test_a_scale_multiplies_every_weight_and_offset(scheme):
    weights = [Weight("weight", (3, 4), 3, 4), Weight("bias", (4,), 3, 4, bias=True)]
    plain = draw_weights({"kind": scheme}, weights, {}, generator())
    scaled = draw_weights({"kind": scheme, "scale": 0.2}, weights, {}, generator())
    for name, tensor in plain.items():
        torch.testing.assert_close(scaled[name], 0.2 * tensor)


def test_initial_weights_depend_on_the_generator_only():
    one = drawn("default", 3, 4, seed=5)
    assert torch.equal(one, drawn("default", 3, 4, seed=5))
    assert not torch.equal(one, drawn("default", 3, 4, seed=6))


# --- dense networks


def dense(data, **options):
    """A dense network of width 6 for a dataset."""
    setting = Setting(6, data["inputs"].shape[1:], data["targets"].shape[1])
    return build(part("models", "mlp", **options), setting)


MODULES = {
    "linear": nn.Identity,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "swish": nn.SiLU,
    "gelu": nn.GELU,
}


def torch_network(model, parameters, run, inputs):
    """The same network built of torch.nn modules."""
    layers = []
    for index in range(model.hidden_layers + 1):
        weight = parameters[f"weight{index}"][run]
        linear = nn.Linear(*weight.shape, bias=model.bias, dtype=torch.float64)
        linear.weight.data = weight.T.clone()
        if model.bias:
            linear.bias.data = parameters[f"bias{index}"][run].clone()
        layers += [linear, MODULES[model.activation]()]
    return nn.Sequential(*layers[:-1])(inputs)


@pytest.mark.parametrize("activation", MODULES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("depth", [1, 3])
def test_dense_network_equals_torch_modules(make_dataset, activation, bias, depth):
    data = make_dataset(samples=9, dimensions=5)
    model = dense(data, activation=activation, bias=bias, hidden_layers=depth)
    runs = [model.initialise(data, generator(seed)) for seed in range(3)]
    parameters = {name: torch.stack([run[name] for run in runs]) for name in runs[0]}
    outputs = model(parameters, model.data_inputs(data))
    assert outputs.shape == (3, 9, 1)
    for run in range(3):
        expected = torch_network(model, parameters, run, data["inputs"])
        torch.testing.assert_close(outputs[run], expected, rtol=1e-12, atol=1e-13)
    own = torch.stack([data["inputs"] + run for run in range(3)])
    outputs = model(parameters, own)
    expected = torch_network(model, parameters, 2, data["inputs"] + 2)
    torch.testing.assert_close(outputs[2], expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("bias", [False, True])
def test_layers_name_every_parameter_once(make_dataset, bias):
    data = make_dataset()
    model = dense(data, bias=bias)
    parameters = model.initialise(data, generator())
    names = [name for layer in model.layers for name in layer]
    assert len(model.layers) == 3
    assert sorted(names) == sorted(parameters)
    assert all(t.dtype == torch.float64 for t in parameters.values())
    assert parameters["weight0"].shape == (12, 6)
    assert parameters["weight1"].shape == (6, 6)
    assert parameters["weight2"].shape == (6, 1)
    weights, biases = model.dense_stack(parameters)
    assert [w.shape for w in weights] == [(12, 6), (6, 6), (6, 1)]
    assert (biases is not None) == bias


@pytest.mark.parametrize("bias", [False, True])
def test_compressed_draw_is_that_of_the_whole_network(make_dataset, bias):
    """Same stream, same weights: seen = Bᵀ W, ‖W‖² = ‖seen‖² + unseen², the rest untouched."""
    data = make_dataset(samples=8, dimensions=40)
    whole = data | {"basis": torch.eye(40, dtype=torch.float64), "coordinates": data["inputs"]}
    model = dense(data, bias=bias)
    small = model.initialise(data, generator(3))
    large = model.initialise(whole, generator(3))
    torch.testing.assert_close(small["weight0"], data["basis"].T @ large["weight0"])
    torch.testing.assert_close(
        small["weight0"].square().sum() + small["unseen"].square().sum(),
        large["weight0"].square().sum(),
    )
    assert float(large["unseen"]) == pytest.approx(0.0, abs=1e-7)
    assert float(small["unseen"]) > 0.1
    for name in small.keys() - {"weight0", "unseen"}:
        assert torch.equal(small[name], large[name])

    def outputs(parameters, inputs):
        return model({k: v[None] for k, v in parameters.items()}, inputs)

    torch.testing.assert_close(
        outputs(small, data["coordinates"]), outputs(large, data["inputs"]), rtol=0, atol=1e-13
    )


def test_unseen_weights_do_not_reach_the_outputs(make_dataset):
    data = make_dataset()
    model = dense(data)
    parameters = {k: v[None] for k, v in model.initialise(data, generator()).items()}
    before = model(parameters, data["coordinates"])
    after = model(parameters | {"unseen": torch.tensor([[1e6]])}, data["coordinates"])
    assert torch.equal(before, after)
