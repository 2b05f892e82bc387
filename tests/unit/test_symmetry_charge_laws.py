"""Drift, equilibrium and relaxation of charges under SGD and Adam."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from sharpflow.symmetry import (
    Sgd,
    Slots,
    Symmetry,
    SymmetryNoise,
    charge_drift,
    equilibrium_charge,
    noise_balance,
    noise_equilibrium,
    relaxation_steps,
    stationary_gammas,
    sustained_charge,
)

SETTINGS = [
    Sgd(0.1, 4),
    Sgd(0.05, 3, momentum=0.9),
    Sgd(0.1, 4, weight_decay=0.3),
    Sgd(0.02, 2, momentum=0.5, weight_decay=0.1),
]


KINDS = ["rescaling", "squared", "rotation"]


class Squared(nn.Module):
    def forward(self, x):
        return x.relu().square()


def whole(parameter, ndim, axis, units):
    return Slots(parameter, ndim, axis, torch.arange(units)[:, None])


def pair(kind, units=3):
    inner = (whole("0.weight", 2, -2, units),)
    outer = (whole("2.weight", 2, -1, units),)
    if kind == "rotation":
        return Symmetry(kind, outer, inner)
    inner += (whole("0.bias", 1, -1, units),)
    return Symmetry("rescaling", outer, inner, 2 if kind == "squared" else 1)


def setting(kind, units=3, seed=0):
    torch.manual_seed(seed)
    middle = {"rescaling": nn.ReLU(), "squared": Squared(), "rotation": nn.Identity()}[kind]
    first = nn.Linear(4, units, bias=kind != "rotation")
    model = nn.Sequential(first, middle, nn.Linear(units, 5)).double()
    return model, torch.randn(40, 4).double(), torch.randn(40, 5).double()


def measured(model, kind, x, y, loss_fn=mse_loss):
    symmetries = [pair(kind, len(model[0].weight))]
    found = noise_balance(model, loss_fn, x, y, symmetries=symmetries, correction=0)
    return found.symmetries[0]


def values(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def penalised(model, penalty):
    """The mean squared error with a penalty that the symmetry does not keep."""
    hidden = []
    model[1].register_forward_hook(lambda _, __, out: hidden.append(out))

    def loss_fn(outputs, targets):
        extra = {
            "none": lambda: 0.0,
            "weights": lambda: 0.1 * model[0].weight.square().sum(),
            "outer weights": lambda: 0.1 * model[2].weight.abs().sum(),
            "activity": lambda: 0.1 * hidden[-1].abs().mean(),
        }[penalty]
        return mse_loss(outputs, targets) + extra()

    return loss_fn


PENALTIES = ["none", "weights", "outer weights", "activity"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_drift_is_the_mean_step_over_every_sample(kind, decay, penalty):
    model, x, y = setting(kind)
    sgd = Sgd(0.1, 1, weight_decay=decay)
    loss_fn = penalised(model, penalty)
    noise = measured(model, kind, x, y, loss_fn=loss_fn)
    start, symmetry, moves = values(model), noise.symmetry, []
    for one, target in zip(x, y, strict=True):
        model.load_state_dict(start)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=decay)
        loss_fn(model(one[None]), target[None]).backward()
        optimiser.step()
        moves.append(symmetry.charge(values(model)) - symmetry.charge(start))
        model.zero_grad()
    drift = torch.stack(moves).mean(0)
    torch.testing.assert_close(charge_drift(noise, sgd), drift)
    if penalty == "none":
        assert not noise.slope.any()
    else:
        without = replace(noise, slope=0 * noise.slope)
        assert not torch.allclose(charge_drift(without, sgd), drift, rtol=1e-3)
    if decay:  # C that decay would hold against the drift that there is without it
        held = sustained_charge(noise, sgd) - noise.charge
        torch.testing.assert_close(held * sgd.decay * sgd.speed, drift)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("penalty", PENALTIES[1:])
def test_no_equilibrium_is_told_of_a_loss_that_the_symmetry_does_not_keep(kind, penalty):
    model, x, y = setting(kind)
    sgd = Sgd(0.1, 4, weight_decay=1e-3)
    loss_fn = penalised(model, penalty)
    noise = measured(model, kind, x, y, loss_fn=loss_fn)
    for law in (equilibrium_charge, relaxation_steps):
        with pytest.raises(ValueError, match="does not keep the loss, whose slope along it is"):
            law(noise, sgd)
    found = noise_balance(model, loss_fn, x, y, symmetries=[pair(kind)], sgd=sgd)
    (row,) = found.rows()
    assert math.isnan(row["equilibrium"])
    assert math.isnan(row["steps"])
    assert math.isfinite(row["drift"])
    assert "no equilibrium where the loss is not kept, along 0.weight" in str(found)
    kept = noise_balance(model, mse_loss, x, y, symmetries=[pair(kind)], sgd=sgd)
    assert math.isfinite(kept.rows()[0]["steps"])
    assert "kept" not in str(kept)


@pytest.mark.parametrize("kind", ["rescaling", "rotation"])
def test_rounding_is_no_slope(kind):
    model, x, y = setting(kind, units=40)
    noise = measured(model.float(), kind, x.float(), y.float())
    assert not noise.slope.any()


@pytest.mark.parametrize("penalty", ["none", "weights"])
def test_momentum_multiplies_the_drift_of_gradient_descent(penalty):
    """It has no noise: c (1 + β)/(1 − β) M, once the velocity has built up.

    A penalty on a side is of first order, with 1/(1 − β).
    """
    model, x, y = setting("rescaling")
    loss_fn = penalised(model, penalty)
    rate, beta, decay = 1e-4, 0.9, 0.01
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=beta, weight_decay=decay)
    sgd = Sgd(rate, 10**9, momentum=beta, weight_decay=decay)
    expected = torch.zeros(3, dtype=torch.float64)
    for step in range(400):
        if step == 200:
            start = pair("rescaling").charge(values(model))
        if step >= 200:
            expected += charge_drift(measured(model, "rescaling", x, y, loss_fn=loss_fn), sgd)
        optimiser.zero_grad()
        loss_fn(model(x), y).backward()
        optimiser.step()
    moved = pair("rescaling").charge(values(model)) - start
    torch.testing.assert_close(moved, expected, rtol=0.02, atol=0)


def test_momentum_leaves_the_equilibrium_of_noise_and_speeds_it_up():
    noise = SymmetryNoise(
        pair("rescaling"), *torch.rand(4, 3).double(), *torch.zeros(3, 3).double()
    )
    plain, heavy = Sgd(0.1, 4), Sgd(0.1, 4, momentum=0.8)
    torch.testing.assert_close(charge_drift(noise, heavy), 25 * charge_drift(noise, plain))
    torch.testing.assert_close(equilibrium_charge(noise, heavy), equilibrium_charge(noise, plain))
    torch.testing.assert_close(relaxation_steps(noise, heavy) * 25, relaxation_steps(noise, plain))


def settle(model, kind, x, y, sgd):
    """Move along the orbit until nothing drifts, by what is measured at each place alone."""
    units = len(model[0].weight)
    for _ in range(400):
        noise = measured(model, kind, x, y)
        drift = charge_drift(noise, sgd) / sgd.speed
        sizes = noise.outer_size + noise.inner_size
        pull = charge_pull(noise, sgd)
        if kind != "rotation":
            a = drift / (2 * pull)
        else:
            values_, vectors = torch.linalg.eigh(pull)
            turned = vectors.T @ drift @ vectors
            a = vectors @ (turned / (values_[:, None] + values_)) @ vectors.T
            a = (a + a.T) / 2
        a = 0.5 * a / max(1.0, float(a.abs().max()) * units)
        model.load_state_dict(noise.symmetry.moved(values(model), a))
        if float(drift.norm()) < 1e-11 * float(sizes.norm()):
            return
    raise AssertionError("did not settle")


def charge_pull(noise, sgd):
    degree = noise.symmetry.degree
    outer = sgd.power(noise.outer, noise.outer_mean) + sgd.decay * noise.outer_size
    return degree * outer + sgd.power(noise.inner, noise.inner_mean) + sgd.decay * noise.inner_size


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sgd", SETTINGS, ids=str)
def test_the_equilibrium_is_where_nothing_drifts(kind, sgd):
    model, x, y = setting(kind)
    expected = equilibrium_charge(measured(model, kind, x, y), sgd)
    times = relaxation_steps(measured(model, kind, x, y), sgd)
    settle(model, kind, x, y, sgd)
    there = measured(model, kind, x, y)
    if kind != "rotation":
        torch.testing.assert_close(there.charge, expected, rtol=1e-6, atol=1e-8)
    else:
        found, wanted = (torch.linalg.eigvalsh(c) for c in (there.charge, expected))
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(relaxation_steps(there, sgd), times, rtol=1e-5, atol=0)
    if sgd.weight_decay:
        torch.testing.assert_close(sustained_charge(there, sgd), there.charge, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sgd", SETTINGS, ids=str)
def test_small_distances_shrink_in_the_relaxation_steps(kind, sgd):
    model, x, y = setting(kind, units=2)
    settle(model, kind, x, y, sgd)
    here, start = measured(model, kind, x, y), values(model)
    away = [(0, 0), (1, 1)] + [(0, 1)] * (kind == "rotation")
    charges, drifts = [], []
    for i, j in away:
        a = torch.zeros(2, 2).double()
        a[i, j] = a[j, i] = 1e-5
        model.load_state_dict(here.symmetry.moved(start, a if kind == "rotation" else a.diagonal()))
        there = measured(model, kind, x, y)
        pick = (lambda t: t[[0, 1, 0], [0, 1, 1]]) if kind == "rotation" else (lambda t: t)
        charges.append(pick(there.charge - here.charge))
        drifts.append(pick(charge_drift(there, sgd)))
    rates = torch.linalg.eigvals(torch.linalg.solve(torch.stack(charges), torch.stack(drifts)))
    found = (-1 / rates.real).sort().values
    expected = relaxation_steps(here, sgd).sort().values
    for time in expected:  # of a rotation, two of the three
        assert float((found / time - 1).abs().min()) < 1e-3
    assert float(found.max() / expected.max() - 1) < 1e-3
    assert float(found.min() / expected.min() - 1) > -1e-3


def test_the_rotation_of_two_linear_layers_settles_at_the_closed_form():
    torch.manual_seed(2)
    teacher = torch.randn(3, 3).double()
    sigma_x = torch.diag(torch.tensor([0.5, 1.0, 2.0])).double()
    sigma_noise = torch.diag(torch.tensor([1.5, 1.0, 0.3])).double()
    gamma_u, gamma_w = stationary_gammas(sigma_x, sigma_noise)
    u, w = (
        torch.linalg.qr(torch.randn(3, 3).double())[0]
        @ torch.diag(torch.tensor([3.0, 1, 0.5]).double()),
        None,
    )
    w = torch.linalg.solve(u, teacher)
    noise = SymmetryNoise(
        pair("rotation"),
        u.T @ u,
        w @ w.T,
        4 * w @ gamma_w @ w.T,
        4 * u.T @ gamma_u @ u,
        *torch.zeros(3, 3, 3).double(),
    )
    u, w = noise_equilibrium(teacher, gamma_u, gamma_w)
    expected = torch.linalg.eigvalsh(u.T @ u - w @ w.T)
    found = torch.linalg.eigvalsh(equilibrium_charge(noise, Sgd(0.1, 4)))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_a_scale_grows_without_decay_and_settles_with_it():
    sphere = Symmetry("scale", (whole("w", 2, -2, 2),))
    zero = torch.zeros(2).double()
    size, power = torch.tensor([2.0, 3.0]).double(), torch.tensor([0.5, 0.1]).double()
    noise = SymmetryNoise(sphere, size, zero, power, zero, zero, zero, zero)
    assert equilibrium_charge(noise, Sgd(0.1, 4)).tolist() == [math.inf, math.inf]
    assert relaxation_steps(noise, Sgd(0.1, 4)).tolist() == [math.inf, math.inf]
    sgd = Sgd(0.1, 4, weight_decay=1e-6)
    expected = (0.1 * size * power / 4 / (2 * 1e-6)).sqrt()
    torch.testing.assert_close(equilibrium_charge(noise, sgd), expected, rtol=1e-6, atol=0)
    times = torch.full((2,), 1 / (4 * 0.1 * 1e-6)).double()
    torch.testing.assert_close(relaxation_steps(noise, sgd), times, rtol=1e-6, atol=0)
    assert noise.imbalance == 1.0


@pytest.mark.parametrize("kind", ["rescaling", "squared"])
def test_units_that_no_noise_moves_have_no_equilibrium(kind):
    units = torch.tensor([0.0, 0.0, 1.0, 1.0]).double()
    noise = SymmetryNoise(
        pair(kind, 4),
        torch.tensor([1.0, 1.0, 0.0, 1.0]).double(),  # |O|²
        torch.tensor([1.0, 1.0, 1.0, 1.0]).double(),
        torch.tensor([0.0, 0.0, 1.0, 1.0]).double(),  # G_O
        torch.tensor([0.0, 1.0, 0.0, 0.0]).double(),
        *(0 * units for _ in range(3)),
    )
    charges = equilibrium_charge(noise, Sgd(0.1, 1)).tolist()
    assert math.isnan(charges[0])
    assert charges[1:] == [-math.inf, 0.0, math.inf]
    assert relaxation_steps(noise, Sgd(0.1, 1)).tolist() == [math.inf] * 4
    silent = SymmetryNoise(pair("rescaling", 4), *(0 * units for _ in range(7)))
    assert math.isnan(silent.imbalance)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"batch_size": 0}, "batch_size"),
        ({"momentum": 1.0}, "momentum"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"weight_decay": 25.0}, "above which nothing decays"),
        ({"weight_decay": 0.11, "momentum": 0.9}, "above which"),
    ],
)
def test_numbers_out_of_range_are_named(numbers, words):
    given = {"learning_rate": 0.1, "batch_size": 4} | numbers
    with pytest.raises(ValueError, match=words):
        Sgd(**given)


def test_no_decay_sustains_no_charge():
    model, x, y = setting("rescaling")
    with pytest.raises(ValueError, match="without decay"):
        sustained_charge(measured(model, "rescaling", x, y), Sgd(0.1, 4))


class Again(nn.Module):
    """A layer that is applied twice, so that its weights are on both sides."""

    def __init__(self):
        super().__init__()
        self.first, self.layer, self.last = (
            nn.Linear(a, b, bias=False) for a, b in ((4, 3), (3, 3), (3, 2))
        )

    def forward(self, x):
        hidden = self.first(x).relu()
        return self.last(self.layer(self.layer(hidden).relu()).relu())


def test_units_that_move_each_other_s_charges_are_told_no_equilibrium_of_their_own():
    """The drift is that of the step itself; where it ends is not known at one point."""
    torch.manual_seed(0)
    model, x = Again().double(), torch.randn(40, 4).double()
    y, sgd = torch.randn(40, 2).double(), Sgd(0.1, 4, weight_decay=0.05)
    balance = noise_balance(model, mse_loss, x, y, sgd=sgd, correction=0)
    noise, whole_layers = balance.symmetries
    assert noise.symmetry.crossing == "layer.weight"
    assert not whole_layers.symmetry.crossing  # all of the one against all of the other
    for law in (equilibrium_charge, relaxation_steps):
        with pytest.raises(ValueError, match=r"'layer\.weight' has numbers on both sides"):
            law(noise, sgd)
    crossed, other = balance.rows()
    assert math.isnan(crossed["equilibrium"])
    assert math.isnan(crossed["steps"])
    assert math.isfinite(other["equilibrium"])
    assert "none told where units move each other's, along" in balance.title
    assert charge_drift(noise, sgd).isfinite().all()
    assert sustained_charge(noise, sgd).isfinite().all()


def test_numbers_on_both_sides_are_told_from_parts_of_one_parameter():
    rows, columns = whole("w", 2, -2, 3), whole("w", 2, -1, 3)
    below = Slots("w", 2, -2, torch.arange(3, 6)[:, None])
    assert Symmetry("rescaling", (columns,), (rows,)).crossing == "w"
    assert Symmetry("rescaling", (rows,), (rows,)).crossing == "w"
    assert not Symmetry("rescaling", (below,), (rows,)).crossing
    assert not Symmetry("rescaling", (whole("v", 2, -1, 3),), (rows,)).crossing
