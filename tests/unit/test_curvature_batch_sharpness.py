"""Batch sharpness of a model, against dense Hessians of each batch and a closed form."""

import random
from statistics import mean

import pytest
import torch
from small_classifier import cubed, draw, net, samples
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from sharpflow.curvature.batch_sharpness import batch_sharpness, ratio_of_means
from sharpflow.curvature.reference import dense_hessian

INPUTS, LABELS = samples(24)
BATCHES = list(zip(INPUTS.split(4), LABELS.split(4), strict=True))


def by_model(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def dense(model, only=""):
    """gᵀHg and ‖g‖² of every batch, (6,) each."""
    params = {n: p.detach() for n, p in model.named_parameters() if n.startswith(only)}
    found = []
    for x, y in BATCHES:

        def loss(p, x=x, y=y):
            buffers = {name: b.clone() for name, b in model.named_buffers()}
            return F.cross_entropy(functional_call(model, {**buffers, **p}, (x,)), y)

        copies = {n: p.clone().requires_grad_() for n, p in params.items()}
        parts = torch.autograd.grad(loss(copies), list(copies.values()))
        g = torch.cat([part.reshape(-1) for part in parts])
        found.append((g @ dense_hessian(loss, params) @ g, g @ g))
    return (torch.stack(each) for each in zip(*found, strict=True))


@pytest.mark.parametrize("more", [(), (nn.BatchNorm1d(6),)], ids=["plain", "batch norm"])
@pytest.mark.parametrize("only", ["", "0."])
def test_both_means_and_their_errors(more, only):
    """Batch norm takes each batch's statistics, as SGD does."""
    model = net(*more)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    curved, squared = dense(model, only)
    ratios = curved / squared
    forms = (
        (by_model, BATCHES, None),
        (F.cross_entropy, BATCHES, None),
        (F.cross_entropy, iter(BATCHES), None),
        (nn.CrossEntropyLoss(), DataLoader(TensorDataset(INPUTS, LABELS), 4), None),
        (
            lambda f, b: F.cross_entropy(f, b["y"]),
            [{"x": x, "y": y} for x, y in BATCHES],
            lambda m, b: m(b["x"]),
        ),
    )
    for loss, batches, forward in forms:
        found = batch_sharpness(model, loss, batches, forward=forward, only=f"{only}*")
        assert found.mean_of_ratios == pytest.approx(float(ratios.mean()))
        assert found.mean_of_ratios_error == pytest.approx(float(ratios.std()) / 6**0.5)
        ratio = float(curved.mean() / squared.mean())
        assert found.ratio_of_means == pytest.approx(ratio)
        spread = (curved - ratio * squared).std() / squared.mean() / 6**0.5
        assert found.ratio_of_means_error == pytest.approx(float(spread))
        assert (found.batches, found.batch_size) == (6, 4)
        assert found.verified < 1e-3
    assert abs(float(ratios.mean()) - ratio) > 1e-3 * ratio
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


def test_linear_regression_of_one_sample():
    """L = (x·w − y)²: g ∥ x, and the curvature along it is 2‖x‖² whatever the residual."""
    x, y = draw(5, 3), draw(5, 1, seed=1)
    model = nn.Linear(3, 1, bias=False).double()
    found = batch_sharpness(model, F.mse_loss, list(zip(x.split(1), y.split(1), strict=True)))
    expected = 2 * x.square().sum(1)
    assert found.mean_of_ratios == pytest.approx(float(expected.mean()))
    residuals = (model(x) - y).detach().square()[:, 0]
    weights = residuals * expected
    assert found.ratio_of_means == pytest.approx(float((weights * expected).sum() / weights.sum()))


def test_a_loss_that_is_linear_in_the_parameters():
    model = nn.Linear(5, 1).double()
    found = batch_sharpness(model, lambda m, b: m(b[0]).mean(), BATCHES)
    assert (found.mean_of_ratios, found.ratio_of_means) == (0.0, 0.0)


def test_the_error_of_the_ratio_is_that_of_repeated_draws():
    stream = torch.Generator().manual_seed(0)
    found = []
    for _ in range(400):
        a = torch.rand(50, generator=stream, dtype=torch.float64)
        b = 1 + a + torch.rand(50, generator=stream, dtype=torch.float64)
        found.append(ratio_of_means(a, b))
    spread = torch.tensor([ratio for ratio, _ in found]).std()
    assert mean(error for _, error in found) == pytest.approx(float(spread), rel=0.1)


def test_one_batch_has_no_error():
    found = batch_sharpness(net(), F.cross_entropy, BATCHES[:1])
    assert found.mean_of_ratios == pytest.approx(found.ratio_of_means)
    assert found.mean_of_ratios_error != found.mean_of_ratios_error
    assert found.ratio_of_means_error != found.ratio_of_means_error


def test_one_forward_pass_a_batch():
    """Beyond what is done once: checks of the first batch."""
    calls = []
    model = net()
    model[0].register_forward_hook(lambda *_: calls.append(1))
    batch_sharpness(model, F.cross_entropy, BATCHES[:2])
    once = len(calls)
    batch_sharpness(model, F.cross_entropy, BATCHES)
    assert len(calls) - 2 * once == 4


def test_a_loader_that_shuffles_is_right_and_nothing_changes():
    model = net()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    loader = DataLoader(TensorDataset(INPUTS, LABELS), batch_size=4, shuffle=True)
    states = torch.get_rng_state(), random.getstate()
    with torch.inference_mode():
        found = batch_sharpness(model, by_model, loader)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters())
    order = torch.cat([y for _, y in loader])  # that of the same state
    torch.set_rng_state(states[0])
    fixed = list(loader)
    assert torch.equal(torch.cat([y for _, y in fixed]), order)
    again = batch_sharpness(model, by_model, fixed)
    assert again.mean_of_ratios == pytest.approx(found.mean_of_ratios)


class Kernel(nn.Module):
    def forward(self, x):
        return _Cubed.apply(x)


_Cubed = cubed(lambda x: 3 * x.detach() ** 2)


def bad(batches, loss=F.cross_entropy, model=None):
    with pytest.raises((ValueError, TypeError)) as caught:
        batch_sharpness(model or net(), loss, batches)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_what_has_no_batch_sharpness_is_refused():
    uneven = [*BATCHES[:2], (INPUTS[:3], LABELS[:3])]
    assert "drop_last=True" in bad(uneven)
    in_front = [(torch.zeros(7, len(y)), x, y) for x, y in uneven]
    said = "batch 3 has tensors of 7, 3, 3 rows and those before it tensors of 7, 4, 4 rows"
    assert said in bad(in_front, lambda model, batch: F.cross_entropy(model(batch[1]), batch[2]))
    assert "batches is empty" in bad([])
    assert "batches is a Tensor" in bad(INPUTS)
    assert "batches is a dict" in bad({"x": INPUTS})
    broken = [BATCHES[0], (INPUTS[:4] * float("nan"), LABELS[:4])]
    assert bad(broken).startswith("batch 2: ")
    flat = [(x, torch.ones(4, 3).double()) for x, _ in BATCHES]
    assert "gradient of batch 1 vanishes" in bad(flat, lambda m, b: m(b[0]).clamp(9, 10).mean())
    assert "random function" in bad(BATCHES, model=net(nn.Dropout(0.5)))
    assert "second derivative" in bad([(3 * x, y) for x, y in BATCHES], model=net(Kernel()))
    held = list(net().parameters())
    model = net()
    held = list(model.parameters())
    assert "itself and not the tensor" in bad(
        BATCHES, lambda m, b: by_model(m, b) + held[0].pow(2).sum(), model
    )
