"""Starts along the orbit of the rescaling symmetry, of dense networks on Gaussian populations."""

import pytest
import torch
from shards import one_run, shard
from specs import part

from sharpflow.data import gaussian, photos
from sharpflow.errors import ConfigError


def population(outputs=3):
    options = {"inputs": 7, "outputs": outputs, "teacher": "rotation", "noise_std": 0.1}
    return gaussian.generate(part("data", "gaussian", **options))[0]


def network(start, width=12, layers=1, dataset=None):
    model = {
        "kind": "mlp",
        "hidden_layers": layers,
        "activation": "relu",
        "initialisation": start,
    }
    return shard(dataset or population(), model, {"batch": 4}, width=width)


def ratios(problem):
    """‖outer‖²/‖inner‖² of every unit of one run."""
    params = one_run(problem.initial_state(), 1)
    return params["weight1"].square().sum(1) / params["weight0"].square().sum(0)


def outputs(problem, inputs):
    return problem.model(problem.parameters(problem.initial_state()), inputs)


def test_a_move_along_the_orbit_leaves_the_function_alone():
    inputs = torch.randn(9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain, moved = network("default"), network({"kind": "moved", "shift": 0.4})
    torch.testing.assert_close(outputs(moved, inputs), outputs(plain, inputs))
    expected = ratios(plain) * torch.tensor(1.6, dtype=torch.float64).exp()
    torch.testing.assert_close(ratios(moved), expected)


@pytest.mark.parametrize("width", [6, 12])
def test_linear_minimum_is_its_teacher(width):
    start = {"kind": "linear_minimum", "shift": -0.7, "apart": 0.2}
    problem, dataset = network(start, width), population()
    inputs = torch.randn(9, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = inputs @ dataset["teacher"].T
    torch.testing.assert_close(outputs(problem, inputs), expected.expand(2, 9, 3))
    first, second = ratios(problem).split(width // 2)
    scale = 4 * torch.tensor([-0.5, -0.9], dtype=torch.float64)
    torch.testing.assert_close(first, scale[0].exp().expand(width // 2))
    torch.testing.assert_close(second, scale[1].exp().expand(width // 2))
    runs = problem.initial_state()["weight0"]
    assert not torch.allclose(runs[0], runs[1])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"width": 7}, "multiple of 6 hidden units, twice the number of outputs; the width is 7"),
        ({"layers": 2}, "one hidden layer without biases, on data.source = gaussian"),
        ({"dataset": "photos"}, "one hidden layer without biases, on data.source = gaussian"),
    ],
)
def test_linear_minimum_is_refused_elsewhere(change, why):
    dataset = population()
    if change.pop("dataset", None):
        options = part("data", "photos", samples=20, pooling=8, draw="fixed")
        dataset = photos.generate(options)[0]
    with pytest.raises(ConfigError, match=why):
        network({"kind": "linear_minimum"}, dataset=dataset, **change).initial_state()


def test_a_dense_network_trains_on_a_population():
    problem = network("default")
    before = problem.initial_state()
    after = problem.advance(before, 0, 60).state
    assert float(problem.full_loss(after, 60).max()) < float(problem.full_loss(before, 0).min())


def test_pooled_photographs_are_means_of_squares():
    def pictures(pooling):
        options = part("data", "photos", samples=20, scaling="unit", draw="fixed", pooling=pooling)
        return photos.generate(options)[0]["inputs"].reshape(20, 3, 32 // pooling, -1)

    means = torch.nn.functional.avg_pool2d(pictures(1), 4)
    assert float((pictures(4) - means).abs().max()) <= 0.5 / 255 + 1e-6
