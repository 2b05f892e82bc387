"""Frozen layers: they stay where they are, and the others train as if nothing else existed."""

import pytest
import torch
from shards import found, network, one_run, shard, trained

from sharpflow.curvature.reference import dense_jacobian
from sharpflow.errors import ConfigError

DEEP = {"kind": "mlp", "hidden_layers": 3, "bias": True}


def heavy_ball(momentum):
    """The update rule with that momentum."""
    return {"kind": "heavy_ball", "momentum": momentum} if momentum else {"kind": "sgd"}


@pytest.mark.parametrize("frozen", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("rule", "momentum"),
    [({}, 0.0), ({"weight_decay": 0.1}, 0.6), ({"batch": 4, "weight_decay": 0.1}, 0.0)],
)
def test_only_the_layers_below_move(make_dataset, frozen, rule, momentum):
    training = {"steps": 6, "frozen": frozen} | rule
    problem = shard(make_dataset(), DEEP, training, optimiser=heavy_ball(momentum))
    trajectory, _ = trained(problem)
    first, last = trajectory.states[0], trajectory.states[6]
    fixed = {name for names in problem.model.layers[4 - frozen :] for name in names}
    for name in first:
        if name == "unseen":
            continue
        moved = not torch.equal(first[name], last[name])
        assert moved == (name.removeprefix("velocity/") not in fixed), name


@pytest.mark.parametrize("momentum", [0.0, 0.6])
def test_trained_layers_take_the_steps_of_the_loss_with_the_others_fixed(make_dataset, momentum):
    dataset = make_dataset()
    training = {"steps": 5, "frozen": 2}
    problem = shard(dataset, DEEP, training, optimiser=heavy_ball(momentum))
    trajectory, _ = trained(problem)
    start = one_run(trajectory.states[0], 1)
    names = [f"{kind}{layer}" for layer in range(2) for kind in ("weight", "bias")]
    leaves = [start[name].clone().requires_grad_() for name in names]
    optimiser = torch.optim.SGD(leaves, lr=0.05, momentum=momentum)
    for _ in range(5):
        optimiser.zero_grad()
        whole = start | dict(zip(names, leaves, strict=True))
        (network(problem)(whole) - problem.targets).square().mean().backward()
        optimiser.step()
    for name, leaf in zip(names, leaves, strict=True):
        torch.testing.assert_close(trajectory.states[5][name][1], leaf.detach())


@pytest.mark.parametrize("model", [DEEP, {"kind": "block_mlp", "hidden_layers": 3}])
@pytest.mark.parametrize("frozen", [0, 2])
def test_trained_sharpness_is_that_of_the_trained_layers(make_dataset, model, frozen):
    problem = shard(make_dataset(), model, {"steps": 3, "frozen": frozen})
    trajectory, table = trained(problem, gauss_newton={"tol": 1e-8, "trained_layers": True})
    for step in (0, 3):
        run = one_run(trajectory.states[step], 0)
        moving = {name for names in problem.model.layers[: 4 - frozen] for name in names}
        parts = {"gauss_newton_sharpness": set(run), "trained_sharpness": moving}
        for quantity, names in parts.items():
            own = {name: t for name, t in run.items() if name in names and name != "unseen"}
            jacobian = dense_jacobian(lambda p, run=run: network(problem)(run | p), own)
            exact = torch.linalg.eigvalsh(2 / 12 * jacobian @ jacobian.T)[-1:]
            torch.testing.assert_close(found(table, quantity, 0, step), exact, rtol=1e-6, atol=0)


def test_stored_states_share_no_memory(make_dataset):
    training = {"steps": 5, "frozen": 2}
    problem = shard(make_dataset(), DEEP, training, optimiser=heavy_ball(0.5))
    trajectory, _ = trained(problem)
    addresses = [t.data_ptr() for state in trajectory.states.values() for t in state.values()]
    assert len(set(addresses)) == len(addresses)


def test_something_must_be_trained(make_dataset):
    with pytest.raises(ConfigError, match=r"frozen = 4: the network has 4 layers"):
        shard(make_dataset(), DEEP, {"frozen": 4})
