"""Figures of SGD's edge and of the catapult: what they draw, and what they say of it."""

import numpy as np
import pandas as pd
from synthetic_runs import rows

from papers.andreyev2024.figures import levels
from papers.lewkowycz2020.figures import catapult
from sharpflow.figures import base
from sharpflow.results.summaries import summarise
from sharpflow.results.tables import ExperimentTable

STEPS = np.arange(0, 120, 3)
SGD_STEPS = np.arange(0, 51 * 13, 51)


def tables(runs, cases):
    return {"own": ExperimentTable(runs, summarise(runs), {"title": "Own", "cases": cases})}


def cell(module, given, case, heading):
    table = module.numbers(given)
    (row,) = (row for row in table["rows"] if row[0] == case)
    return row[table["columns"].index(heading)]


def drawn(axes, label):
    (line,) = (own for own in axes.lines if own.get_label() == label)
    return line.get_ydata()


class TestCatapult:
    @staticmethod
    def given():
        parts = []
        for seed in range(2):
            start = 900.0 + 300 * seed
            for case, units, peak, least in (("below", 0.8, 1.0, 0.9), ("catapult", 1.6, 6.0, 0.3)):
                loss = 0.5 * np.r_[1.0, peak, np.linspace(0.9, 0.2, STEPS.size - 2)]
                curve = start * np.r_[1.0, np.full(STEPS.size - 1, least)]
                curves = {
                    "loss": loss,
                    "hessian_sharpness": curve,
                    "stability_threshold": np.full(STEPS.size, start / units),
                }
                parts.append(rows(curves, case=case, rate=units, seed=seed, steps=STEPS))
            gone = {
                "loss": np.r_[0.5, 1e30, np.full(STEPS.size - 2, np.nan)],
                "hessian_sharpness": np.array([start, 1e9]),
                "stability_threshold": np.full(STEPS.size, start / 4),
                "diverged_step": np.array([6.0]),
            }
            parts.append(rows(gone, case="out_of_reach", rate=4.0, seed=seed, steps=STEPS))
        units = {"rate_symbol": "ηλ₀/2", "threshold_symbol": "2/η"}
        return tables(pd.concat(parts), {"below": units, "catapult": units, "out_of_reach": units})

    def test_each_run_is_over_its_own_threshold(self):
        axes = catapult.draw(self.given()).axes
        assert axes[0].get_title(loc="left").endswith("below, ηλ₀/2 = 0.8")
        for panel, start in ((0, 0.8), (2, 1.6)):
            ratio = drawn(axes[panel + 1], "λ₁ / (2/η)")
            assert ratio[0] == np.float64(start)
            assert drawn(axes[panel], "loss / initial loss")[0] == 1.0

    def test_a_run_that_diverges_does_not_set_the_limits(self):
        axes = catapult.draw(self.given()).axes
        assert {panel.get_ylim() for panel in axes[::2]} == {(0.2 / 1.3, 6.0 * 1.3)}
        assert {panel.get_ylim() for panel in axes[1::2]} == {(0.0, 1.05 * 2.0)}
        assert [text.get_text() for text in axes[4].texts if "diverges" in text.get_text()]

    def test_the_numbers_are_means_over_seeds(self):
        given = self.given()
        assert cell(catapult, given, "catapult", "peak loss / initial") == "6"
        assert cell(catapult, given, "catapult", "least λ₁ / λ₀") == "0.3"
        assert cell(catapult, given, "below", "end loss / initial") == "0.2"
        assert cell(catapult, given, "catapult", "ηλ₀/2") == "1.6"
        assert cell(catapult, given, "out of reach", "diverged") == "2"
        assert "ηλ₀/2 = 0.8, 1.6, 4" in base.words(catapult, given)["caption"]


class TestLevels:
    @staticmethod
    def given():
        parts = []
        for seed in range(2):
            for case, mean, other, sharpness in (
                ("batch_8", 1.0, 1.2, 0.3),
                ("full", 0.9, 0.9, 1.0),
            ):
                curves = {
                    "loss": np.linspace(1.0, 0.1, SGD_STEPS.size),
                    "batch_sharpness_mean_of_ratios": np.full(SGD_STEPS.size, 400 * mean),
                    "batch_sharpness_ratio_of_means": np.full(SGD_STEPS.size, 400 * other),
                    "hessian_sharpness": np.full(SGD_STEPS.size, 400 * sharpness),
                }
                parts.append(rows(curves, case=case, seed=seed, steps=SGD_STEPS))
        cases = {case: {"training": {"batch": b}} for case, b in (("batch_8", 8), ("full", None))}
        return tables(pd.concat(parts), cases)

    def test_three_curvatures_over_the_threshold(self):
        axes = levels.draw(self.given()).axes
        expected = {levels.RATIOS: 1.0, levels.MEANS: 1.2, levels.SHARPNESS: 0.3}
        assert expected.keys() == levels.LOOKS.keys()
        for quantity, (_, _, label) in levels.LOOKS.items():
            np.testing.assert_allclose(drawn(axes[0], label), expected[quantity])
        assert levels.LOOKS[levels.MEANS][2] not in {own.get_label() for own in axes[2].lines}

    def test_the_numbers_are_levels_over_the_last_third(self):
        given = self.given()
        assert cell(levels, given, "batch 8", "mean of ratios / (2/η)") == "1.00"
        assert cell(levels, given, "batch 8", "ratio of means / (2/η)") == "1.20"
        assert cell(levels, given, "full", "λ₁ / (2/η)") == "1.00"
