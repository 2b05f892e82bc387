"""Sharpness of torch modules against dense Hessians, along training, and what is refused."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, dropout, mse_loss

from sharpflow.curvature import SharpnessTracker, sharpness
from sharpflow.curvature.model_loss import ModelLoss
from sharpflow.curvature.reference import dense_hessian


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def stack(*modules, dtype=torch.float64):
    torch.manual_seed(0)
    fresh = [m.reset_parameters() or m for m in modules if isinstance(m, nn.Linear)]
    assert fresh
    return nn.Sequential(*modules).to(dtype)


def reference(model, loss_fn, inputs, targets):
    """Dense Hessian over the trainable parameters, in their order."""
    params = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    def loss(p):
        buffers = {name: b.clone() for name, b in model.named_buffers()}
        return loss_fn(functional_call(model, {**buffers, **p}, (inputs,)), targets)

    return dense_hessian(loss, params)


def assert_top(model, loss_fn, inputs, targets, dense, k=2, **options):
    tracker = SharpnessTracker(model, loss_fn, inputs, targets, k=k, tol=1e-8, **options)
    assert tracker.dense is dense
    result = tracker.measure()
    hessian = reference(model, loss_fn, inputs, targets)
    expected = torch.linalg.eigvalsh(hessian).flip(0)[:k]
    assert result.converged
    torch.testing.assert_close(result.values, expected, rtol=1e-6, atol=1e-10)
    torch.testing.assert_close(
        hessian @ result.vectors, result.vectors * result.values, rtol=1e-5, atol=1e-6
    )
    bare = tracker.measure(vectors=False)
    assert bare.vectors.shape == (hessian.shape[0], 0)
    return tracker


@pytest.mark.parametrize("samples", [12, 4], ids=["plain", "compressed"])
@pytest.mark.parametrize(
    "modules",
    [
        lambda: (nn.Linear(6, 5, bias=False), nn.Tanh(), nn.Linear(5, 1, bias=False)),
        lambda: (nn.Linear(6, 5), nn.ELU(), nn.Linear(5, 4), nn.Softplus(), nn.Linear(4, 2)),
        lambda: (nn.Linear(6, 5), nn.Linear(5, 4), nn.SiLU(), nn.Identity(), nn.Linear(4, 1)),
        lambda: (nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1)),
        lambda: (nn.Linear(6, 3),),
    ],
)
def test_plain_stacks_take_the_closed_form(modules, samples):
    model = stack(*modules())
    inputs, targets = draw(samples, 6, seed=1), draw(samples, model[-1].out_features, seed=2)
    assert_top(model, nn.MSELoss(), inputs, targets, dense=True)


def test_images_are_flattened_in_the_closed_form():
    model = stack(nn.Flatten(), nn.Linear(12, 3), nn.Tanh(), nn.Linear(3, 1))
    assert_top(model, mse_loss, draw(5, 3, 2, 2), draw(5, 1, seed=1), dense=True)


def frozen(model):
    model[0].weight.requires_grad_(False)
    return model


def tied():
    layer = nn.Linear(6, 6)
    return stack(layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(6, 1))


def hooked():
    model = stack(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 1))
    model[1].register_forward_hook(lambda module, args, output: 2 * output)
    return model


@pytest.mark.parametrize(
    ("model", "loss"),
    [
        (lambda: stack(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 1), nn.Tanh()), mse_loss),
        (lambda: stack(nn.Linear(6, 3), nn.GELU(), nn.Linear(3, 1)), mse_loss),
        (lambda: stack(nn.Linear(6, 3), nn.ELU(alpha=0.5), nn.Linear(3, 1)), mse_loss),
        (lambda: stack(nn.Linear(6, 3), nn.Softplus(beta=2), nn.Linear(3, 1)), mse_loss),
        (lambda: stack(nn.Linear(6, 3, bias=False), nn.Tanh(), nn.Linear(3, 1)), mse_loss),
        (lambda: stack(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 1)), nn.MSELoss(reduction="sum")),
        (lambda: stack(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 1)), nn.L1Loss()),
        (lambda: stack(nn.Linear(6, 3), nn.LayerNorm(3), nn.Linear(3, 1)), nn.HuberLoss()),
        (lambda: frozen(stack(nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 1))), mse_loss),
        (tied, mse_loss),
        (hooked, mse_loss),
    ],
)
def test_everything_else_takes_the_general_operator(model, loss):
    assert_top(model(), loss, draw(8, 6, seed=1), draw(8, 1, seed=2), dense=False)


def test_classifier_with_strided_weights_and_unused_parameters():
    model = stack(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    model[0].weight.data = model[0].weight.data.T.contiguous().T
    model.register_parameter("unused", nn.Parameter(draw(2)))
    labels = torch.arange(9) % 3
    assert_top(model, cross_entropy, draw(9, 6), labels, dense=False)


@pytest.mark.parametrize("k", [2, 3], ids=["negative-value", "more-pairs-than-compressed"])
def test_compression_does_not_hide_a_flat_direction(k):
    # One sample whose output bends down along every direction that it sees.
    model = stack(nn.Linear(3, 1, bias=False), nn.Softplus(), nn.Linear(1, 1, bias=False))
    with torch.no_grad():
        model[0].weight.fill_(0.1)
        model[2].weight.fill_(1e-6)
    inputs, targets = torch.ones(1, 3).double(), torch.tensor([[-50.0]]).double()
    hessian = reference(model, mse_loss, inputs, targets)
    expected = torch.linalg.eigvalsh(hessian).flip(0)[:k]
    assert expected[1].abs() < 1e-9  # the flat directions, orthogonal to the sample
    assert torch.linalg.eigvalsh(hessian)[0] < -1
    tracker = SharpnessTracker(model, mse_loss, inputs, targets, k=k, tol=1e-6)
    assert tracker.dense
    found = tracker.measure()
    torch.testing.assert_close(found.values, expected, rtol=1e-6, atol=1e-9)
    alone = SharpnessTracker(model, lambda f, y: mse_loss(f, y), inputs, targets, k=k, tol=1e-6)
    compressed = 2 if k == 2 else 0  # products on the two numbers that compression leaves
    assert found.matvecs == compressed + alone.measure().matvecs


def test_sharpness_is_a_float_and_agrees_in_float32():
    model = stack(nn.Linear(20, 10), nn.Tanh(), nn.Linear(10, 1))
    inputs, targets = draw(50, 20), draw(50, 1, seed=1)
    exact = float(torch.linalg.eigvalsh(reference(model, mse_loss, inputs, targets))[-1])
    assert sharpness(model, mse_loss, inputs, targets, tol=1e-6) == pytest.approx(exact, rel=1e-6)
    single = sharpness(model.float(), mse_loss, inputs.float(), targets.float())
    assert isinstance(single, float)
    assert single == pytest.approx(exact, rel=2e-3)


def test_an_unconverged_sharpness_warns():
    model = stack(nn.Linear(20, 10), nn.Tanh(), nn.Linear(10, 1))
    with pytest.warns(RuntimeWarning, match="not converged to tol=1e-08 after 2 products"):
        sharpness(model, mse_loss, draw(50, 20), draw(50, 1), tol=1e-8, max_products=2)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("micro_batch", [1, 4, 7, 100])
def test_micro_batches_change_nothing(reduction, micro_batch):
    model = stack(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 3))
    loss = nn.CrossEntropyLoss(reduction=reduction)
    inputs, labels = draw(10, 6), torch.arange(10) % 3
    seen = []
    model[0].register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    assert_top(model, loss, inputs, labels, dense=False, micro_batch=micro_batch)
    seen.clear()
    SharpnessTracker(model, loss, inputs, labels, micro_batch=micro_batch).measure()
    assert max(seen) <= max(2 * micro_batch, 2)


def test_micro_batches_are_refused_where_they_change_the_loss():
    inputs, labels = draw(9, 6), torch.arange(9) % 3
    model = stack(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    with pytest.raises(ValueError, match="1 is a batch norm"):
        SharpnessTracker(model, cross_entropy, inputs, labels, micro_batch=4)
    assert SharpnessTracker(model.eval(), cross_entropy, inputs, labels, micro_batch=4)
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.1]).double())
    plain = stack(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
    with pytest.raises(ValueError, match="mean or a sum over samples"):
        SharpnessTracker(plain, weighted, inputs, labels, micro_batch=4)
    with pytest.raises(ValueError, match="micro_batch is 0"):
        SharpnessTracker(plain, cross_entropy, inputs, labels, micro_batch=0)


def test_random_losses_are_refused():
    inputs, targets = draw(9, 6), draw(9, 1, seed=1)
    model = stack(nn.Linear(6, 4), nn.Dropout(0.3), nn.Linear(4, 1))
    with pytest.raises(ValueError, match=r"random function: 1 \(Dropout\)"):
        sharpness(model, mse_loss, inputs, targets)
    assert sharpness(model.eval(), mse_loss, inputs, targets) > 0
    tracker = SharpnessTracker(model, mse_loss, inputs, targets)
    model.train()
    with pytest.raises(ValueError, match="random function"):
        tracker.measure()
    model[1].p = 0.0
    assert tracker.measure().converged

    class Hidden(nn.Module):
        def forward(self, x):
            return dropout(x, 0.5)

    hidden = stack(nn.Linear(6, 4), Hidden(), nn.Linear(4, 1))
    state = torch.random.get_rng_state()
    with pytest.raises(ValueError, match="two evaluations gave"):
        sharpness(hidden, mse_loss, inputs, targets)
    assert torch.equal(state, torch.random.get_rng_state())


def test_bad_data_are_refused():
    model = stack(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1))
    inputs, targets = draw(9, 6), draw(9, 1)
    broken = inputs.clone()
    broken[3, 2] = float("nan")
    for x, y, message in [
        (broken, targets, "inputs holds NaN"),
        (inputs, targets / 0, "targets holds NaN or infinity"),
        (inputs.half(), targets, "inputs is torch.float16"),
        (inputs, targets[:4], r"inputs and targets hold \[4, 9\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            sharpness(model, mse_loss, x, y)
    half = copy.deepcopy(model).half()
    with pytest.raises(ValueError, match="float16"):
        sharpness(half, lambda f, y: f.float().sum(), torch.ones(2, 6).half(), targets[:2])
    with torch.no_grad():
        model[2].weight[0, 0] = float("inf")
    with pytest.raises(ValueError, match="NaN or infinity"):
        sharpness(model, mse_loss, inputs, targets)
    model[2].reset_parameters()
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter"):
        sharpness(model, mse_loss, inputs, targets)


@pytest.mark.parametrize(
    ("activation", "dense"),
    [(nn.Tanh, True), (nn.ReLU, True), (nn.ELU, True), (nn.Softplus, True), (nn.GELU, False)],
)
@pytest.mark.parametrize("batch", [None, 8], ids=["gd", "sgd"])
def test_warm_starts_along_a_trajectory_agree_with_cold_ones(activation, dense, batch):
    layers = [nn.Linear(30, 12), activation(), nn.Linear(12, 12), activation(), nn.Linear(12, 1)]
    model = stack(*layers)
    inputs, targets = draw(24, 30), draw(24, 1, seed=1).sign()
    tracker = SharpnessTracker(model, mse_loss, inputs, targets, k=2, tol=1e-4, check_every=7)
    assert tracker.dense is dense
    optimiser = torch.optim.SGD(model.parameters(), lr=0.2)
    generator = torch.Generator().manual_seed(0)
    warm_products, cold_products = 0, 0
    for step in range(16):
        rows = slice(None) if batch is None else torch.randperm(24, generator=generator)[:batch]
        optimiser.zero_grad()
        mse_loss(model(inputs[rows]), targets[rows]).backward()
        optimiser.step()
        warm = tracker.measure()
        cold = SharpnessTracker(model, mse_loss, inputs, targets, k=2, tol=1e-4).measure()
        assert warm.converged
        assert cold.converged
        torch.testing.assert_close(warm.values, cold.values, rtol=3e-4, atol=0)
        if step % 7:  # a cold check is made at the others
            warm_products += warm.matvecs
            cold_products += cold.matvecs
    assert warm_products < cold_products
    assert tracker.corrections == 0


class Two(nn.Module):
    """Two parameters that do not interact, with curvatures that are data."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        self.register_buffer("curvature", torch.tensor([2.0, 1.0]).double())

    def forward(self, x):
        return x @ (self.curvature * self.theta**2)


@pytest.mark.parametrize("options", [{}, {"accuracy": 0.01}])
def test_a_pair_that_comes_from_far_below_is_seen(options):
    """It is looked at every fifth time, and carried along once it is near."""
    model, data = Two(), torch.ones(1, 2).double()
    tracker = SharpnessTracker(
        model, lambda f, y: f.sum() / 2, data, torch.zeros(1), check_every=1000, **options
    )
    second = [1.0, 1.2, 1.4, 1.6, 1.8, 1.95, 2.2, 2.5, 3.0, 5.0, 9.0]
    found = []
    for value in second:
        model.curvature[1] = value
        found.append(tracker.measure())
    expected = [max(2.0, value) for value in second]
    assert [r.values.item() for r in found] == pytest.approx(expected, rel=1e-3)
    assert [r.matvecs for r in found[1:5]] == [1] * 4
    assert tracker.corrections == 0
    resumed = SharpnessTracker(
        model, lambda f, y: f.sum() / 2, data, torch.zeros(1), check_every=1000, **options
    )
    resumed.load_state_dict(tracker.state_dict())
    model.curvature[0] = 20.0
    later = [resumed.measure().values.item() for _ in range(5)]
    assert later == pytest.approx([9.0] * 4 + [20.0], rel=1e-3)  # of which the last is a look


def test_the_cold_check_leaves_a_pair_that_was_overtaken():
    model, data = Two(), torch.ones(1, 2).double()
    tracker = SharpnessTracker(
        model, lambda f, y: f.sum() / 2, data, torch.zeros(1), tol=1e-9, check_every=3
    )
    assert tracker.measure().values.item() == pytest.approx(2.0)
    tracker._warm.clear()
    tracker._warm.update(torch.tensor([[1.0], [0.0]]).double())  # exactly the first eigenvector
    model.curvature.copy_(torch.tensor([2.0, 5.0]))
    values = [tracker.measure().values.item() for _ in range(4)]
    assert values == pytest.approx([2.0, 2.0, 5.0, 5.0])
    assert tracker.corrections == 1


class Centred(nn.Module):
    """Outputs that depend on the other samples."""

    def forward(self, x):
        return x - x.mean(0)


class Counted(nn.Linear):
    """Notes the sizes of the batches that it is given."""

    def forward(self, x):
        self.sizes.add(len(x))
        return super().forward(x)


@pytest.mark.parametrize(
    ("layers", "loss_fn", "classes", "blocks"),
    [
        ([], mse_loss, False, True),
        ([], nn.MSELoss(reduction="sum"), False, True),
        ([], nn.CrossEntropyLoss(label_smoothing=0.1), True, True),
        ([], nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]).double()), True, False),
        ([], lambda f, y: mse_loss(f, y), False, False),
        ([Centred()], mse_loss, False, False),
        ([nn.BatchNorm1d(3)], mse_loss, False, False),
        ([nn.BatchNorm1d(3).eval()], mse_loss, False, True),
    ],
    ids=["mse", "sum", "smoothed", "weighted", "unknown", "mixing", "batch_norm", "eval"],
)
def test_a_large_batch_is_taken_in_blocks_where_that_is_the_same(
    layers, loss_fn, classes, blocks, monkeypatch
):
    monkeypatch.setattr("sharpflow.curvature.model_loss._BLOCK_BYTES", 700)
    torch.manual_seed(0)
    first = Counted(6, 5)
    model = nn.Sequential(first, nn.GELU(), nn.Linear(5, 3), *layers).double()
    inputs, targets = draw(37, 6), draw(37, 3, seed=1)
    if classes:
        targets = targets.argmax(1)
    first.sizes = set()
    loss = ModelLoss(model, loss_fn, inputs, targets)
    first.sizes = set()
    hessian = loss.hessian().to_dense()
    assert (max(first.sizes) < 37) == blocks
    torch.testing.assert_close(hessian, reference(model, loss_fn, inputs, targets))
    first.sizes = set()
    gradient, value = loss.gradient(loss.present()), loss.total(loss.present())
    assert (max(first.sizes) < 37) == blocks
    whole = loss_fn(model(inputs), targets)
    expected = torch.autograd.grad(whole, list(model.parameters()))
    torch.testing.assert_close(gradient, torch.cat([each.flatten() for each in expected]))
    assert value == pytest.approx(float(whole))
    for module in model.modules():  # what is noticed once is noticed again
        if isinstance(module, nn.BatchNorm1d):
            module.train()
    again = loss.hessian().to_dense()
    torch.testing.assert_close(again, reference(model, loss_fn, inputs, targets))


@pytest.mark.parametrize(("rank", "blocks"), [(5, True), (300, False)])
def test_blocks_are_not_smaller_than_the_gradients_that_each_makes(rank, blocks, monkeypatch):
    monkeypatch.setattr("sharpflow.curvature.model_loss._BLOCK_BYTES", 700)
    model = stack(nn.Linear(6, rank), nn.Linear(rank, 6), nn.GELU(), nn.Linear(6, 3))
    loss = ModelLoss(model, mse_loss, draw(37, 6), draw(37, 3, seed=1))
    assert (loss.block < 37) == blocks


class Remembering(nn.Linear):
    """Keeps weak references to all weights that it ever has."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.seen = []

    def forward(self, x):
        self.seen.append(weakref.ref(self.weight))
        return super().forward(x)


def test_the_copies_that_checks_are_made_with_are_given_up():
    model = stack(Remembering(6, 5), nn.LogSoftmax(1))  # whose graph keeps its own output
    ModelLoss(model, mse_loss, draw(37, 6), draw(37, 5, seed=1))
    gc.collect()
    assert len(model[0].seen) > 3
    assert {id(each()) for each in model[0].seen} <= {id(None), id(model[0].weight)}


def test_ignored_classes_are_not_taken_in_blocks(monkeypatch):
    monkeypatch.setattr("sharpflow.curvature.model_loss._BLOCK_BYTES", 700)
    model = stack(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 3))
    inputs, targets = draw(37, 6), draw(37, 3, seed=1).argmax(1)
    targets[:5] = -100
    loss = ModelLoss(model, nn.CrossEntropyLoss(), inputs, targets)
    assert loss.block == 37
    expected = reference(model, nn.CrossEntropyLoss(), inputs, targets)
    torch.testing.assert_close(loss.hessian().to_dense(), expected)


def test_freezing_between_measurements_is_noticed():
    model = stack(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1))
    inputs, targets = draw(9, 6), draw(9, 1, seed=1)
    tracker = SharpnessTracker(model, mse_loss, inputs, targets, tol=1e-8)
    tracker.measure()
    frozen(model)
    result = tracker.measure()
    expected = torch.linalg.eigvalsh(reference(model, mse_loss, inputs, targets))[-1:]
    assert result.vectors.shape == (9, 1)
    torch.testing.assert_close(result.values, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("activation", [nn.Tanh, nn.GELU])
def test_cuda_agrees_with_cpu(activation):
    model = stack(nn.Linear(20, 10), activation(), nn.Linear(10, 1))
    inputs, targets = draw(15, 20), draw(15, 1, seed=1)
    host = sharpness(model, mse_loss, inputs, targets, tol=1e-6)
    device = sharpness(model.cuda(), mse_loss, inputs.cuda(), targets.cuda(), tol=1e-6)
    assert device == pytest.approx(host, rel=1e-6)
