"""Symmetries that are found from gradients alone, of functions and of modules."""

import torch
from torch import nn

from sharpflow.curvature.graphs import at_parameters
from sharpflow.symmetry import symmetries_of


def found(model, *inputs):
    torch.manual_seed(0)
    doubles = [x.double() if x.is_floating_point() else x for x in inputs]
    return symmetries_of(
        lambda params: at_parameters(model, params, lambda: model(*doubles), torch.float64),
        dict(model.named_parameters()),
    )


def kinds(symmetries):
    return [(each.kind, each.units, each.name) for each in symmetries]


def test_layers_of_rectified_units():
    layers = nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 7), nn.LeakyReLU(), nn.Linear(7, 1)
    assert kinds(found(nn.Sequential(*layers), torch.randn(20, 5))) == [
        ("rescaling", 8, "0.weight, 0.bias → 2.weight"),
        ("rescaling", 7, "2.weight, 2.bias → 4.weight"),
    ]


def test_linear_layers_mix_their_units():
    layers = nn.Linear(5, 8), nn.Linear(8, 7), nn.Linear(7, 3)
    assert kinds(found(nn.Sequential(*layers), torch.randn(20, 5))) == [
        ("rotation", 8, "0.weight, 0.bias → 1.weight"),
        ("rotation", 7, "1.weight, 1.bias → 2.weight"),
    ]


def test_bounded_units_have_none():
    layers = nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 7), nn.Tanh(), nn.Linear(7, 1)
    assert found(nn.Sequential(*layers), torch.randn(20, 5)) == ()
