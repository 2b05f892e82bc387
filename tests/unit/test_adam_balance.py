"""What `adam_balance` reads of the state of a run, and what it is refused for."""

import pytest
import torch
from shards import found, shard, trained

from sharpflow.config.load import load
from sharpflow.errors import ConfigError
from sharpflow.symmetry import Slots, Symmetry, adam_relaxation_steps, adam_sums

RELU = {"kind": "mlp", "hidden_layers": 1, "activation": "relu"}
UNITS = torch.arange(5)[:, None]
SYMMETRY = Symmetry(
    "rescaling", (Slots("weight1", 2, -2, UNITS),), (Slots("weight0", 2, -1, UNITS),)
)
RULES = {
    "adam": {"kind": "adam", "beta2": 0.9, "epsilon": 0.01},
    "rmsprop": {"kind": "rmsprop", "beta": 0.9, "epsilon": 0.01},
    "adamw": {"kind": "adamw", "beta2": 0.9, "epsilon": 0.01, "bias_correction": False},
}


def data(samples=12, inputs=7, outputs=3):
    source = torch.Generator().manual_seed(1)
    return {
        "inputs": torch.randn(samples, inputs, generator=source),
        "targets": torch.randn(samples, outputs, generator=source),
    }


@pytest.mark.parametrize("kind", RULES)
def test_sums_are_those_of_squared_gradients_averaged_by_hand(kind):
    training = {"batch": 3, "steps": 6, "states_megabytes": 10, "weight_decay": 0.1}
    problem = shard(data(), RELU, training, optimiser=RULES[kind], learning_rate=0.01)
    trajectory, table = trained(problem, adam_balance={"every": 1})
    state, run = problem.initial_state(), 1
    squares = {name: torch.zeros_like(t) for name, t in problem.parameters(state).items()}
    for step in range(6):
        gradients = problem.gradient(state, step)(problem.parameters(state)).gradients
        if kind != "adamw":
            gradients = {n: g + 0.1 * problem.parameters(state)[n] for n, g in gradients.items()}
        squares = {n: 0.9 * v + 0.1 * gradients[n].square() for n, v in squares.items()}
        state = problem.step(state, step).state
    correction = 1 - 0.9**6 if kind == "adam" else 1.0
    params = {n: t[run] for n, t in problem.parameters(state).items()}
    expected = adam_sums(
        SYMMETRY, params, {n: v[run] / correction for n, v in squares.items()}, 0.01
    )
    for quantity in ("outer", "inner", "charge", "size", "plain_charge", "plain_size"):
        values = found(table, f"adam_{quantity}", problem.seeds[run], 6)
        torch.testing.assert_close(values, getattr(expected, quantity), rtol=1e-9, atol=0)
    decay = 0.1 if kind == "adamw" else 0.0
    torch.testing.assert_close(
        found(table, "adam_relaxation_steps", problem.seeds[run], 6),
        adam_relaxation_steps(expected, 0.01, 0.9, decay),
        rtol=1e-9,
        atol=0,
    )
    gap = (expected.outer - expected.inner).abs().sum() / (expected.outer + expected.inner).sum()
    assert float(found(table, "adam_imbalance", problem.seeds[run], 6)) == pytest.approx(float(gap))
    assert not len(found(table, "adam_outer", problem.seeds[run], 0))
    assert len(found(table, "adam_outer", problem.seeds[run], 1)) == 5
    assert trajectory.states


def test_a_rule_that_divides_by_nothing_is_refused_before_any_job(tmp_path):
    (tmp_path / "toy.yaml").write_text(
        "paper: mine\ntitle: t\nseeds: 1\ndata: {source: photos, samples: 20}\n"
        "model: {kind: mlp, activation: relu}\nwidths: [4]\nlearning_rates: [0.1]\n"
        "training: {steps: 4}\nmeasurements: {adam_balance: {every: 1}}\ncases: {sgd: {}}\n"
    )
    (tmp_path / "config.yaml").write_text(
        f"results: {tmp_path}/results\npapers: []\nexperiments_folder: {tmp_path}\n"
        "experiments: [toy]\n"
    )
    with pytest.raises(ConfigError, match=r"adam_balance.*squared gradients"):
        load(tmp_path / "config.yaml")
