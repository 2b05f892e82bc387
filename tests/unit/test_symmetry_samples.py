"""Which samples decide how gradients are read, and what rounding leaves of the noise."""

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpflow.symmetry import find_symmetries, noise_balance

WRONG = (7, 22, 41)
"""Samples that are labelled wrong; neither the first, nor the middle one, nor the last."""


class Averaged(nn.Module):
    """A layer of units read at some steps, which come before the samples inside or behind them."""

    def __init__(self, time_first: bool) -> None:
        super().__init__()
        self.make, self.read = nn.Linear(6, 8).double(), nn.Linear(8, 2).double()
        self.time_first = time_first

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.make(x.transpose(0, 1) if self.time_first else x))
        return self.read(hidden).mean(0 if self.time_first else 1)


def fitted(loss: nn.Module, time_first: bool) -> tuple[Averaged, Tensor, Tensor]:
    """A net with next to no gradient at most samples, and some that are labelled wrong."""
    torch.manual_seed(0)
    x, y = torch.randn(60, 5, 6).double(), torch.arange(60) % 2
    x[:, :, 0] += 4 * (2 * y[:, None] - 1)
    model = Averaged(time_first)
    optimiser = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(300):
        optimiser.zero_grad()
        loss(model(x), y).backward()
        optimiser.step()
    y[list(WRONG)] = 1 - y[list(WRONG)]
    return model, x, y


@pytest.mark.parametrize("time_first", [True, False])
@pytest.mark.parametrize(
    ("loss", "dtype"),
    [(nn.MultiMarginLoss(), torch.float64), (nn.CrossEntropyLoss(), torch.float32)],
    ids=["hinge", "entropy"],
)
def test_samples_without_gradient_do_not_decide_how_others_are_read(loss, dtype, time_first):
    model, x, y = fitted(loss, time_first)
    weight = model.read.weight
    each = [torch.autograd.grad(loss(model(x[i : i + 1]), y[i : i + 1]), weight) for i in range(60)]
    wanted = torch.stack([slope for (slope,) in each]).var(0).sum(0)
    found = noise_balance(model.to(dtype), loss, x.to(dtype), y).symmetries[-1].outer
    torch.testing.assert_close(found, wanted, rtol=1e-9 if dtype == torch.float64 else 1e-3, atol=0)


def weighed(outputs: Tensor, targets: Tensor) -> Tensor:
    """A hinge loss over the sum of the batch's class weights."""
    weight = torch.tensor([1.0, 9.0], dtype=torch.float64)[targets]
    return (weight * F.multi_margin_loss(outputs, targets, reduction="none")).sum() / weight.sum()


@pytest.mark.parametrize("loss", [nn.MultiMarginLoss(reduction="sum"), weighed])
def test_a_loss_that_is_no_mean_is_noticed_where_most_samples_have_no_gradient(loss):
    model, x, y = fitted(nn.MultiMarginLoss(), False)
    with pytest.raises(ValueError, match="a loss that is the mean over samples"):
        noise_balance(model, loss, x, y)


def test_what_rounding_takes_from_noise_about_a_large_mean_is_told():
    torch.manual_seed(0)
    x, y = 1 + 1e-3 * torch.randn(200, 6), 1000 + 0.1 * torch.randn(200, 2)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.warns(UserWarning, match=r"rounding can be .* of the noise; dtype=torch\.float64"):
        noise_balance(model, nn.MSELoss(), x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        noise_balance(model, nn.MSELoss(), x, y, dtype=torch.float64)


def test_symmetries_that_are_none_or_of_another_model_are_refused():
    model, x, y = Averaged(False), torch.randn(9, 5, 6).double(), torch.arange(9) % 2
    loss = nn.CrossEntropyLoss()
    (own,) = find_symmetries(model, x)
    with pytest.raises(TypeError, match=r"symmetries is a Symmetry; .* a list"):
        noise_balance(model, loss, x, y, symmetries=own)
    narrower = Averaged(False)
    narrower.make, narrower.read = nn.Linear(6, 4).double(), nn.Linear(4, 2).double()
    for model_, symmetry in ((model, find_symmetries(narrower, x)[0]), (narrower, own)):
        with pytest.raises(ValueError, match="a symmetry is of another model: its units do not"):
            noise_balance(model_, loss, x, y, symmetries=[symmetry])
    with pytest.raises(TypeError, match=r"sgd is 0\.1; it must be a sharpflow\.symmetry\.Sgd"):
        noise_balance(model, loss, x, y, sgd=0.1)


class Masked(nn.Module):
    """Tokens that see each other through a (T, T) mask, which has as many rows as some samples."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 6, dtype=torch.float64)
        self.read = nn.Linear(6, 3, dtype=torch.float64)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.read(torch.relu(mask @ self.words(tokens))).mean(1)


@pytest.mark.parametrize("length", [32, 8, 5])  # of parts of 40 that are computed one by one
def test_a_mask_has_no_row_a_sample_however_many_rows_it_has(length):
    torch.manual_seed(0)
    model, mask = Masked(), torch.rand(length, length).double()
    tokens, y = torch.randint(0, 9, (40, length)), torch.randint(0, 3, (40,))

    def loss(model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        return F.cross_entropy(model(*batch[:2]), batch[2])

    symmetries = find_symmetries(model, (tokens, mask))
    (found,) = noise_balance(model, loss, [(tokens, mask, y)], symmetries=symmetries).symmetries
    weight = model.words.weight
    each = [
        torch.autograd.grad(loss(model, (tokens[i : i + 1], mask, y[i : i + 1])), weight)[0]
        for i in range(40)
    ]
    torch.testing.assert_close(found.inner, torch.stack(each).var(0).sum(0), rtol=1e-9, atol=0)
