"""Symmetries as units that two groups of parameters share."""

import pytest
import torch

from sharpflow.symmetry import Slots, Symmetry, matrix_symmetry, noether_charge, rescaling


def whole(parameter, ndim, axis, units, repeat=1):
    return Slots(parameter, ndim, axis, torch.arange(units * repeat).reshape(units, repeat))


def linear_pair(kind="rotation"):
    return Symmetry(kind, (whole("u", 2, -1, 3),), (whole("w", 2, -2, 3), whole("b", 1, -1, 3)))


def parameters(*lead):
    torch.manual_seed(0)
    shapes = {"u": (2, 3), "w": (3, 4), "b": (3,)}
    return {name: torch.randn(*lead, *shape).double() for name, shape in shapes.items()}


def symmetric(size):
    raw = torch.randn(size, size).double()
    return raw + raw.T


def output(p, x, activation=lambda hidden: hidden):
    return activation(x @ p["w"].T + p["b"]) @ p["u"].T


def test_charges_of_a_rotation_are_the_difference_of_the_layers_grams():
    p = parameters()
    expected = p["u"].T @ p["u"] - p["w"] @ p["w"].T - torch.outer(p["b"], p["b"])
    torch.testing.assert_close(linear_pair().charge(p), expected)
    torch.testing.assert_close(linear_pair("rescaling").charge(p), expected.diagonal())


def test_leading_dimensions_are_kept():
    many = parameters(5, 6)
    one = {name: value[2, 3] for name, value in many.items()}
    for kind in ("rotation", "rescaling"):
        symmetry = linear_pair(kind)
        torch.testing.assert_close(symmetry.charge(many)[2, 3], symmetry.charge(one))


def test_the_function_stays_along_the_orbit():
    p, x = parameters(), torch.randn(7, 4).double()
    moved = linear_pair().moved(p, symmetric(3))
    torch.testing.assert_close(output(moved, x), output(p, x))
    assert not torch.allclose(moved["u"], p["u"])
    moved = linear_pair("rescaling").moved(p, torch.randn(3))
    torch.testing.assert_close(output(moved, x, torch.relu), output(p, x, torch.relu))
    assert not torch.allclose(output(moved, x, torch.tanh), output(p, x, torch.tanh))


def test_a_rotations_generator_is_that_of_the_matrix_symmetry():
    p, a = parameters(), symmetric(3)
    pair = Symmetry("rotation", (whole("u", 2, -1, 3),), (whole("w", 2, -2, 3),))
    mine, theirs = pair.generator(a), matrix_symmetry("u", "w", a)
    for name, value in theirs.apply(p).items():
        torch.testing.assert_close(mine.apply(p)[name], value)
    for name, value in theirs.flow(p, 0.3).items():
        torch.testing.assert_close(mine.flow(p, 0.3)[name], value)
    torch.testing.assert_close(noether_charge(p, mine), (a * pair.charge(p)).sum())


def test_equal_numbers_on_all_units_rescale_the_layers():
    p = parameters()
    pair = Symmetry("rescaling", (whole("u", 2, -1, 3),), (whole("w", 2, -2, 3),))
    expected = rescaling("u", "w").apply(p)
    found = pair.generator(torch.ones(3)).apply(p)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_units_of_several_places_keep_a_convolution_that_is_flattened():
    torch.manual_seed(1)
    conv, head = torch.nn.Conv2d(2, 3, 3).double(), torch.nn.Linear(3 * 4, 5).double()
    x = torch.randn(6, 2, 4, 4).double()
    p = {"conv.weight": conv.weight, "conv.bias": conv.bias, "head.weight": head.weight}
    p = {name: value.detach() for name, value in p.items()}

    def run(given):
        hidden = torch.conv2d(x, given["conv.weight"], given["conv.bias"]).relu()
        return hidden.flatten(1) @ given["head.weight"].T

    channels = Symmetry(
        "rescaling",
        (whole("head.weight", 2, -1, 3, 4),),
        (whole("conv.weight", 4, -4, 3), whole("conv.bias", 1, -1, 3)),
    )
    torch.testing.assert_close(run(channels.moved(p, torch.randn(3))), run(p))
    outer = p["head.weight"].reshape(5, 3, 4).square().sum((0, 2))
    inner = p["conv.weight"].square().sum((1, 2, 3)) + p["conv.bias"].square()
    torch.testing.assert_close(channels.charge(p), outer - inner)


def test_one_matrix_may_hold_both_sides():
    """Queries and keys lie in one matrix, two units each, of two heads."""
    torch.manual_seed(2)
    p = {"in": torch.randn(8, 5).double()}
    x = torch.randn(6, 5).double()
    places = torch.arange(8).reshape(4, 2, 1)
    second = Symmetry(
        "rotation", (Slots("in", 2, -2, places[3]),), (Slots("in", 2, -2, places[1]),)
    )

    def scores(given):
        q, k = (x @ given["in"].T).reshape(6, 2, 2, 2).movedim(0, -2)
        return q @ k.mT

    before, after = scores(p), scores(second.moved(p, symmetric(2)))
    torch.testing.assert_close(after, before)
    assert second.name == "in[2:4] → in[6:8]"


def test_a_scale_has_no_inner_side():
    p = parameters()
    rows = Symmetry("scale", (whole("w", 2, -2, 3), whole("b", 1, -1, 3)))
    torch.testing.assert_close(rows.charge(p), p["w"].square().sum(1) + p["b"].square())
    moved = rows.moved(p, torch.tensor([1.0, 0.0, -1.0]).log1p().nan_to_num(neginf=-3.0))
    torch.testing.assert_close(moved["w"][0], 2 * p["w"][0])
    torch.testing.assert_close(moved["u"], p["u"])


def test_what_does_not_fit_is_refused():
    p = parameters()
    with pytest.raises(ValueError, match=r"shape \(3, 3\) for a rotation; got \(3,\)"):
        linear_pair().moved(p, torch.ones(3))
    with pytest.raises(ValueError, match="symmetric"):
        linear_pair().generator(torch.arange(9.0).reshape(3, 3))
