"""The noise balance of a model, against the gradients of every sample in float64."""

import math

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from sharpflow.curvature import NonFiniteError
from sharpflow.symmetry import Sgd, Slots, Symmetry, charge_drift, noise_balance
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


def close(one, other):
    for a, b in zip(one.symmetries, other.symmetries, strict=True):
        assert a.symmetry.name == b.symmetry.name
        for name in ("outer", "inner", "outer_mean", "inner_mean", "charge"):
            torch.testing.assert_close(getattr(a, name), getattr(b, name))


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


@pytest.mark.parametrize("name", ["convolutions", "sequence", "odd"])
def test_samples_are_taken_a_few_at_a_time(name, monkeypatch):
    model, x, y = setting(name)
    symmetries = every_axis(model)
    expected = noise_balance(model, F.cross_entropy, x, y, symmetries=symmetries)
    monkeypatch.setattr("sharpflow.symmetry.single_samples._HELD", 60)
    monkeypatch.setattr("sharpflow.symmetry.noise_moments._HELD", 60)
    close(noise_balance(model, F.cross_entropy, x, y, symmetries=symmetries), expected)


READ = {"odd": {"factor", "raw", "unused"}}
"""Parameters whose gradients are computed one by one."""


@pytest.mark.parametrize("name", MODELS)
def test_only_what_has_no_form_is_computed_one_by_one(name, monkeypatch):
    seen = set()
    once = NoiseMoments._alone

    def noted(self, batch, own, rows, names):
        seen.update(names)
        return once(self, batch, own, rows, names)

    monkeypatch.setattr(NoiseMoments, "_alone", noted)
    model, x, y = setting(name)
    noise_balance(model, F.cross_entropy, x, y, symmetries=every_axis(model))
    assert seen == READ.get(name, set())


class Stubborn(nn.Module):
    """Nothing that `vmap` could map: it reads a number out of its inputs."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x) * (1.0 if x.sum().item() < math.inf else 0.0)


def test_what_cannot_be_mapped_is_done_in_a_loop():
    model, x, y = setting("odd")
    stubborn = Stubborn(model)
    found = noise_balance(stubborn, F.cross_entropy, x, y, symmetries=every_axis(stubborn))
    expected = noise_balance(model, F.cross_entropy, x, y, symmetries=every_axis(model))
    for one, other in zip(found.symmetries, expected.symmetries, strict=True):
        torch.testing.assert_close(one.outer, other.outer)
        torch.testing.assert_close(one.outer_mean, other.outer_mean)


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


class Squared(nn.Module):
    def forward(self, x):
        return x.relu().square()


def channels(power):
    return nn.Sequential(
        nn.Conv2d(2, 8, 3),
        power,
        nn.Conv2d(8, 12, 3, groups=4),
        power,
        nn.Conv2d(12, 12, 3, groups=12),
        nn.ReLU(),
        nn.ConvTranspose2d(12, 4, 2, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(36, 3),
    ).double()


@pytest.mark.parametrize(("power", "degree"), [(nn.ReLU(), 1), (Squared(), 2)])
def test_grouped_channels_have_the_noise_of_each_sample(power, degree):
    torch.manual_seed(2)
    model, x, y = channels(power), torch.randn(9, 2, 8, 8).double(), torch.randint(3, (9,))
    found = noise_balance(model, F.cross_entropy, x, y)
    assert [s.symmetry.units for s in found.symmetries] == [8, 12, 12, 4]
    assert [s.symmetry.degree for s in found.symmetries] == [degree, degree, 1, 1]
    check(found, gradients(model, F.cross_entropy, x, y), 1)
    for noise in found.symmetries:  # <g, Qθ> = 0, and C = θᵀQθ
        sides = noise.symmetry.grams({n: p.detach() for n, p in model.named_parameters()})
        torch.testing.assert_close(noise.charge, sides[0] - sides[1])
    drift = charge_drift(found.symmetries[0], Sgd(0.1, 1))
    each = gradients(model, F.cross_entropy, x, y)
    inner = each["0.weight"].square().sum((2, 3, 4)) + each["0.bias"].square()
    grouped = each["2.weight"].unflatten(1, (4, 3)).square().sum((2, 4, 5)).flatten(1)
    torch.testing.assert_close(drift, 0.01 * (degree * grouped - inner).mean(0))


def pair(outer="2.weight", inner="0.weight", bias=None, units=5, kind="rescaling"):
    sides = (whole(inner, 2, -2, units),) + ((whole(bias, 1, -1, units),) if bias else ())
    return Symmetry(kind, (whole(outer, 2, -1, units),), sides)


def test_every_form_of_the_data_gives_the_same():
    model, x, y = setting("dense")
    expected = noise_balance(model, F.cross_entropy, x, y)
    assert [each.symmetry.kind for each in expected.symmetries] == ["rescaling"]
    pairs = TensorDataset(x, y)
    loader = DataLoader(pairs, batch_size=3, shuffle=True)
    forms = [
        ((F.cross_entropy, loader), {}),
        ((nn.CrossEntropyLoss(), iter([(x[:4], y[:4]), (x[4:], y[4:])])), {}),
        ((lambda m, b: F.cross_entropy(m(b["x"]), b["y"]), [{"x": x, "y": y}]), {}),
        (
            (lambda out, b: F.cross_entropy(out, b["y"]), [{"x": x, "y": y}]),
            {"forward": lambda m, b: m(b["x"])},
        ),
        ((F.cross_entropy, (x,), y), {}),
    ]
    for arguments, options in forms:
        close(noise_balance(model, *arguments, **options), expected)


def test_nothing_of_the_model_is_changed():
    model, x, y = setting("convolutions")
    state = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    before = torch.get_rng_state()
    loader = DataLoader(TensorDataset(x, y), batch_size=3, shuffle=True)
    first = noise_balance(model, F.cross_entropy, loader)
    close(first, noise_balance(model, F.cross_entropy, loader))
    assert torch.equal(torch.get_rng_state(), before)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name])
    assert all(p.grad is None for p in model.parameters())


def test_an_error_gives_the_random_state_back_at_once():
    model, x, y = setting("dense")
    loader = DataLoader(TensorDataset(x, y), batch_size=2, shuffle=True)
    torch.manual_seed(4)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="mean over samples") as told:  # its frames live on
        noise_balance(model, nn.CrossEntropyLoss(reduction="sum"), loader, symmetries=[pair()])
    assert torch.equal(torch.get_rng_state(), before)
    assert told.value


class Checkpointed(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return checkpoint(self.inner, x, use_reentrant=False)


def test_what_stands_around_the_call_does_not_matter():
    model, x, y = setting("dense")
    expected = noise_balance(model, F.cross_entropy, x, y, symmetries=[pair(bias="0.bias")])
    for mode in (torch.inference_mode, torch.no_grad):
        with mode():
            close(noise_balance(model, F.cross_entropy, x.clone(), y), expected)
    close(noise_balance(torch.compile(model), F.cross_entropy, x, y), expected)
    inner = pair("inner.2.weight", "inner.0.weight", "inner.0.bias")
    again = noise_balance(Checkpointed(model), F.cross_entropy, x, y, symmetries=[inner])
    torch.testing.assert_close(again.symmetries[0].outer, expected.symmetries[0].outer)
    torch.testing.assert_close(again.symmetries[0].inner, expected.symmetries[0].inner)


class Normed(nn.Module):
    def __init__(self, training=True):
        super().__init__()
        self.one, self.norm, self.two = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)
        self.train(training)

    def forward(self, x):
        return self.two(self.norm(self.one(x)).relu())


def normed():
    torch.manual_seed(3)
    model = Normed().double()
    model.norm.weight.data = torch.rand(5).double() + 0.5
    symmetry = Symmetry(
        "rescaling",
        (whole("two.weight", 2, -1, 5),),
        (whole("norm.weight", 1, -1, 5), whole("norm.bias", 1, -1, 5)),
    )
    return model, symmetry, torch.randn(24, 6).double(), torch.randint(3, (24,))


def test_batch_norm_has_the_noise_of_whole_batches():
    model, symmetry, x, y = normed()
    batches = [(x[i : i + 4], y[i : i + 4]) for i in range(0, 24, 4)]
    found = noise_balance(model, F.cross_entropy, iter(batches), symmetries=[symmetry])
    assert (found.draws, found.batch_size) == (6, 4)
    slopes = []
    for inputs, targets in batches:
        loss = F.cross_entropy(model(inputs), targets)
        slopes.append(torch.autograd.grad(loss, list(model.parameters())))
    names = [name for name, _ in model.named_parameters()]
    each = dict(zip(names, map(torch.stack, zip(*slopes, strict=True)), strict=True))
    mean = {name: g.mean(0) for name, g in each.items()}
    rest = {name: g - mean[name] for name, g in each.items()}
    (noise,) = found.symmetries
    for side in (0, 1):
        cov = symmetry.grams(rest)[side].sum(0) / 5
        torch.testing.assert_close((noise.outer, noise.inner)[side], 4 * cov)
        expected = symmetry.grams(mean)[side] - cov / 6
        torch.testing.assert_close((noise.outer_mean, noise.inner_mean)[side], expected)


def test_the_drift_under_batch_norm_is_what_sgd_does():
    """The mean of one step over every batch, which samples in evaluation mode do not tell."""
    model, symmetry, x, y = normed()
    batches = [(x[i : i + 4], y[i : i + 4]) for i in range(0, 24, 4)]
    sgd = Sgd(0.1, 4)
    found = noise_balance(
        model, F.cross_entropy, batches, symmetries=[symmetry], sgd=sgd, correction=0
    )
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    moves = []
    for inputs, targets in batches:
        loss = F.cross_entropy(model(inputs), targets)
        slopes = torch.autograd.grad(loss, list(model.parameters()))
        stepped = {n: start[n] - 0.1 * g for n, g in zip(start, slopes, strict=True)}
        moves.append(symmetry.charge(stepped) - symmetry.charge(start))
    expected = torch.stack(moves).mean(0)
    torch.testing.assert_close(charge_drift(found.symmetries[0], sgd), expected)
    model.eval()
    alone = noise_balance(model, F.cross_entropy, x, y, symmetries=[symmetry], correction=0)
    assert not torch.allclose(charge_drift(alone.symmetries[0], sgd), expected, rtol=0.1)


def test_batches_are_drawn_where_inputs_have_targets():
    model, symmetry, x, y = normed()
    found = noise_balance(model, F.cross_entropy, x, y, symmetries=[symmetry], sgd=Sgd(0.1, 5))
    assert (found.draws, found.batch_size) == (4, 5)
    plain, x, y = setting("dense")
    whole_ones = noise_balance(
        plain, F.cross_entropy, x, y, whole_batches=True, sgd=Sgd(0.1, 1), symmetries=[pair()]
    )
    assert (whole_ones.draws, whole_ones.batch_size) == (SAMPLES, 1)
    close(whole_ones, noise_balance(plain, F.cross_entropy, x, y, symmetries=[pair()]))


def test_gradients_that_are_all_the_same_have_no_noise():
    model, x, y = setting("dense")
    x, y = x[:1].expand(8, -1), y[:1].expand(8)
    (noise,) = noise_balance(model, F.cross_entropy, x, y, symmetries=[pair()]).symmetries
    assert not noise.outer.any()
    assert not noise.inner.any()
    assert noise.outer_mean.sum() > 0


def weighted_loss(outputs, targets):
    return F.cross_entropy(outputs, targets, weight=torch.tensor([1.0, 2.0, 7.0]).double())


def summed_loss(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="sum")


def contrasted_loss(outputs, targets):
    return (outputs @ outputs.T).logsumexp(1).mean()


def penalised_loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1]) + model[0].weight.square().sum()


@pytest.mark.parametrize("loss_fn", [weighted_loss, summed_loss, contrasted_loss])
def test_a_loss_that_is_no_mean_over_samples_is_refused(loss_fn):
    for name in ("dense", "odd"):  # read at once, and one by one
        model, x, _ = setting(name)
        y = torch.tensor([0, 1, 2, 1, 0, 2, 1])
        symmetries = (
            [Symmetry("rescaling", (whole("raw", 2, -2, 6),))] if name == "odd" else [pair()]
        )
        with pytest.raises(ValueError, match="mean over samples of the loss of one"):
            noise_balance(model, loss_fn, x, y, symmetries=symmetries)


def test_ignored_targets_are_noticed_in_a_later_batch():
    model, x, y = setting("dense")
    ignored = torch.cat([y[:-2], torch.tensor([-100, -100])])
    with pytest.raises(ValueError, match="ignored targets"):
        noise_balance(model, F.cross_entropy, x, ignored, symmetries=[pair()], micro_batch=4)


def test_a_penalty_belongs_to_the_loss_of_every_sample():
    model, x, y = setting("dense")
    found = noise_balance(model, penalised_loss, [(x, y)], symmetries=[pair()])
    plain = noise_balance(model, F.cross_entropy, x, y, symmetries=[pair()])
    torch.testing.assert_close(found.symmetries[0].inner, plain.symmetries[0].inner)
    assert found.symmetries[0].inner_mean.sum() > 10 * plain.symmetries[0].inner_mean.sum()


def broken(**changed):
    model, x, y = setting("dense")
    given = {"model": model, "loss_fn": F.cross_entropy, "inputs": x, "targets": y}
    return noise_balance(**given | {"symmetries": [pair()]} | changed)


TANH = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        (
            {"model": TANH, "symmetries": None},
            ValueError,
            "came closest: rescaling.*broken by tanh",
        ),
        ({"symmetries": []}, ValueError, "symmetries is empty"),
        ({"symmetries": [pair(inner="nothing")]}, ValueError, "'nothing', which is no trainable"),
        ({"model": "net"}, TypeError, "torch.nn.Module"),
        ({"loss_fn": nn.CrossEntropyLoss}, TypeError, "is the class"),
        (
            {"inputs": torch.randn(0, 6).double(), "targets": torch.ones(0).long()},
            ValueError,
            "empty",
        ),
        ({"inputs": [], "targets": None}, ValueError, "batches is empty"),
        ({"inputs": [], "targets": None, "symmetries": None}, ValueError, "batches is empty"),
        ({"targets": None}, TypeError, "a list of batches or a DataLoader"),
        (
            {"inputs": torch.randn(1, 6).double(), "targets": torch.ones(1).long()},
            ValueError,
            "has no covariance",
        ),
        ({"inputs": torch.full((7, 6), math.nan).double()}, ValueError, "NaN"),
        ({"loss_fn": lambda o, t: o.sum() * math.inf}, NonFiniteError, "batch 1: the loss"),
        ({"correction": 2}, ValueError, "correction"),
        ({"micro_batch": 0}, ValueError, "micro_batch"),
        ({"whole_batches": True}, ValueError, "say their size with sgd"),
        ({"whole_batches": True, "sgd": Sgd(0.1, 4)}, ValueError, "less than two batches of 4"),
        ({"forward": lambda m, b: b}, ValueError, "for batches"),
        ({"model": setting("dense")[0].half()}, ValueError, "dtype=torch.float32"),
    ],
)
def test_mistakes_are_told_in_a_sentence(changed, kind, words):
    with pytest.raises(kind, match=words) as told:
        broken(**changed)
    assert "\n" not in str(told.value)


def test_mistakes_with_batches():
    model, symmetry, x, y = normed()
    with pytest.raises(ValueError, match=r"batch norm that uses the batch's statistics.*sgd"):
        noise_balance(model, F.cross_entropy, x, y, symmetries=[symmetry])
    uneven = [(x[:16], y[:16]), (x[16:], y[16:])]
    with pytest.raises(ValueError, match=r"batch 2 has 8 samples.*drop_last"):
        noise_balance(model, F.cross_entropy, uneven, symmetries=[symmetry])
    in_front = [{"mask": torch.zeros(3, len(b)), "x": a, "y": b} for a, b in uneven]
    with pytest.raises(ValueError, match=r"batch 2 has tensors of 3, 8, 8 rows.*drop_last"):
        noise_balance(
            model,
            lambda f, batch: F.cross_entropy(f, batch["y"]),
            in_front,
            forward=lambda model, batch: model(batch["x"]),
            symmetries=[symmetry],
        )
    with pytest.raises(ValueError, match="have 16 samples and sgd has batch_size=8"):
        noise_balance(
            model, F.cross_entropy, [uneven[0]] * 2, symmetries=[symmetry], sgd=Sgd(0.1, 8)
        )
    with pytest.raises(ValueError, match="one batch"):
        noise_balance(model, F.cross_entropy, uneven[:1], symmetries=[symmetry])
    wrong = [(x[:12], y[:12]), (x[12:] * math.inf, y[12:])]
    with pytest.raises(NonFiniteError, match="batch 2"):
        noise_balance(model, F.cross_entropy, wrong, symmetries=[symmetry])


def test_a_frozen_parameter_is_told():
    model, x, y = setting("dense")
    model[0].weight.requires_grad_(False)
    with pytest.raises(ValueError, match=r"'0.weight', which is no trainable parameter"):
        noise_balance(model, F.cross_entropy, x, y, symmetries=[pair()])


def test_a_parameter_that_is_a_number_has_a_side_too():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.randn(5, 4).double())
            self.g = nn.Parameter(torch.tensor(2.0).double())

        def forward(self, x):
            return x @ self.w * self.g

    torch.manual_seed(0)
    model, x, y = Net(), torch.randn(9, 5).double(), torch.randn(9, 4).double()
    found = noise_balance(model, F.mse_loss, x, y)
    assert [each.symmetry.name for each in found.symmetries] == ["w → g"]
    check(found, gradients(model, F.mse_loss, x, y), 1)


def test_the_table_has_a_row_a_symmetry():
    model, x, y = setting("attention")
    sgd = Sgd(0.1, 4, weight_decay=1e-3)
    found = noise_balance(model, F.cross_entropy, x, y, sgd=sgd)
    frame = found.frame()
    assert list(frame["kind"]).count("rotation") == 5
    assert len(str(found).splitlines()) == 2 + len(frame)
    for noise, (_, row) in zip(found.symmetries, frame.iterrows(), strict=True):
        trace = (lambda t: t.trace()) if noise.symmetry.kind == "rotation" else torch.sum
        assert row["charge"] == pytest.approx(float(trace(noise.charge)))
        assert row["drift"] == pytest.approx(float(trace(charge_drift(noise, sgd))))
        assert row["noise_out"] == pytest.approx(float(trace(noise.outer)))
        size = float(noise.outer.norm() + noise.inner.norm())
        assert row["imbalance"] == pytest.approx(float((noise.outer - noise.inner).norm()) / size)
    assert "drift" not in noise_balance(model, F.cross_entropy, x, y).frame()
