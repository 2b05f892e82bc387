"""Attention and a transformer's block under noise: parts, claims and figures of `beyond`."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from shards import found, shard, trained
from specs import TYPES, part
from synthetic_runs import judge, outcome, rows, training, undefined
from torch.nn import functional as F

from papers.beyond.claims.noether_budget import GROUPS
from papers.beyond.figures import attention as figure_of_attention
from papers.beyond.figures import noether_budget as figure_of_budget
from papers.beyond.models.attention import attend
from sharpflow.data.base import generate
from sharpflow.parts.options import Form
from sharpflow.results.summaries import summarise
from sharpflow.results.tables import ExperimentTable

TIMES = np.arange(0, 1200, 40)
LAYER = {"kind": "attention", "tokens": 3, "heads": 2}


def teacher(**options):
    small = {"samples": 30, "tokens": 3, "size": 4, "heads": 2}
    return generate(part("data", "attention_teacher", **small | options))[0]


class TestParts:
    def test_attention_is_that_of_pytorch(self):
        source = torch.Generator().manual_seed(0)
        tokens = torch.randn(5, 3, 4, generator=source)
        names = ("query", "key", "value", "output")
        weights = {name: torch.randn(4, 4, generator=source) for name in names}
        query, key, value = (
            (tokens @ weights[n].mT).unflatten(-1, (2, 2)).transpose(1, 2) for n in names[:3]
        )
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        torch.testing.assert_close(attend(weights, tokens, 2), mixed @ weights["output"].mT)

    def test_an_imbalance_is_the_same_function_with_other_charges(self):
        data = teacher()
        even, uneven = (
            shard(data, LAYER | {"imbalance": factor}, width=4) for factor in (1.0, 3.0)
        )
        states = [problem.initial_state() for problem in (even, uneven)]
        outputs = [p.model(s, p.inputs) for p, s in zip((even, uneven), states, strict=True)]
        torch.testing.assert_close(*outputs)
        for name, factor in {"query": 3, "output": 3, "key": 1 / 3, "value": 1 / 3}.items():
            torch.testing.assert_close(states[1][name], factor * states[0][name])

    def test_the_teacher_s_noise_is_what_is_asked_for(self):
        noisy, clean = (
            teacher(samples=4000, noise_std={"first": 1, "last": 4}),
            teacher(samples=4000, noise_std=0),
        )
        torch.testing.assert_close(noisy["inputs"], clean["inputs"])
        stds = (noisy["targets"] - clean["targets"]).unflatten(1, (3, 4)).flatten(0, 1).std(0)
        torch.testing.assert_close(stds, torch.tensor([1.0, 2, 3, 4]), rtol=0.05, atol=0)
        wide = teacher(samples=4000, input_std={"first": 0.5, "last": 2})["inputs"]
        stds = wide.unflatten(1, (3, 4)).flatten(0, 1).std(0)
        torch.testing.assert_close(stds, torch.tensor([0.5, 1, 1.5, 2]), rtol=0.05, atol=0)

    @pytest.mark.parametrize(
        ("form", "width", "message"),
        [
            (Form("vectors", (8,), 9, "real", 5), 4, "8 inputs are not 3 tokens of one size"),
            (Form("vectors", (9,), 8, "real", 5), 4, "8 outputs are not 3 tokens of one size"),
            (Form("vectors", (9,), 9, "real", 5), 5, "width = 5 is not a multiple of heads = 2"),
        ],
    )
    def test_what_does_not_divide_is_refused(self, form, width, message):
        options: Any = TYPES.options("models")["attention"].model_validate(LAYER)
        with pytest.raises(ValueError, match=message):
            options.check(form, width)

    def test_the_symmetries_of_heads_are_found_and_sorted_by_name(self):
        problem = shard(teacher(), LAYER, {"batch": 5, "steps": 2, "states_megabytes": 9}, width=4)
        _, table = trained(problem, symmetry_noise={"every": 2, "parameters": ["value", "query"]})
        groups = found(table, "symmetry_group", 0, 0)
        assert sorted(groups.tolist()) == [0.0] * 4 + [1.0] * 4
        state = problem.initial_state()
        charges = found(table, "symmetry_charge", 0, 0)
        for group, (outer, inner) in enumerate((("output", "value"), ("query", "key"))):
            axis = 0 if outer == "output" else 1
            known = state[outer][0].square().sum(axis) - state[inner][0].square().sum(1)
            measured = charges[groups == group]
            assert sorted(measured.abs().tolist()) == pytest.approx(sorted(known.abs().tolist()))
        noise = [found(table, f"symmetry_noise_{side}", 0, 0) for side in ("outer", "inner")]
        gaps = found(table, "symmetry_imbalance", 0, 0)
        assert len(gaps) == 2
        for group, gap in enumerate(gaps.tolist()):  # the diagonals alone are a part of it
            own = [each[groups == group] for each in noise]
            assert 0 < (own[0] - own[1]).abs().max() / (own[0] + own[1]).max() < 1
            assert 0 < gap < 1

    @pytest.mark.parametrize("kind", ["vit", "decoder"])
    def test_the_hidden_layer_of_a_transformer_has_the_activation_that_is_named(self, kind):
        data = {
            "vit": {"inputs": torch.randn(4, 3, 4, 4), "targets": torch.randn(4, 1)},
            "decoder": {
                "inputs": torch.randint(5, (4, 3)),
                "labels": torch.randint(5, (4, 3)),
                "classes": torch.tensor(5),
                "vocabulary": torch.tensor(5),
            },
        }[kind]
        options = {"kind": kind, "depth": 1, "heads": 2} | ({"patch": 2} if kind == "vit" else {})
        outputs = {}
        for activation in ("gelu", "relu", "linear"):
            problem = shard(data, options | {"activation": activation}, width=4)
            outputs[activation] = problem.model(problem.initial_state(), problem.inputs)
        assert not torch.allclose(outputs["relu"], outputs["gelu"])
        assert not torch.allclose(outputs["relu"], outputs["linear"])


def curves(make, cases, seeds=5, steps=TIMES) -> pd.DataFrame:
    return pd.concat(
        rows(make(case, seed), case=case, rate=0.01, seed=seed, steps=steps)
        for case in cases
        for seed in range(seeds)
    )


STARTS = {
    case: {"model": {"imbalance": factor}, "training": {"batch": batch}}
    for case, factor, batch in (
        ("sgd_small_keys", 1.5, 4),
        ("sgd_large_keys", 0.667, 4),
        ("gd_small_keys", 1.5, None),
        ("gd_large_keys", 0.667, None),
    )
}


def attention(end: float = 0.05, plain: float = 0.4, left: float = 0.0) -> pd.DataFrame:
    """Imbalances that come to `end`, and charges of which `left` is left."""

    def make(case, seed):
        kept = np.exp(-TIMES / 100) if case.startswith("sgd") else np.ones(TIMES.size)
        sign = 1 if "small" in case else -1
        charge = sign * (left + (1 - left) * kept)
        values: dict = {"loss": 2 - TIMES / TIMES[-1]}
        for group in (0, 1):
            values["symmetry_imbalance", group] = 0.7 * kept + end * (1 - kept)
            values["symmetry_charge_share", group] = 0.7 * kept + plain * (1 - kept)
        for unit in range(4):
            values["symmetry_group", unit] = np.array([float(unit // 2)])
            values["symmetry_charge", unit] = charge + 0.01 * seed
            values["symmetry_charge_predicted", unit] = charge
        return values

    return curves(make, STARTS)


class TestAttentionClaims:
    names = ("query_key_balance", "value_output_balance", "attention_start_forgotten")

    @pytest.mark.parametrize("name", names)
    def test_supported_and_its_controls_fail(self, name):
        judged = judge(name, attention(), cases=STARTS)
        wanted = judged["control"].map({True: "not supported", False: "supported"})
        assert judged["verdict"].tolist() == wanted.tolist()
        assert judged["control"].any()

    @pytest.mark.parametrize(
        ("name", "table"),
        [
            (names[0], attention(end=0.3)),
            (names[1], attention(end=0.3)),
            (names[2], attention(left=0.4)),
        ],
    )
    def test_not_supported_where_it_does_not_hold(self, name, table):
        assert outcome(name, table, STARTS) == "not supported"

    def test_a_plain_balance_is_told(self):
        judged = judge(self.names[1], attention(plain=0.05), cases=STARTS)
        assert "its control does not fail" in judged["reason"][0]

    def test_one_start_says_nothing(self):
        table = attention()
        alone = table[table["case"] == "sgd_small_keys"]
        assert undefined(self.names[2], alone, STARTS) == "it needs two starts"


BUDGET = {
    "sgd": {"training": {"batch": 8}, "optimiser": {"kind": "sgd"}},
    "adam": {"training": {"batch": 8}, "optimiser": {"kind": "adam"}},
}


def block(slope: float = 1.0, scatter: float = 0.02) -> pd.DataFrame:
    """Charges that move by `slope` times what the law says, and under Adam anyhow."""
    units = 12

    def make(case, seed):
        rng = np.random.default_rng([seed, len(case)])
        values: dict = {"loss": 2 - TIMES / TIMES[-1]}
        for place in range(len(GROUPS) * units):
            noise, steady = rng.standard_normal(2)
            drift = 0.01**2 * (noise / 8 + 0.1 * steady) * TIMES
            if case == "adam":
                drift = 4e-6 * rng.standard_normal() * TIMES
            moved = slope * drift + scatter * drift[-1] * rng.standard_normal() * TIMES / TIMES[-1]
            flat = np.ones(TIMES.size)
            values |= {
                ("symmetry_group", place): np.array([float(place // units)]),
                ("symmetry_charge", place): 0.3 + moved,
                ("symmetry_noise_outer", place): (3 + noise) * flat,
                ("symmetry_noise_inner", place): 3 * flat,
                ("symmetry_gradient_outer", place): (0.1 * steady + 1) * flat,
                ("symmetry_gradient_inner", place): flat,
            }
        return values

    return curves(make, BUDGET)


class TestBudgetClaims:
    slopes = ("budget_query_key", "budget_value_output", "budget_hidden")

    @pytest.mark.parametrize("name", [*slopes, "budget_correlation"])
    def test_supported_and_its_controls_fail(self, name):
        judged = judge(name, block(), cases=BUDGET)
        wanted = judged["control"].map({True: "not supported", False: "supported"})
        assert judged["verdict"].tolist() == wanted.tolist()
        assert judged["control"].sum() == (2 if name == "budget_correlation" else 1)

    @pytest.mark.parametrize("name", slopes)
    def test_half_of_the_flow_is_not_the_flow(self, name):
        judged = judge(name, block(slope=0.5), cases=BUDGET)
        assert judged["verdict"][0] == "not supported"
        assert judged["statistic"][0] == pytest.approx(0.5, abs=0.02)

    def test_charges_that_scatter_are_not_predicted(self):
        assert outcome("budget_correlation", block(scatter=2.0), BUDGET) == "not supported"


def table_of(frame: pd.DataFrame, cases) -> ExperimentTable:
    named = {case: training() | settings for case, settings in cases.items()}
    return ExperimentTable(frame, summarise(frame), {"title": "t", "cases": named})


MODULES = {"attention": figure_of_attention, "noether_budget": figure_of_budget}


def tables_of(name: str) -> dict[str, ExperimentTable]:
    """Synthetic results that a figure can be drawn from."""
    made = {"attention": (attention, STARTS), "noether_budget": (block, BUDGET)}
    frame, cases = made[name]
    return {name: table_of(frame(), cases)}


def test_charges_are_drawn_beside_their_prediction():
    figure = figure_of_attention.draw(tables_of("attention"))
    axes = figure.axes[2]
    drawn = {line.get_label(): line.get_ydata() for line in axes.lines}
    np.testing.assert_allclose(drawn["SGD, start × 1.5"][-1], 0.04, atol=0.01)
    np.testing.assert_allclose(drawn["GD, start × 1.5"][-1], 2.04, atol=0.01)
    assert "Noether flow, from the start" in drawn
    levels = {line.get_label(): line.get_ydata()[-1] for line in figure.axes[1].lines}
    assert levels["SGD, start × 1.5"] == pytest.approx(0.05, abs=0.01)
    assert levels["SGD, of the weights"] == pytest.approx(0.4, abs=0.01)


def test_a_budget_s_slope_is_noted_in_its_panel():
    tables = {"noether_budget": table_of(block(slope=0.5), BUDGET)}
    figure = figure_of_budget.draw(tables)
    notes = [text.get_text() for axes in figure.axes[:3] for text in axes.texts]
    assert sum(note.startswith(("slope 0.49", "slope 0.50")) for note in notes) == 3
    numbers = figure_of_budget.numbers(tables)
    assert numbers["rows"][0][numbers["columns"].index("hidden units: slope")].startswith(
        ("0.49", "0.50")
    )
