"""The convolutional network and its written-out Jacobian against PyTorch's own modules."""

import pytest
import torch
from shards import found, network, one_run, shard, trained
from torch import nn
from torch.nn import functional as F

from sharpflow.curvature import NonFiniteError
from sharpflow.curvature.conv_curvature import ConvCurvature
from sharpflow.curvature.reference import dense_jacobian
from sharpflow.errors import ConfigError
from sharpflow.models.cnn import ConvolutionalNetwork

ACTIVATIONS = {
    "relu": nn.ReLU(),
    "elu": nn.ELU(),
    "tanh": nn.Tanh(),
    "softplus": nn.Softplus(),
    "linear": nn.Identity(),
}


@pytest.fixture
def images():
    """Twenty small images in two classes; more than one block of them."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.ones(20, 1, dtype=torch.float64)
    labels[10:] = -1.0
    inputs = torch.randn(20, 3, 8, 12, dtype=torch.float64, generator=generator)
    return {"inputs": inputs, "targets": labels}


def draw(model, dataset, seed=0):
    return model.initialise(dataset, torch.Generator().manual_seed(seed))


def as_modules(parameters, activation):
    """The stated layers, in the stated order (activation before pooling), in PyTorch's layout."""
    channels = len(parameters["bias0"])

    def convolution(index):
        weight, bias = parameters[f"weight{index}"], parameters[f"bias{index}"]
        module = nn.Conv2d(weight.shape[1], channels, 3, padding=1, dtype=weight.dtype)
        module.weight.data, module.bias.data = weight.clone(), bias.clone()
        return module

    return nn.Sequential(
        convolution(0), activation, nn.MaxPool2d(2), convolution(1), activation, nn.MaxPool2d(2)
    )


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_outputs_are_those_of_the_stated_layers(images, activation):
    model = ConvolutionalNetwork(5, activation)
    runs = [draw(model, images, seed) for seed in range(2)]
    stacked = {name: torch.stack([run[name] for run in runs]) for name in runs[0]}
    outputs = model(stacked, model.data_inputs(images))
    assert outputs.shape == (2, 20, 1)
    for run, parameters in enumerate(runs):
        hidden = as_modules(parameters, ACTIVATIONS[activation])(images["inputs"])
        expected = hidden.permute(0, 2, 3, 1).flatten(1) @ parameters["weight2"]
        torch.testing.assert_close(outputs[run], expected)
    separate = torch.stack([images["inputs"][:4], images["inputs"][4:8]])
    own = model(stacked, separate)
    torch.testing.assert_close(own[0], outputs[0, :4])
    torch.testing.assert_close(own[1], outputs[1, 4:8])


def test_the_stated_network_has_the_stated_size_and_initialisation():
    dataset = {"inputs": torch.zeros(2, 3, 32, 32)}
    parameters = draw(ConvolutionalNetwork(32, "relu"), dataset)
    assert sum(t.numel() for t in parameters.values()) == 12_192
    bounds = {"weight0": 27, "bias0": 27, "weight1": 288, "bias1": 288, "weight2": 2048}
    for name, fan_in in bounds.items():
        assert float(parameters[name].abs().max()) <= fan_in**-0.5
        assert float(parameters[name].abs().max()) >= 0.8 * fan_in**-0.5


def test_sides_that_cannot_be_halved_twice_are_refused():
    with pytest.raises(ConfigError, match="6 × 8"):
        draw(ConvolutionalNetwork(2, "relu"), {"inputs": torch.zeros(2, 3, 6, 8)})


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_the_written_out_jacobian_is_the_jacobian(images, activation):
    model = ConvolutionalNetwork(4, activation)
    parameters = draw(model, images)
    inputs = model.data_inputs(images)
    net = ConvCurvature(*model.convolution_stack(parameters), activation, inputs)

    def outputs_of(chosen):
        return model({name: t[None] for name, t in chosen.items()}, inputs)[0, :, 0]

    torch.testing.assert_close(net.outputs, outputs_of(parameters))
    root = torch.linspace(0.5, 2.0, 20, dtype=torch.float64)
    whole = torch.zeros(20, 20, dtype=torch.float64)
    for index, names in enumerate(model.layers):
        own = {name: parameters[name] for name in names}
        exact = dense_jacobian(lambda p: outputs_of({**parameters, **p}), own)
        if index < 2:
            kernels, biases = exact.split([own[names[0]].numel(), 4], dim=1)
            kernels = kernels.view(20, 4, -1, 3, 3).permute(0, 1, 3, 4, 2).flatten(1)
            exact = torch.cat([kernels, biases], dim=1)
        torch.testing.assert_close(net.jacobians[index], exact)
        part = root[:, None] * exact @ exact.T * root
        torch.testing.assert_close(net.gram_operator(root.square(), [index]).to_dense(), part)
        whole = whole + part
    torch.testing.assert_close(net.gram_operator(root.square()).to_dense(), whole)
    last = net.gram_operator(root.square(), [-1])
    torch.testing.assert_close(last @ root, part @ root)


def test_a_negative_curvature_of_the_loss_is_refused(images):
    model = ConvolutionalNetwork(4, "relu")
    net = ConvCurvature(*model.convolution_stack(draw(model, images)), "relu", images["inputs"])
    with pytest.raises(ValueError, match="loss_curvature"):
        net.gram_operator(-torch.ones(20, dtype=torch.float64))


def test_parameters_that_are_not_finite_are_refused(images):
    model = ConvolutionalNetwork(4, "relu")
    parameters = draw(model, images)
    parameters["bias1"][0] = float("inf")
    with pytest.raises(NonFiniteError):
        ConvCurvature(*model.convolution_stack(parameters), "relu", model.data_inputs(images))


def test_training_is_gradient_descent_and_sharpness_that_of_autograd(images):
    problem = shard(images, {"kind": "cnn", "activation": "elu"}, {"steps": 3}, width=3)
    trajectory, table = trained(problem, gauss_newton={"k": 2, "tol": 1e-8, "output_layer": True})
    outputs = network(problem)
    run = one_run(trajectory.states[0], 1)
    for step in range(4):
        for name, tensor in run.items():
            torch.testing.assert_close(trajectory.states[step][name][1], tensor)
        jacobian = dense_jacobian(outputs, run)
        exact = torch.linalg.eigvalsh(2 / 20 * jacobian @ jacobian.T).flip(0)[:2]
        sharpness = found(table, "gauss_newton_sharpness", 1, step)
        torch.testing.assert_close(sharpness, exact, rtol=1e-6, atol=0)
        last = dense_jacobian(lambda p, run=run: outputs(run | p), {"weight2": run["weight2"]})
        part = torch.linalg.eigvalsh(2 / 20 * last @ last.T)[-1:]
        of_output = found(table, "output_layer_sharpness", 1, step)
        torch.testing.assert_close(of_output, part, rtol=1e-6, atol=0)
        leaves = {name: t.clone().requires_grad_() for name, t in run.items()}
        loss = F.mse_loss(outputs(leaves), images["targets"])
        squared = found(table, "residual_norm_squared", 1, step)
        assert float(squared) == pytest.approx(20 * float(loss.detach()))
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        run = {name: t - 0.05 * g for (name, t), g in zip(run.items(), gradients, strict=True)}
