"""The Hessian of a network with batch normalisation, against one that is formed whole."""

import pytest
import torch
from shards import found, shard, trained
from torch.func import hessian
from torch.nn import functional as F

OPTIONS = {"blocks": [1], "normalisation": "batch", "activation": "tanh"}
WIDTH, STEPS, TOLERANCE = 2, 6, 1e-8


@pytest.fixture(scope="module")
def pictures() -> dict[str, torch.Tensor]:
    source = torch.Generator().manual_seed(3)
    signs = torch.tensor([1.0, -1.0]).repeat(4)[:, None]
    return {"inputs": torch.randn(8, 3, 4, 4, generator=source), "targets": signs}


@pytest.fixture(scope="module")
def made(pictures):
    """Two runs of a residual network, trained for some steps, and the measured eigenvalues."""
    problem = shard(
        pictures,
        {"kind": "resnet", **OPTIONS},
        {"steps": STEPS, "states_megabytes": 10},
        width=WIDTH,
        learning_rate=0.02,
    )
    return problem, *trained(problem, hessian={"every": 1, "k": 3, "tol": 1e-7})


def whole_hessian(state, run: int, pictures, fixed: bool = False) -> torch.Tensor:
    """∂²L/∂θ² (P, P) of one run, by nested differentiation of the network as it stands on paper.

    Batch normalisation is written out, for `torch.func.hessian` through PyTorch's own is not
    symmetric. Its statistics are those of the batch, which depend on the parameters, or the running
    ones, which are fixed.
    """
    own = {n: t[run] for n, t in state.items() if "/" not in n}
    held = {n.removeprefix("buffers/"): t[run] for n, t in state.items() if "/" in n}
    images, targets = (pictures[name].double() for name in ("inputs", "targets"))
    point = torch.cat([tensor.flatten() for tensor in own.values()])

    def normalised(p, name, x):
        convolved = F.conv2d(x, p[f"{name}.0.weight"], padding=1)
        spread, mean = torch.var_mean(convolved, dim=(0, 2, 3), correction=0)
        if fixed:
            spread, mean = held[f"{name}.1.running_var"], held[f"{name}.1.running_mean"]
        scale = p[f"{name}.1.weight"] / torch.sqrt(spread + 1e-5)
        shift = p[f"{name}.1.bias"] - scale * mean
        return convolved * scale[:, None, None] + shift[:, None, None]

    def loss(vector):
        parts = vector.split([tensor.numel() for tensor in own.values()])
        named = zip(own, parts, own.values(), strict=True)
        p = {name: part.reshape(tensor.shape) for name, part, tensor in named}
        hidden = normalised(p, "stem", images).tanh()
        inner = normalised(p, "blocks.0.first", hidden).tanh()
        hidden = (normalised(p, "blocks.0.second", inner) + hidden).tanh()
        outputs = hidden.mean(dim=(2, 3)) @ p["head.weight"].T + p["head.bias"]
        return (outputs - targets).square().sum(1).mean()

    return hessian(loss)(point)


@pytest.mark.parametrize("step", [0, STEPS])
@pytest.mark.parametrize("run", [0, 1])
def test_eigenvalues_are_those_of_the_hessian_through_the_batch_statistics(
    made, pictures, run, step
):
    _, trajectory, table = made
    whole = whole_hessian(trajectory.states[step], run, pictures)
    exact = torch.linalg.eigvalsh(whole).flip(0)[:3]
    torch.testing.assert_close(
        found(table, "hessian_sharpness", run, step), exact, rtol=TOLERANCE, atol=0.0
    )


def test_statistics_that_are_held_fixed_give_another_matrix(made, pictures):
    """Otherwise the test above could not tell."""
    _, trajectory, table = made
    fixed = whole_hessian(trajectory.states[STEPS], 0, pictures, fixed=True)
    measured = found(table, "hessian_sharpness", 0, STEPS)[0].item()
    assert torch.linalg.eigvalsh(fixed)[-1].item() != pytest.approx(measured, rel=0.05)


def test_measuring_leaves_the_running_statistics_as_they_are(made, pictures):
    problem, trajectory, _ = made
    again = problem.advance(trajectory.states[0], 0, STEPS).state
    for name, tensor in trajectory.states[STEPS].items():
        torch.testing.assert_close(again[name], tensor, rtol=0.0, atol=0.0)
    mean = "buffers/stem.1.running_mean"
    assert not torch.equal(again[mean], trajectory.states[0][mean])
