import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sharpflow.results.summaries import summarise
from sharpflow.statistics.intervals import Interval, slope, slope_interval, t_interval, verdict

INF = math.inf
numbers = st.floats(-1e6, 1e6, allow_nan=False)


def interval(low: float, high: float, statistic: float | None = None) -> Interval:
    centre = (low + high) / 2 if statistic is None else statistic
    return Interval(centre, low, high, 0.95, "given", 5)


class TestInterval:
    def test_matches_scipy(self):
        values = np.random.default_rng(0).normal(size=7)
        result = t_interval(values, 0.9)
        expected = stats.t.interval(0.9, 6, loc=values.mean(), scale=stats.sem(values))
        assert (result.low, result.high) == pytest.approx(expected, rel=1e-12)
        assert (result.seeds, result.confidence) == (7, 0.9)
        assert result.method == "t-interval over 7 seeds"

    def test_covers_the_mean_as_often_as_it_says(self):
        draws = np.random.default_rng(1).normal(2, 3, size=(2000, 4))
        covered = [(i := t_interval(row, 0.8)).low <= 2 <= i.high for row in draws]
        assert np.mean(covered) == pytest.approx(0.8, abs=0.03)

    def test_one_seed_has_infinite_bounds(self):
        result = t_interval([3.0])
        assert (result.statistic, result.low, result.high) == (3.0, -INF, INF)

    def test_an_undefined_seed_is_not_dropped(self):
        result = t_interval([1.0, 1.0, math.nan])
        assert math.isnan(result.statistic)
        assert (result.low, result.high, result.seeds) == (-INF, INF, 3)
        assert "undefined for 1" in result.method

    def test_outright_failures(self):
        assert t_interval([INF, INF]).low == INF
        mixed = t_interval([1.0, -INF, 1.0])
        assert (mixed.low, mixed.high) == (-INF, INF)
        assert "outright failure of 1" in mixed.method

    def test_equal_values_have_no_width(self):
        result = t_interval([0.1] * 7)
        assert result.low == result.statistic == result.high == 0.1

    @given(st.lists(numbers, min_size=2, max_size=12), st.floats(0.1, 0.9))
    def test_wider_with_more_confidence_and_around_the_mean(self, values, confidence):
        narrow, wide = t_interval(values, confidence), t_interval(values, confidence + 0.05)
        assert wide.low <= narrow.low <= narrow.statistic <= narrow.high <= wide.high

    @pytest.mark.parametrize("values", [[], [[1.0, 2.0]]])
    def test_bad_values(self, values):
        with pytest.raises(ValueError, match="one value a seed"):
            t_interval(values)

    @pytest.mark.parametrize("confidence", [0, 1, 95])
    def test_bad_confidence(self, confidence):
        with pytest.raises(ValueError, match="strictly between 0 and 1"):
            t_interval([1.0, 2.0], confidence)


class TestSlope:
    def test_matches_a_polynomial_fit(self):
        x, y = np.random.default_rng(0).normal(size=(2, 20))
        assert slope(x, y) == pytest.approx(np.polyfit(x, y, 1)[0])

    def test_undefined(self):
        assert math.isnan(slope([1, 1], [1, 2]))
        assert math.isnan(slope([1, 2], [1, math.nan]))
        with pytest.raises(ValueError, match="equal vectors"):
            slope([1, 2], [1])

    def test_the_seed_is_the_unit(self):
        x = np.tile([100.0, 200, 400], 3)
        seeds = np.repeat([4, 7, 9], 3)
        y = np.repeat([0.9, 1.0, 1.1], 3) * x + np.repeat([5.0, -5, 80], 3)
        result = slope_interval(x, y, seeds)
        expected = t_interval([0.9, 1.0, 1.1])
        assert result.low == pytest.approx(expected.low)
        assert (result.high, result.seeds) == (pytest.approx(expected.high), 3)
        with pytest.raises(ValueError, match="must agree"):
            slope_interval(x, y, seeds[:-1])


class TestVerdict:
    @pytest.mark.parametrize(
        ("given_interval", "expected"),
        [
            (interval(0.95, 1.05), "supported"),
            (interval(0.9, 1.1), "supported"),
            (interval(0.85, 1.0), "inconclusive"),
            (interval(0.5, 1.5), "inconclusive"),
            (interval(0.5, 0.8), "not supported"),
            (interval(1.2, 1.3), "not supported"),
            (interval(-INF, INF, 1.0), "inconclusive"),
            (interval(-INF, INF, math.nan), "inconclusive"),
            (interval(INF, INF, INF), "not supported"),
        ],
    )
    def test_two_sided_band(self, given_interval, expected):
        assert verdict(given_interval, 0.9, 1.1) == expected

    @pytest.mark.parametrize(
        ("given_interval", "expected"),
        [
            (interval(0.95, 3), "supported"),
            (interval(-INF, INF, 5.0), "inconclusive"),
            (interval(INF, INF, INF), "not supported"),
            (interval(0.1, 0.2), "not supported"),
        ],
    )
    def test_one_sided_band_is_not_met_by_an_infinity(self, given_interval, expected):
        assert verdict(given_interval, 0.9, INF) == expected

    @pytest.mark.parametrize("band", [(1.0, 0.0), (-INF, INF), (math.nan, 1.0)])
    def test_bad_band(self, band):
        with pytest.raises(ValueError, match="band"):
            verdict(interval(0, 1), *band)


def table(seeds: int, steps: int, quantities: int = 1) -> pd.DataFrame:
    index = pd.MultiIndex.from_product(
        [["relu", "tanh"], range(seeds), range(steps), [f"q{i}" for i in range(quantities)]],
        names=["case", "seed", "step", "quantity"],
    )
    frame = index.to_frame(index=False).assign(width=200, learning_rate=0.005, index=0)
    return frame.assign(value=np.random.default_rng(0).normal(size=len(frame)))


class TestSummarise:
    def test_agrees_with_the_interval_of_every_cell(self):
        runs = table(seeds=4, steps=3, quantities=2)
        summary = summarise(runs.sample(frac=1, random_state=0), 0.9)
        assert list(summary.columns) == [
            "case", "width", "learning_rate", "step", "quantity", "index",
            "mean", "low", "high", "seeds",
        ]  # fmt: skip
        assert len(summary) == 12
        for row in summary.itertuples():
            cell = runs[
                (runs.case == row.case) & (runs.step == row.step) & (runs.quantity == row.quantity)
            ]
            expected = t_interval(cell["value"], 0.9)
            assert (row.mean, row.low, row.high) == pytest.approx(
                (expected.statistic, expected.low, expected.high)
            )
            assert row.seeds == 4

    def test_diverged_runs_leave_and_are_counted(self):
        runs = table(seeds=3, steps=3)
        runs.loc[(runs.case == "relu") & (runs.step == 1) & (runs.seed == 0), "value"] = math.nan
        runs.loc[(runs.case == "relu") & (runs.step == 2) & (runs.seed > 0), "value"] = INF
        runs.loc[(runs.case == "tanh") & (runs.step == 2), "value"] = math.nan
        summary = summarise(runs).set_index(["case", "step"])
        assert summary.seeds.to_dict() == {
            ("relu", 0): 3, ("relu", 1): 2, ("relu", 2): 1,
            ("tanh", 0): 3, ("tanh", 1): 3, ("tanh", 2): 0,
        }  # fmt: skip
        alone = summary.loc[("relu", 2)]
        assert math.isfinite(alone["mean"])
        assert (alone["low"], alone["high"]) == (-INF, INF)
        assert summary.loc[("tanh", 2), ["mean", "low", "high"]].isna().all()

    def test_equal_values_survive_a_large_offset(self):
        runs = table(seeds=5, steps=1).assign(value=1e9 + 0.1)
        summary = summarise(runs)
        assert np.all(summary["high"] - summary["low"] <= 1e-6)

    def test_an_empty_table_and_a_missing_column(self):
        assert summarise(table(2, 2).iloc[:0]).empty
        with pytest.raises(ValueError, match="lacks seed"):
            summarise(table(2, 2).drop(columns="seed"))
