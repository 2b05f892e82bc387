"""Hessian and Gauss-Newton products against curvlinops, where it is installed."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from sharpflow.curvature import SharpnessTracker, gauss_newton_operator, hessian_operator

curvlinops = pytest.importorskip("curvlinops")

NETS = {
    "dense": lambda: nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)),
    "smooth": lambda: nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 5), nn.Linear(5, 3)),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 2), nn.ELU(), nn.Flatten(), nn.Linear(8, 3)
    ),
}


@pytest.mark.parametrize("name", list(NETS))
@pytest.mark.parametrize("loss_fn", [nn.MSELoss(), nn.CrossEntropyLoss()], ids=["mse", "ce"])
def test_products_and_top_eigenvalue_agree(name, loss_fn):
    torch.manual_seed(0)
    model = NETS[name]().double()
    inputs = torch.randn(9, 6).double()
    mse = isinstance(loss_fn, nn.MSELoss)
    targets = torch.randn(9, 3).double() if mse else torch.arange(9) % 3
    named, data = dict(model.named_parameters()), [(inputs, targets)]
    unit = np.eye(sum(p.numel() for p in named.values()))
    theirs = [
        torch.from_numpy(kind(model, loss_fn, list(named.values()), data).to_scipy() @ unit)
        for kind in (curvlinops.HessianLinearOperator, curvlinops.GGNLinearOperator)
    ]

    def outputs(p):
        return functional_call(model, p, (inputs,))

    hessian = hessian_operator(lambda p: loss_fn(outputs(p), targets), named).to_dense()
    torch.testing.assert_close(hessian, theirs[0], rtol=1e-9, atol=1e-11)
    f = outputs(named).detach()
    if mse:
        curvature = 2 / targets.numel()
    else:
        share = f.softmax(1)
        curvature = (torch.diag_embed(share) - share[:, :, None] * share[:, None, :]) / 9
    newton = gauss_newton_operator(outputs, named, curvature).to_dense()
    torch.testing.assert_close(newton, theirs[1], rtol=1e-9, atol=1e-11)
    top = SharpnessTracker(model, loss_fn, inputs, targets, tol=1e-9).measure().values
    torch.testing.assert_close(top, torch.linalg.eigvalsh(theirs[0])[-1:])
