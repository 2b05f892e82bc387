"""The noise balance of a model, against the gradients of every sample in float64."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from sharpflow.curvature import NonFiniteError
from sharpflow.symmetry import Sgd, Slots, Symmetry, noise_balance
from sharpflow.symmetry.noise_moments import NoiseMoments

SAMPLES = 7


def whole(parameter, ndim, axis, units, repeat=1, start=0):
    places = torch.arange(start, start + units * repeat)
    return Slots(parameter, ndim, axis, places.reshape(units, repeat))


def every_axis(model, kind="rotation"):
    """Two sides for each parameter: all of its units along its first and its second axis."""
    found = []
    for name, p in model.named_parameters():
        outer = (whole(name, p.ndim, -p.ndim, len(p)),)
        second = p.shape[1] if p.ndim > 1 else len(p)
        inner = (whole(name, p.ndim, 1 - p.ndim if p.ndim > 1 else -1, second),)
        found += [Symmetry(kind, outer), Symmetry(kind, inner)]
        if p.ndim > 2:
            found.append(Symmetry(kind, (whole(name, p.ndim, -1, p.shape[-1]),)))
        if second % 2 == 0:  # units of two places, and some of them alone
            axis = 1 - p.ndim if p.ndim > 1 else -1
            found.append(Symmetry(kind, (whole(name, p.ndim, axis, second // 2, 2),)))
            found.append(Symmetry(kind, (whole(name, p.ndim, axis, second // 2, 1, 1),)))
    return found


def gradients(model, loss_fn, x, y):
    params = {name: p.detach() for name, p in model.named_parameters()}

    def loss(p, one, target):
        return loss_fn(functional_call(model, p, (one[None],)), target[None])

    return vmap(grad(loss), in_dims=(None, 0, 0))(params, x, y)


def check(found, each, correction):
    """Noise and means of all symmetries are those of the gradients (n, …)."""
    n = len(next(iter(each.values())))
    mean = {name: g.mean(0) for name, g in each.items()}
    rest = {name: g - mean[name] for name, g in each.items()}
    for noise in found.symmetries:
        for side, whole_side in enumerate(noise.symmetry.grams(rest)):
            cov = whole_side.sum(0) / (n - correction)
            got = (noise.outer, noise.inner)[side]
            torch.testing.assert_close(got, cov, rtol=1e-9, atol=1e-12 * float(cov.abs().max()))
            expected = noise.symmetry.grams(mean)[side] - correction * cov / n
            got = (noise.outer_mean, noise.inner_mean)[side]
            size = float(expected.abs().max() + cov.abs().max())
            torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-11 * size)


class Attention(nn.Module):
    def __init__(self, batch_first=True):
        super().__init__()
        self.inner = nn.MultiheadAttention(6, 2, batch_first=batch_first)
        self.read = nn.Linear(6, 3)

    def forward(self, x):
        seen = self.inner(x, x, x, need_weights=False)[0]
        return self.read(seen).mean(1)


class PositionsFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 4, bias=False), nn.Linear(4, 3)

    def forward(self, x):
        hidden = self.one(x.transpose(0, 1)).relu()  # (T, n, 4)
        return self.two(hidden * hidden.mean(0)).mean(0)


class Odd(nn.Module):
    """Tied, sliced, multiplied: what is read once, twice, and not at all."""

    def __init__(self):
        super().__init__()
        self.tied = nn.Linear(6, 6)
        self.factor = nn.Parameter(torch.rand(6))
        self.raw = nn.Parameter(torch.randn(6, 3))
        self.unused = nn.Parameter(torch.randn(3))

    def forward(self, x):
        hidden = self.tied(self.tied(x).relu()).relu() * self.factor
        return (hidden @ self.raw).mean(1) + self.raw[:2].sum() + 0 * self.unused


def convolutions():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.Conv2d(4, 4, (1, 2), dilation=2, groups=2),
        nn.BatchNorm2d(4).eval(),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 3),
    )


MODELS = {
    "dense": lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3, bias=False)),
    "sequence": lambda: nn.Sequential(
        nn.Linear(6, 20),
        nn.LayerNorm(20),
        nn.ReLU(),
        nn.Linear(20, 3),
        nn.Flatten(),
        nn.Linear(15, 3),
    ),
    "attention": Attention,
    "positions first": PositionsFirst,
    "convolutions": convolutions,
    "signals": lambda: nn.Sequential(
        nn.Conv1d(5, 4, 3, 2, 1), nn.Tanh(), nn.Flatten(), nn.Linear(12, 3)
    ),
    "odd": Odd,
}
SHAPES = {"dense": (6,), "convolutions": (2, 8, 8)}


def setting(name):
    torch.manual_seed(1)
    model = MODELS[name]().double()
    x = torch.randn(SAMPLES, *SHAPES.get(name, (5, 6))).double()
    return model, x, torch.randint(3, (SAMPLES,))


@pytest.mark.parametrize("kind", ["rescaling", "rotation"])
@pytest.mark.parametrize("name", MODELS)
def test_moments_are_those_of_the_gradients_of_each_sample(name, kind):
    model, x, y = setting(name)
    symmetries = every_axis(model, kind)
    each = gradients(model, F.cross_entropy, x, y)
    for correction, micro_batch in ((1, None), (0, 3)):
        found = noise_balance(
            model,
            F.cross_entropy,
            x,
            y,
            symmetries=symmetries,
            correction=correction,
            micro_batch=micro_batch,
        )
        assert found.draws == SAMPLES
        check(found, each, correction)


READ = {"odd": {"factor", "raw", "unused"}}
"""Parameters whose gradients are computed one by one."""


@pytest.mark.parametrize("name", MODELS)
def test_only_what_has_no_form_is_computed_one_by_one(name, monkeypatch):
    seen = set()
    once = NoiseMoments._alone

    def noted(self, batch, count, names):
        seen.update(names)
        return once(self, batch, count, names)

    monkeypatch.setattr(NoiseMoments, "_alone", noted)
    model, x, y = setting(name)
    noise_balance(model, F.cross_entropy, x, y, symmetries=every_axis(model))
    assert seen == READ.get(name, set())


def test_float32_agrees_to_two_millionths():
    model, x, y = setting("attention")
    symmetries = every_axis(model)
    exact = noise_balance(model, F.cross_entropy, x, y, symmetries=symmetries)
    found = noise_balance(model.float(), F.cross_entropy, x.float(), y, symmetries=symmetries)
    double = noise_balance(
        model, F.cross_entropy, x.float(), y, symmetries=symmetries, dtype=torch.float64
    )
    pairs = zip(exact.symmetries, found.symmetries, double.symmetries, strict=True)
    for one, other, cast in pairs:
        size = float(one.outer.norm())
        assert float((one.outer - other.outer).norm()) <= 2e-6 * size
        assert float((one.outer - cast.outer).norm()) <= 1e-6 * size  # rounding of the parameters
