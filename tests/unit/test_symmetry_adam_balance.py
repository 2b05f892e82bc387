"""Adam's balance, from its state: against single steps of every sample."""

import math

import matplotlib as mpl
import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from sharpflow.figures.balance import balance_figure
from sharpflow.symmetry import Slots, Symmetry, adam_balance, noise_balance

RATE, BETA2 = 0.01, 0.5


def whole(parameter, ndim, axis, units):
    return Slots(parameter, ndim, axis, torch.arange(units)[:, None])


SIDES = (whole("2.weight", 2, -1, 3),), (whole("0.weight", 2, -2, 3), whole("0.bias", 1, -1, 3))
UNITS = Symmetry("rescaling", *SIDES)


def setting():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 5)).double()
    return model, torch.randn(30, 4).double(), torch.randn(30, 5).double()


def sample_gradients(model, x, y):
    found = []
    for one, target in zip(x, y, strict=True):
        loss = mse_loss(model(one[None]), target[None])
        found.append(torch.autograd.grad(loss, list(model.parameters())))
    return list(map(torch.stack, zip(*found, strict=True)))


def prepared(kind, model, gradients, groups=None, **options):
    """An optimiser without momentum whose v̂ is the mean of the samples' squared gradients."""
    optimiser = kind(groups or model.parameters(), lr=RATE, betas=(0.0, BETA2), **options)
    for parameter, each in zip(model.parameters(), gradients, strict=True):
        square = each.square().mean(0)
        state = {"step": torch.tensor(2.0), "exp_avg": torch.zeros_like(parameter)}
        state["exp_avg_sq"] = square * (1 - BETA2**2)
        state["max_exp_avg_sq"] = 4 * state["exp_avg_sq"]
        optimiser.state[parameter] = state
    return optimiser


def moved(model, gradients, optimiser, coupled=False):
    """Mean change of Σ q D θ²/η, by unit, over a step with each sample's gradient at the same D."""
    groups = {id(p): g for g in optimiser.param_groups for p in g["params"]}
    before, after = {}, {}
    for (name, p), each in zip(model.named_parameters(), gradients, strict=True):
        group, state = groups[id(p)], optimiser.state[p]
        key = "max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"
        divisor = (state[key] / (1 - BETA2**2)).sqrt() + group["eps"]
        rate, decay = group["lr"], group["weight_decay"]
        step = each + decay * p if coupled else each
        there = p - rate * step / divisor - (0 if coupled else rate * decay * p)
        before[name] = (divisor / rate * p.square()).detach()
        after[name] = (divisor / rate * there.square()).mean(0).detach()

    def sums(values):
        outer, inner = (sum(s.rows(values[s.parameter]).sum(-1) for s in side) for side in SIDES)
        return outer - inner

    return sums(after) - sums(before)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (torch.optim.Adam, {}),
        (torch.optim.Adam, {"eps": 0.1}),
        (torch.optim.Adam, {"amsgrad": True}),
        (torch.optim.AdamW, {"weight_decay": 1e-5, "eps": 1e-3}),
        (torch.optim.Adam, {"weight_decay": 1e-5}),
        (torch.optim.AdamW, {"weight_decay": 1e-5, "foreach": True}),
        (torch.optim.AdamW, {"weight_decay": 1e-5, "capturable": True}),
    ],
)
def test_the_drift_is_the_mean_step_over_every_sample(kind, options):
    model, x, y = setting()
    gradients = sample_gradients(model, x, y)
    optimiser = prepared(kind, model, gradients, **options)
    found = adam_balance(model, optimiser, symmetries=[UNITS])
    assert found.steps == 2
    (noise,) = found.symmetries
    coupled = kind is torch.optim.Adam and "weight_decay" in options
    expected = RATE * moved(model, gradients, optimiser, coupled)
    torch.testing.assert_close(noise.drift, expected, rtol=2e-4, atol=0)


def test_groups_have_their_own_rates_and_decays():
    model, x, y = setting()
    gradients = sample_gradients(model, x, y)
    groups = [
        {"params": model[0].weight, "lr": 0.03, "weight_decay": 1e-5},
        {"params": model[0].bias, "weight_decay": 0.0},
        {"params": model[2].parameters(), "weight_decay": 3e-5},
    ]
    optimiser = prepared(torch.optim.AdamW, model, gradients, groups)
    (noise,) = adam_balance(model, optimiser, symmetries=[UNITS]).symmetries
    assert (noise.learning_rate, noise.weight_decay) == (0.03, 3e-5)
    expected = 0.03 * moved(model, gradients, optimiser)
    torch.testing.assert_close(noise.drift, expected, rtol=2e-4, atol=0)
    held = noise.sustained
    torch.testing.assert_close(held, 0.03 / (2 * 3e-5) * (noise.outer - noise.inner))


def test_the_roots_are_the_l1_norms_of_the_noise():
    model, x, y = setting()
    gradients = sample_gradients(model, x, y)
    roots = [each.square().mean(0).sqrt() for each in gradients]
    optimiser = prepared(torch.optim.Adam, model, gradients, eps=0.0)
    (noise,) = adam_balance(model, optimiser, symmetries=[UNITS]).symmetries
    torch.testing.assert_close(noise.outer, roots[2].sum(0))
    torch.testing.assert_close(noise.inner, roots[0].sum(1) + roots[1])
    values = dict(model.named_parameters())
    sizes = [root * p.detach().square() for root, p in zip(roots, values.values(), strict=True)]
    torch.testing.assert_close(noise.charge, sizes[2].sum(0) - sizes[0].sum(1) - sizes[1])
    difference = float((noise.outer - noise.inner).norm())
    assert noise.imbalance == pytest.approx(
        difference / float(noise.outer.norm() + noise.inner.norm())
    )
    assert noise.sustained.isnan().all()


def test_the_symmetries_of_the_model_are_found_and_a_rotation_has_a_diagonal():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 5))
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.randn(6, 4)).square().mean().backward()
    optimiser.step()
    found = adam_balance(model, optimiser)
    (noise,) = found.symmetries
    assert noise.outer.shape == (3,)
    row = found.frame().iloc[0]
    assert row["kind"] == "rotation, diagonal"
    assert row["root_out"] == pytest.approx(float(noise.outer.sum()))
    assert "after 1 steps" in str(found)


def test_a_scale_has_one_side():
    model, x, y = setting()
    gradients = sample_gradients(model, x, y)
    optimiser = prepared(torch.optim.AdamW, model, gradients, weight_decay=0.1)
    sphere = Symmetry("scale", (whole("0.weight", 2, -2, 3),))
    (noise,) = adam_balance(model, optimiser, symmetries=[sphere]).symmetries
    assert not noise.inner.any()
    assert (noise.sustained > 0).all()


def stepped(kind, **options):
    model, x, y = setting()
    return model, prepared(kind, model, sample_gradients(model, x, y), **options)


def test_mistakes_are_told_in_a_sentence():
    model, optimiser = stepped(torch.optim.Adam)
    cases = [
        (model, torch.optim.SGD(model.parameters(), lr=0.1), "is SGD.*noise_balance"),
        (model, torch.optim.RMSprop(model.parameters()), "is RMSprop"),
        (model, torch.optim.AdamW(model.parameters()), "no state of '0.weight' yet"),
        (setting()[0], optimiser, "does not hold the parameter '0.weight'"),
        (*stepped(torch.optim.Adam, maximize=True), "maximises for '0.weight'"),
        (nn.Linear(2, 2), optimiser, "'0.weight', which is no parameter"),
    ]
    for net, wrong, words in cases:
        with pytest.raises(ValueError, match=words) as told:
            adam_balance(net, wrong, symmetries=[UNITS])
        assert "\n" not in str(told.value)
    with pytest.raises(ValueError, match="symmetries is empty"):
        adam_balance(model, optimiser, symmetries=[])
    optimiser.param_groups[0]["lr"] = 0.0
    with pytest.raises(ValueError, match="learning rate 0"):
        adam_balance(model, optimiser, symmetries=[UNITS])
    tanh = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 5))
    with pytest.raises(ValueError, match=r"came closest: rescaling of 3 units.*tanh"):
        adam_balance(tanh, torch.optim.Adam(tanh.parameters()))


def test_the_figure_has_a_point_a_unit_and_leaves_the_settings_of_matplotlib_alone(tmp_path):
    model, x, y = setting()
    gradients = sample_gradients(model, x, y)
    before = dict(mpl.rcParams)
    noise = noise_balance(model, mse_loss, x, y)
    adam = adam_balance(model, prepared(torch.optim.Adam, model, gradients))
    for balance, word in ((noise, "gradient noise"), (adam, "Σ√v̂")):
        figure = balance_figure(balance)
        (axes,) = figure.axes
        points = axes.lines[0].get_xydata()
        (each,) = balance.symmetries
        kept = (each.outer > 0) & (each.inner > 0)
        expected = torch.stack([each.inner[kept], each.outer[kept]], 1)
        torch.testing.assert_close(torch.as_tensor(points), expected)
        assert word in axes.get_xlabel()
        figure.savefig(tmp_path / "balance.png")
        assert (tmp_path / "balance.png").stat().st_size > 1000
    assert dict(mpl.rcParams) == before
    sphere = Symmetry("scale", (whole("0.weight", 2, -2, 3),))
    alone = noise_balance(model, mse_loss, x, y, symmetries=[sphere])
    with pytest.raises(ValueError, match="nothing to draw"):
        balance_figure(alone)
    both = balance_figure(noise_balance(model, mse_loss, x, y, symmetries=[sphere, UNITS]))
    assert any("3 units without" in text.get_text() for text in both.axes[0].texts)
    assert math.isclose(noise.symmetries[0].imbalance, noise.frame()["imbalance"][0])
