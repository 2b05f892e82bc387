"""The forward pass that a measurement of a dense network shares with the step that follows."""

import pytest
import torch

from sharpflow.curvature.dense_curvature import DenseCurvature, gauss_newton_matrix
from sharpflow.losses.mse import SquaredError
from sharpflow.models.activations import ACTIVATIONS
from sharpflow.models.input_product import InputProduct
from sharpflow.models.mlp import DenseNetwork

RUNS, SAMPLES, INPUTS, WIDTH = 3, 12, 7, 5


def network(activation="tanh", bias=True):
    return DenseNetwork(WIDTH, 2, activation, bias, compressed=False)


def parameters(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    dataset = {"inputs": torch.zeros(1, INPUTS)}
    own = [model.initialise(dataset, generator) for _ in range(RUNS)]
    return {name: torch.stack([each[name] for each in own]) for name in own[0]}


def samples(seed=1):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(SAMPLES, INPUTS, dtype=torch.float64, generator=generator)
    return InputProduct(inputs), torch.randn(SAMPLES, 1, dtype=torch.float64, generator=generator)


def gradients(model, own, inputs, targets):
    return model.loss_and_gradient(own, inputs, targets, SquaredError())


@pytest.mark.parametrize("activation", ["tanh", "elu", "linear"])
@pytest.mark.parametrize("bias", [False, True])
def test_a_step_with_a_kept_pass_has_the_bytes_of_one_without(activation, bias):
    model, plain = network(activation, bias), network(activation, bias)
    own, (inputs, targets) = parameters(model), samples()
    taken = model.keep_pass(own, inputs)
    assert model.keep_pass(dict(own), inputs) is taken
    torch.testing.assert_close(taken.last, model(own, inputs.matrix))
    kept, fresh = (gradients(each, own, inputs, targets) for each in (model, plain))
    assert torch.equal(kept.losses, fresh.losses)
    for name, gradient in fresh.gradients.items():
        assert torch.equal(kept.gradients[name], gradient), name


def test_a_pass_of_other_parameters_or_samples_is_not_taken_over():
    model = network()
    own, (inputs, targets) = parameters(model), samples()
    model.keep_pass(own, inputs)
    moved = own | {"weight1": own["weight1"] + 1.0}
    others = samples(seed=2)[0]
    for given, product in ((moved, inputs), (own, others)):
        found, expected = (gradients(m, given, product, targets) for m in (model, network()))
        assert torch.equal(found.losses, expected.losses)


def test_curvature_of_a_pass_at_hand_is_that_of_its_own():
    model = network()
    own, (inputs, _) = parameters(model), samples()
    taken = model.keep_pass(own, inputs)
    for run in range(RUNS):
        weights, biases = model.dense_stack({name: t[run] for name, t in own.items()})
        given = inputs.matrix, biases
        alone = DenseCurvature(weights, "tanh", *given)
        shared = DenseCurvature(weights, "tanh", *given, taken=taken.of_run(run))
        torch.testing.assert_close(shared.outputs, alone.outputs)
        torch.testing.assert_close(shared.gram_matrix(), alone.gram_matrix())
        slope = torch.ones_like(alone.outputs)
        vector = torch.ones(alone.size, dtype=torch.float64)
        products = [net.hessian_operator(slope, 2.0).matvec(vector) for net in (shared, alone)]
        torch.testing.assert_close(*products)


def test_a_curvature_that_is_the_same_everywhere_scales_the_matrix():
    gram = torch.eye(4, dtype=torch.float64) + 1.0
    alike, apart = torch.full((4,), 0.3).double(), torch.tensor([0.3, 0.3, 0.3, 0.6]).double()
    torch.testing.assert_close(gauss_newton_matrix(gram, alike), 0.3 * gram)
    scaled = gauss_newton_matrix(gram, apart)
    torch.testing.assert_close(scaled[:3, :3], 0.3 * gram[:3, :3])
    torch.testing.assert_close(scaled[3, 3], 0.6 * gram[3, 3])


def test_the_slope_of_elu_from_its_value_is_its_derivative():
    z = torch.tensor([-30.0, -3.0, -0.1, 0.0, 0.2, 5.0], dtype=torch.float64)
    _, slope = ACTIVATIONS["elu"].value_and_derivative(z)
    torch.testing.assert_close(slope, ACTIVATIONS["elu"].derivative(z), atol=1e-15, rtol=1e-12)
