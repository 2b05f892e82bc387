"""Low-rank adapters under noise: parts, claims and the figure of `beyond`."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from shards import found, shard, trained
from specs import TYPES, part
from synthetic_runs import judge, outcome, rows, training, undefined

from papers.beyond.figures import adapters as figure_of_adapters
from papers.beyond.models.adapters import base_weights, dense
from sharpflow.data.base import generate
from sharpflow.parts.options import Form
from sharpflow.results.summaries import summarise
from sharpflow.results.tables import ExperimentTable

TIMES = np.arange(0, 1200, 20)
RANK = 2
NET = {"kind": "adapters", "rank": RANK}
SIZES = {"inputs": 6, "hidden": 5, "outputs": 4}


def teacher(**options):
    return generate(part("data", "adapter_teacher", **{"samples": 40, "rank": 2} | SIZES | options))


class TestParts:
    @pytest.mark.parametrize("zero", ["A", "B"])
    def test_training_starts_at_the_frozen_network(self, zero):
        data, _ = teacher(change=0, noise_std=0)
        problem = shard(data, NET | {"zero": zero, "start": 3.0}, width=5)
        state = problem.initial_state()
        for name in ("first", "last"):
            other = "B" if zero == "A" else "A"
            assert not state[f"{name}.{zero}"].any()
            drawn = state[f"{name}.{other}"]
            bound = 3 / drawn.shape[-1] ** 0.5
            assert 0.7 * bound < float(drawn.abs().max()) <= bound
        outputs = problem.model(state, problem.inputs)
        base = dense(base_weights(6, 5, 4, 0), problem.inputs)
        torch.testing.assert_close(outputs, base.expand_as(outputs))
        targets = data["targets"].to(
            base
        )  # the teacher is the frozen network where nothing changes
        torch.testing.assert_close(targets, base, rtol=1e-4, atol=1e-5)

    def test_changes_have_the_rank_and_the_size_that_are_asked_for(self):
        options = {"samples": 3000, "noise_std": 0, "inputs": 6, "hidden": 5, "outputs": 4}
        changed, plain = (teacher(**options | {"change": c})[0] for c in (0.5, 0.0))
        torch.testing.assert_close(changed["inputs"], plain["inputs"])
        assert not torch.allclose(changed["targets"], plain["targets"], atol=0.1)
        noisy = teacher(**options | {"noise_std": {"first": 1, "last": 4}, "change": 0.5})[0]
        stds = (noisy["targets"] - changed["targets"]).std(0)
        torch.testing.assert_close(stds, torch.tensor([1.0, 2, 3, 4]), rtol=0.05, atol=0)
        adapted = shard(changed, NET, {"steps": 4000, "batch": None}, width=5, learning_rate=0.1)
        trajectory, _ = trained(adapted)
        final = trajectory.states[max(trajectory.states)]
        outputs = adapted.model(
            {n: final[n] for n in ("first.A", "first.B", "last.A", "last.B")}, adapted.inputs
        )
        left = (outputs - adapted.targets).square().mean() / changed["targets"].var()
        assert float(left) < 0.02  # adapters of the changes' rank can learn them

    def test_an_adapter_s_symmetry_is_a_rotation_that_leaves_the_base(self):
        data, _ = teacher()
        problem = shard(data, NET, {"batch": 5, "steps": 2, "states_megabytes": 9}, width=5)
        options = {"every": 2, "parameters": ["first*", "last*"], "matrices": True}
        _, table = trained(problem, symmetry_noise=options)
        groups = found(table, "symmetry_group", 0, 0)
        assert groups.tolist() == [0.0] * 3 + [1.0] * 3  # upper triangles of 2 × 2
        state = problem.initial_state()
        charges = found(table, "symmetry_charge", 0, 0)
        rows_, columns = np.triu_indices(RANK)
        for place, name in enumerate(("first", "last")):
            inner = state[f"{name}.A"][0]
            charge = -(inner @ inner.mT)  # B = 0
            torch.testing.assert_close(charges[3 * place : 3 * place + 3], charge[rows_, columns])

    def test_a_rank_above_a_layer_s_is_refused(self):
        options: Any = TYPES.options("models")["adapters"].model_validate(NET | {"rank": 5})
        with pytest.raises(ValueError, match="rank = 5 is above"):
            options.check(Form("vectors", (6,), 4, "real", 5), 5)


CASES = {
    f"{rule}_zero_{side}": {
        "model": {"zero": side.upper()},
        "training": {"batch": None if rule == "gd" else 4},
        "optimiser": {"kind": "adam" if rule == "adam" else "sgd"},
        "learning_rates": [0.001 if rule == "slow" else 0.01],
    }
    for rule in ("sgd", "slow", "gd", "adam")
    for side in ("b", "a")
} | {
    f"decay_{rule}": {
        "training": {"batch": batch, "weight_decay": 0.1},
        "measurements": {"symmetry_noise": {"batch": 4}},
    }
    for rule, batch in (("sgd", 4), ("gd", None))
}


def table(
    noise: float = 0.03,
    roots: float = 0.03,
    left: float = 0.0,
    speed: float = 1.0,
    held: float = 1.0,
) -> pd.DataFrame:
    """Adapters whose sides end apart by `noise` under SGD and by `roots` under Adam.

    Args:
        noise, roots: imbalances.
        left: of the distance between starts, under SGD.
        speed: measured over predicted changes.
        held: charges under decay over the predicted ones.
    """
    diagonal = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    entries = np.array([1.0, 0.3, -0.5, 2.0, 0.1, 1.5])

    def make(case, seed):
        rule, start = case.split("_")[0], -1.0 if case.endswith("b") else 1.0
        kept = {"sgd": np.exp(-TIMES / 60), "slow": 1 - TIMES / 4800}.get(rule, np.ones(TIMES.size))
        ends = left if rule == "sgd" else 0.0
        values: dict = {"loss": 2 - TIMES / TIMES[-1]}
        for place in range(6):
            charge = diagonal[place] * start * (ends + (1 - ends) * kept)
            predicted = charge + 0.1 * seed
            rise = 0.05 * entries[place] * TIMES / TIMES[-1]
            if rule == "slow":
                charge, predicted = 0.2 * start + speed * rise, 0.2 * start + rise
            gap = {"sgd": noise, "slow": 0.5, "gd": 0.7, "adam": 0.5}.get(rule, 0.3)
            power = 1.0 + 0.2 * place, (1.0 + 0.2 * place) * (1 - gap) / (1 + gap)
            if rule == "slow":
                power = 4 * rise[-1] / TIMES[-1] / 0.001**2 + 1.0, 1.0
            if case.startswith("decay"):
                power = 1.0 + entries[place], 1.0
                still = 0.01**2 * entries[place] / 4 / (1 - (1 - 0.001) ** 2)
                charge = np.full(TIMES.size, held * still if case == "decay_sgd" else 0.0)
            values |= {
                ("symmetry_group", place): np.array([float(place // 3)]),
                ("symmetry_charge", place): charge + 0 * TIMES,
                ("symmetry_charge_predicted", place): predicted + 0 * TIMES,
                ("symmetry_noise_outer", place): power[0] + 0 * TIMES,
                ("symmetry_noise_inner", place): power[1] + 0 * TIMES,
                ("symmetry_gradient_outer", place): 0.01 + 0 * TIMES,
                ("symmetry_gradient_inner", place): 0.01 + 0 * TIMES,
            }
        for unit in range(2 * RANK):
            gap = roots if rule == "adam" else 0.35
            values["symmetry_root_outer", unit] = (1 + gap) + 0 * TIMES
            values["symmetry_root_inner", unit] = (1 - gap) + 0 * TIMES
        for place in range(2):
            share = 0.001 if case == "decay_gd" else 0.4
            values["symmetry_charge_share", place] = share + 0 * TIMES
        return values

    rates = {case: settings.get("learning_rates", [0.01])[0] for case, settings in CASES.items()}
    return pd.concat(
        rows(make(case, seed), case=case, rate=rates[case], seed=seed, steps=TIMES)
        for case in CASES
        for seed in range(5)
    )


NAMES = (
    "adapter_noise_balance",
    "adapter_roots_balance",
    "adapter_start_forgotten",
    "adapter_charges_follow",
    "adapter_decayed_charges",
    "adapter_balance_under_gd",
)


class TestClaims:
    @pytest.mark.parametrize("name", NAMES)
    def test_supported_and_its_controls_fail(self, name):
        judged = judge(name, table(), cases=CASES)
        wanted = judged["control"].map({True: "not supported", False: "supported"})
        assert judged["verdict"].tolist() == wanted.tolist()
        assert judged["control"].any()

    @pytest.mark.parametrize(
        ("name", "changes"),
        [
            (NAMES[0], {"noise": 0.3}),
            (NAMES[1], {"roots": 0.3}),
            (NAMES[2], {"left": 0.4}),
            (NAMES[3], {"speed": 0.8}),
            (NAMES[4], {"held": 0.7}),
        ],
    )
    def test_not_supported_where_it_does_not_hold(self, name, changes):
        assert outcome(name, table(**changes), CASES) == "not supported"

    def test_one_start_says_nothing(self):
        whole = table()
        alone = whole[whole["case"] == "sgd_zero_b"]
        assert undefined(NAMES[2], alone, CASES) == "it needs two starts"


MODULES = {"adapters": figure_of_adapters}


def tables_of(name: str, **changes) -> dict[str, ExperimentTable]:
    """Synthetic results that a figure can be drawn from."""
    frame = table(**changes)
    named = {case: training() | settings for case, settings in CASES.items()}
    return {name: ExperimentTable(frame, summarise(frame), {"title": "t", "cases": named})}


def test_what_is_measured_stands_beside_what_is_predicted():
    figure = figure_of_adapters.draw(tables_of("adapters", speed=0.5))
    balance, charges, changes, held = figure.axes[:4]
    spots = {m.get_label(): m.get_offsets().data for m in balance.collections[2:]}
    assert spots["SGD, first layer"][0] == pytest.approx([0.35, 0.03], abs=1e-3)
    assert spots["Adam, last layer"][0] == pytest.approx([0.03, 0.5], abs=1e-3)
    ends = {line.get_label(): line.get_ydata()[-1] for line in charges.lines}
    assert abs(ends["SGD, B = 0"]) < 0.01
    assert abs(ends["GD, from either start"]) == pytest.approx(2.0)
    x, y = changes.collections[0].get_offsets().data.T
    np.testing.assert_allclose(y, 0.5 * x, atol=1e-9)
    x, y = held.collections[0].get_offsets().data.T
    np.testing.assert_allclose(y, x, rtol=1e-6)
