"""Noise and charges of units, channels and normalised weights: parts, claims and figures."""

from math import sqrt

import numpy as np
import pandas as pd
import pytest
import torch
from shards import found, shard, trained
from specs import PAPERS, ROOT
from synthetic_runs import Curves, judge, outcome, rows, undefined

from papers.beyond.figures import charges, drift, growth, rotation
from sharpflow.config import load
from sharpflow.errors import ConfigError
from sharpflow.figures import base
from sharpflow.measurements.angular_update import angle
from sharpflow.results.charges import still
from sharpflow.results.runs import runs_of
from sharpflow.results.summaries import summarise
from sharpflow.results.tables import ExperimentTable
from sharpflow.results.units import late_means, through_origin, unit_curves

STEPS = np.arange(0, 2050, 50)
RATE, DECAY, S = 0.01, 0.5, 4
UNITS = 6
NET = {"kind": "module", "file": str(PAPERS["beyond"] / "nets.py"), "build": "normalised"}


def pictures(samples=8):
    source = torch.Generator().manual_seed(2)
    inputs = torch.randn(samples, 3, 16, 16, generator=source)
    return {"inputs": inputs, "targets": torch.randn(samples, 2, generator=source)}


class TestParts:
    def test_the_angle_is_that_of_the_next_step(self):
        training = {"steps": 4, "record_every": 1, "batch": 2, "states_megabytes": 10}
        net = {"kind": "mlp", "hidden_layers": 1}
        data = {"inputs": torch.randn(6, 3), "targets": torch.randn(6, 1)}
        chosen = {"every": 2, "parameters": ["weight1", "weight0"]}
        trajectory, table = trained(shard(data, net, training), angular_update=chosen)
        for step in (0, 2):
            before, after = (trajectory.states[s] for s in (step, step + 1))
            for place, name in enumerate(("weight0", "weight1")):
                a, b = before[name][1].flatten(), after[name][1].flatten()
                cosine = a @ b / (a.norm() * b.norm())
                got = found(table, "angular_update", 1, step)[place]
                assert got == pytest.approx(float(torch.arccos(cosine)), rel=1e-5)
                norm = found(table, "parameter_norm", 1, step)[place]
                assert norm == pytest.approx(float(a.norm()))
        assert not len(found(table, "angular_update", 1, 4))

    def test_small_angles_keep_their_digits(self):
        a = torch.tensor([1.0, 0.0], dtype=torch.float64)
        b = torch.tensor([1.0, 1e-9], dtype=torch.float64)
        assert angle(a, b) == pytest.approx(1e-9, rel=1e-6)
        assert angle(a, -a) == pytest.approx(np.pi)

    def test_a_pattern_without_a_parameter_is_refused(self):
        problem = shard(pictures(), NET, {"steps": 1}, width=4)
        with pytest.raises(ConfigError, match=r"named like key\*; there are hidden0.weight"):
            trained(problem, angular_update={"parameters": ["key*"]})

    @pytest.mark.parametrize("norm", ["group", "batch"])
    def test_weights_before_norms_have_scales_and_others_none(self, norm):
        net = NET | {"options": {"norm": norm}}
        problem = shard(pictures(), net, {"steps": 1, "batch": 4}, width=8)
        of = {"gradients": "batches", "draws": 4} if norm == "batch" else {}
        _, table = trained(problem, symmetry_noise={"parameters": ["hidden*"]} | of)
        units = 16 if norm == "batch" else 4
        assert len(found(table, "symmetry_charge", 0, 0)) == units
        assert not found(table, "symmetry_noise_inner", 0, 0).any()
        plain = shard(
            pictures(), NET | {"options": {"norm": "none"}}, {"steps": 1, "batch": 4}, width=4
        )
        _, table = trained(plain, symmetry_noise={"parameters": ["hidden*"]})
        assert found(table, "symmetry_noise_inner", 0, 0).any()

    def test_evaluation_mode_sees_another_noise_than_batches(self):
        net = NET | {"options": {"norm": "batch"}}
        problem = shard(pictures(), net, {"steps": 1, "batch": 4}, width=4)
        chosen = {"gradients": "batches", "draws": 400, "parameters": ["hidden*"]}
        _, table = trained(problem, symmetry_noise=chosen, evaluated_growth={"samples": 8})
        evaluated = found(table, "evaluated_growth", 0, 0)
        batches = found(table, "symmetry_drift", 0, 0)
        assert evaluated.shape == (2,)
        assert (evaluated > 0).all()
        assert evaluated.sum() != pytest.approx(float(batches.sum()), rel=0.05)


def units(seed, sign=1.0):
    """Predicted charges of units: some positive, some negative."""
    return sign * np.random.default_rng(seed).normal(size=UNITS)


def charged(case, seed, slope=1.0, spread=0.0, noise=True, decay=DECAY):
    """A run whose charges are a slope times those that noise and decay cancel at."""
    wanted = units(seed)
    power = wanted * (1 - (1 - RATE * decay) ** 2) / RATE**2 * S
    jitter = spread * np.random.default_rng([1, seed]).normal(size=UNITS)
    curves: Curves = {"symmetry_charge_share": np.full(STEPS.size, 0.4 if noise else 0.001)}
    for unit in range(UNITS):
        values = {
            "charge": (slope * wanted + jitter)[unit] if noise else 1e-5,
            "charge_predicted": wanted[unit],
            "noise_outer": max(power[unit], 0.0),
            "noise_inner": max(-power[unit], 0.0),
            "gradient_outer": 0.0,
            "gradient_inner": 0.0,
        }
        curves |= {
            (f"symmetry_{name}", unit): np.full(STEPS.size, value) for name, value in values.items()
        }
        curves["symmetry_charge", unit][0] = 3.0
    return rows(curves, case, 16, RATE, seed, STEPS)


def settings(batch: int | None = S, **more):
    return {
        "training": {"batch": batch, "weight_decay": DECAY},
        "measurements": {"symmetry_noise": {"batch": S}},
        "data": {"source": "photos", "samples": 400},
    } | more


CASES = {"sgd": settings(), "gd": settings(None)}


def ensemble(seeds=5, **changes):
    parts = [charged("sgd", seed, **changes) for seed in range(seeds)]
    parts += [charged("gd", seed, noise=False) for seed in range(seeds)]
    return pd.concat(parts)


class TestCharges:
    def test_still_charges_are_where_a_step_of_noise_and_decay_cancels(self):
        (run,) = runs_of(charged("sgd", 3), CASES)
        kept = (1 - RATE * DECAY) ** 2
        drift = RATE**2 * (
            late_means(run, "symmetry_noise_outer") - late_means(run, "symmetry_noise_inner")
        )
        np.testing.assert_allclose(kept * still(run) + drift / S, still(run))
        np.testing.assert_allclose(still(run), units(3))

    @pytest.mark.parametrize(
        "name", ["decayed_charges", "decayed_charges_correlate", "charges_on_their_way"]
    )
    def test_charges_as_predicted(self, name):
        judged = judge(name, ensemble(spread=0.01), cases=CASES)
        assert judged[~judged["control"]]["verdict"].tolist() == ["supported"]
        controls = judged[judged["control"]]
        assert len(controls) >= 1
        assert set(controls["verdict"]) <= {"not supported", "undefined"}
        assert "not supported" in set(controls["verdict"])

    def test_other_charges(self):
        assert outcome("decayed_charges", ensemble(slope=1.3), CASES) == "not supported"
        assert outcome("charges_on_their_way", ensemble(slope=1.1), CASES) == "not supported"
        noisy = ensemble(spread=3.0)
        assert outcome("decayed_charges_correlate", noisy, CASES) == "not supported"

    def test_gradient_descent_balances_and_sgd_does_not(self):
        judged = judge("gd_balances", ensemble(), cases=CASES)
        assert judged["verdict"].tolist() == ["supported", "not supported"]
        assert judged["control"].tolist() == [False, True]


BETA = 0.9
RULES = {
    "sgd": {"kind": "sgd"},
    "momentum": {"kind": "heavy_ball", "momentum": BETA},
    "adamw": {"kind": "adamw", "beta1": BETA},
    "without_norm": {"kind": "sgd"},
}
ANGLES = {
    "sgd": sqrt(2 * RATE * DECAY),
    "momentum": sqrt(2 * RATE * DECAY / (1 + BETA)),
    "adamw": sqrt(2 * RATE * DECAY * (1 - BETA) / (1 + BETA)),
    "without_norm": 0.5 * sqrt(2 * RATE * DECAY),
}
ROTATING = {case: settings(optimiser=rule) for case, rule in RULES.items()}


def rotating(factor=1.0, seeds=5):
    def curves(case, seed) -> Curves:
        level = factor * ANGLES[case] * (1 + 0.01 * (seed - 2))
        return {("angular_update", layer): np.full(STEPS.size, level) for layer in (0, 1)}

    return pd.concat(
        rows(curves(case, seed), case, 16, RATE, seed, STEPS)
        for case in RULES
        for seed in range(seeds)
    )


class TestRotation:
    def test_each_rule_has_its_angle(self):
        judged = judge("angular_update", rotating(), cases=ROTATING)
        assert set(judged[~judged["control"]]["verdict"]) == {"supported"}
        assert judged[judged["control"]]["verdict"].tolist() == ["not supported"]
        for factor in (0.8, 1.2):
            assert outcome("angular_update", rotating(factor), ROTATING) == "not supported"

    def test_the_angles_differ_from_that_of_plain_sgd(self):
        judged = judge("angle_of_the_rule", rotating(), cases=ROTATING)
        assert set(judged[~judged["control"]]["verdict"]) == {"supported"}
        assert judged[judged["control"]]["verdict"].tolist() == ["not supported"]
        assert outcome("angle_of_the_rule", rotating(1.4), ROTATING) == "not supported"

    def test_without_angles_there_is_no_verdict(self):
        frame = rotating()
        kept = frame[(frame["case"] != "sgd") | (frame["quantity"] != "angular_update")]
        assert undefined("angular_update", kept, ROTATING) == "no angle was recorded"


def drifting(case, seed, factor=1.0, momentum=0.0, predicted=1.0, other=2.0):
    """Charges that drift `factor` times as fast as plain SGD's."""
    rates = 1e-4 * (abs(units(seed)) if "norm" in case else units(seed))
    curves: Curves = {}
    for unit in range(UNITS):
        plain = rates[unit] / RATE**2 * S
        values = {
            "charge": 1 + factor * rates[unit] * STEPS,
            "charge_predicted": 1 + predicted * factor * rates[unit] * STEPS,
            "noise_outer": np.full(STEPS.size, max(plain, 0.0)),
            "noise_inner": np.full(STEPS.size, max(-plain, 0.0)),
            "gradient_outer": np.full(STEPS.size, 1e-3),
            "gradient_inner": np.full(STEPS.size, 1.1e-3),
        }
        curves |= {(f"symmetry_{name}", unit): value for name, value in values.items()}
    for layer in (0, 1):
        share = other * rates.sum() * factor / 2
        curves["evaluated_growth", layer] = np.full(STEPS.size, share)
    return rows(curves, case, 16, RATE, seed, STEPS)


DRIFTS = {
    "no_momentum": settings(optimiser={"kind": "sgd"}),
    "momentum_09": settings(optimiser={"kind": "heavy_ball", "momentum": BETA}),
    "group_norm": settings(),
    "batch_norm": settings(),
}
FACTOR = 1 / (1 - BETA) ** 2


def of(case, **changes):
    return pd.concat([drifting(case, seed, **changes) for seed in range(5)])


class TestDrift:
    @pytest.mark.parametrize(
        ("name", "case", "factor"),
        [
            ("momentum_factor", "momentum_09", FACTOR),
            ("drift_without_momentum", "no_momentum", 1.0),
            ("growth_as_predicted", "group_norm", 1.0),
            ("batch_growth_as_predicted", "batch_norm", 1.0),
        ],
    )
    def test_drifts_as_predicted_and_their_foils(self, name, case, factor):
        judged = judge(name, of(case, factor=factor), cases=DRIFTS)
        assert judged[~judged["control"]]["verdict"].tolist() == ["supported"]
        assert set(judged[judged["control"]]["verdict"]) == {"not supported"}
        other = of(case, factor=1.3 * factor, predicted=1 / 1.3)
        assert outcome(name, other, DRIFTS) == "not supported"

    @pytest.mark.parametrize("factor", [1.0, 1 / (1 - BETA)])
    def test_momentum_that_does_less(self, factor):
        frame = of("momentum_09", factor=factor)
        assert outcome("momentum_factor", frame, DRIFTS) == "not supported"


def tables(frame, cases):
    return {"shown": ExperimentTable(frame, summarise(frame), {"cases": cases})}


MODULES = {"charges": charges, "rotation": rotation, "growth": growth, "drift": drift}


def tables_of(name):
    """Synthetic results that a figure can be drawn from."""
    if name == "charges":
        return tables(ensemble(), CASES)
    if name == "rotation":
        return tables(rotating(), ROTATING)
    if name == "growth":
        return tables(pd.concat([of("group_norm"), of("batch_norm")]), DRIFTS)
    return tables(pd.concat([of("no_momentum"), of("momentum_09", factor=FACTOR)]), DRIFTS)


@pytest.mark.parametrize("name", MODULES)
def test_a_figure_draws_measured_and_predicted_in_one_panel(name):
    figure, shown = MODULES[name], tables_of(name)
    drawn = figure.draw(shown)
    labels = {
        artist.get_label() for axes in drawn.axes for artist in (*axes.lines, *axes.collections)
    }
    assert labels & {"predicted", "predicted by gradients as trained on", "1/(1 − β)²"}
    assert base.words(figure, shown)["caption"].endswith("5 seeds.")


def test_units_are_read_in_the_order_of_their_indices():
    (run,) = runs_of(drifting("no_momentum", 2), DRIFTS)
    steps, values = unit_curves(run, "symmetry_charge")
    assert values.shape == (STEPS.size, UNITS)
    np.testing.assert_allclose(values[-1], 1 + units(2) * 1e-4 * steps[-1])
    late = late_means(run, "symmetry_charge", 0.5)
    np.testing.assert_allclose(late, values[steps >= 1000].mean(0))
    assert unit_curves(run, "evaluated_growth")[1].shape == (STEPS.size, 2)
    assert through_origin(np.array([2.0, 4.0]), np.array([1.0, 2.0])) == 2.0
    assert np.isnan(through_origin(np.ones(2), np.zeros(2)))


def test_it_is_judged_on_seeds_that_no_setting_was_chosen_on(monkeypatch):
    monkeypatch.chdir(ROOT)
    own = {
        "relu_charges",
        "convolution_charges",
        "normalised_growth",
        "rotational_equilibrium",
        "momentum_factor",
    }
    experiments = load("config/networks.yaml").experiments
    assert own <= set(experiments)
    for name in own:
        assert experiments[name].first_seed >= 100
        assert experiments[name].seeds >= 5
