"""cohen2022: claims on runs on which they hold and on which they fail, figures, experiment."""

import numpy as np
import pandas as pd
import pytest
from specs import ROOT
from synthetic_runs import judge, outcome, rows, undefined

from papers.cohen2022.claims.levels import NEVER
from papers.cohen2022.figures import adaptive_edge, thresholds
from sharpflow.config import load, make_plan
from sharpflow.figures import base
from sharpflow.results.tables import ExperimentTable

STEPS = np.arange(5, 705, 5)
RATE = 1e-4
FACTORS = {"rmsprop": 2.0, "adam": 38.0, "nesterov": 1.5, "heavy_ball": 3.0, "gd": 2.0}
LEVELS = {"rmsprop": "rmsprop_level", "adam": "adam_level", "nesterov": "momentum_level"}


def climb(level, start=0.2):
    """A rise from `start` that crosses `level` at step 200, and then small cycles about it."""
    rise = np.minimum(start + (1.05 * level - start) * STEPS / 200, 1.05 * level)
    return np.where(STEPS < 220, rise, level * (1 + 0.1 * np.sin(STEPS / 30)))


def runs(case, level, raw=None, seeds=5, start=0.2):
    """Runs whose preconditioned sharpness settles at a share of the threshold."""
    threshold = FACTORS[case.partition("_")[0] if case not in FACTORS else case] / RATE
    frames = []
    for seed in range(seeds):
        curves = {
            "stability_threshold": np.full(STEPS.size, threshold),
            "preconditioned_sharpness": threshold * (climb(level, start) + 0.002 * seed),
            "hessian_sharpness": 50.0 * (1 + STEPS / 400) if raw is None else raw,
            "loss": 1 / (1 + STEPS / 100),
        }
        frames.append(rows(curves, case, 50, RATE, seed, STEPS))
    return pd.concat(frames)


@pytest.mark.parametrize(("case", "claim"), LEVELS.items())
def test_a_level_at_the_own_threshold(case, claim):
    assert outcome(claim, runs(case, 1.0)) == "supported"
    assert outcome("own_threshold_reached", runs(case, 1.0)) == "supported"


@pytest.mark.parametrize(("case", "claim"), LEVELS.items())
def test_the_controls_fail_where_the_claim_holds(case, claim):
    controls = judge(claim, runs(case, 1.0)).query("control")
    wanted = {"λ₁(H) over the threshold"} if case != "nesterov" else set()
    wanted |= {"λ₁(P⁻¹H) over 2/η"} if case != "rmsprop" else set()
    assert set(controls["case"]) == {f"{case}, {name}" for name in wanted}
    assert set(controls["verdict"]) == {"not supported"}


@pytest.mark.parametrize(("case", "claim"), LEVELS.items())
@pytest.mark.parametrize("level", [0.8, 1.2])
def test_a_level_beside_it(case, claim, level):
    assert outcome(claim, runs(case, level)) == "not supported"


@pytest.mark.parametrize("case", ["adam", "nesterov"])
def test_what_would_be_there_without_the_optimisers_own_threshold(case):
    """Adam and Nesterov held at 2/η, as gradient descent is."""
    assert outcome(LEVELS[case], runs(case, 2.0 / FACTORS[case])) == "not supported"


@pytest.mark.parametrize(("case", "claim"), LEVELS.items())
def test_a_run_that_only_hovers_below_is_not_there(case, claim):
    frame = runs(case, 1.0)
    frame.loc[frame["quantity"] == "preconditioned_sharpness", "value"] *= 0.9
    assert outcome(claim, frame) == "not supported"
    assert outcome("own_threshold_reached", frame) == "not supported"
    assert NEVER.reason == "it never comes to its threshold"


def test_a_start_above_the_threshold_that_comes_down():
    assert outcome("own_threshold_reached", runs("adam", 0.98, start=3.0)) == "supported"
    assert outcome("own_threshold_reached", runs("adam", 2.0, start=3.0)) == "not supported"


def test_curvature_goes_on_or_is_held():
    assert outcome("curvature_goes_on", runs("adam", 1.0)) == "supported"
    held = 50.0 * np.minimum(1 + STEPS / 400, 1.5)
    assert outcome("curvature_goes_on", runs("adam", 1.0, raw=held)) == "not supported"
    both = pd.concat([runs("adam", 1.0), runs("nesterov", 1.0, raw=held)])
    judged = judge("curvature_goes_on", both)
    assert judged["control"].tolist() == [False, True]
    assert judged["verdict"].tolist() == ["supported", "not supported"]
    short = undefined("curvature_goes_on", runs("adam", 0.9))
    assert short == "it never comes to its threshold"


def tables(*frames):
    frame = pd.concat(frames)
    symbols = {
        "rmsprop": "2/η",
        "adam": "(2 + 2β₁)/((1 − β₁)η)",
        "nesterov": "(2 + 2β)/((1 + 2β)η)",
    }
    cases = {
        case: {
            "data": {"source": "photos", "samples": 200},
            "training": {"batch": None},
            "threshold_symbol": symbols[case],
            "preconditioned": case != "nesterov",
        }
        for case in frame["case"].unique()
    }
    summary = frame.rename(columns={"value": "mean"}).drop(columns="seed")
    return {"adaptive_edge": ExperimentTable(frame, summary, {"cases": cases})}


@pytest.fixture(scope="module")
def shown():
    return tables(*(runs(case, 1.0) for case in LEVELS))


def test_the_figure_of_curves_shows_the_ratio_and_the_sharpness_over_two_over_eta(shown):
    axes = adaptive_edge.draw(shown).axes
    titles = [each.get_title(loc="left") for each in axes[::2]]
    assert titles == ["RMSprop: 2/η", "Adam: 38/η", "Nesterov: 1.5/η"]
    for above, below in zip(axes[::2], axes[1::2], strict=True):
        strong = next(line for line in above.lines if line.get_label().startswith("λ₁(P"))
        assert strong.get_ydata()[-60:].mean() == pytest.approx(1.0, abs=0.03)
        contrast = next(line for line in below.lines if line.get_label() == "λ₁(H) over 2/η")
        assert contrast.get_ydata()[0] == pytest.approx(50 * (1 + 5 / 400) * RATE / 2)
    assert "2/η or (2 + 2β₁)" in base.words(adaptive_edge, shown)["caption"]


def test_the_figure_of_thresholds_puts_the_levels_on_the_line(shown):
    (axes,) = thresholds.draw(shown).axes
    marks = {line.get_label().partition(":")[0]: line for line in axes.lines}
    for case in LEVELS:
        mark = marks[base.spelled(case)]
        (x,), (y,) = mark.get_xdata(), mark.get_ydata()
        assert x == pytest.approx(FACTORS[case], rel=0.03)
        assert y == pytest.approx(FACTORS[case], rel=0.05)
    told = thresholds.numbers(shown)
    place = told["columns"].index("and at the end")
    assert [float(row[place]) for row in told["rows"]] == pytest.approx([1.0] * 3, abs=0.03)


OWN = ("adaptive_edge", "adamw_settles")


@pytest.fixture(scope="module")
def configured():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield load("config/neighbours.yaml")


def test_it_is_judged_on_seeds_that_no_setting_was_chosen_on(configured):
    for name in OWN:
        experiment = configured.experiments[name]
        assert experiment.first_seed >= 100
        assert experiment.seeds >= 5
    assert make_plan(configured).figures


def test_strides_see_both_branches_of_an_alternation(configured):
    for name in OWN:
        for setup in configured.cases[name].values():
            assert setup.measurements.preconditioned_hessian.every % 2 == 1
            assert setup.measurements.hessian.every % 2 == 1
