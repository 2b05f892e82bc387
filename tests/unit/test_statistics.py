"""Intervals and verdicts: how often they are right, against enumeration and simulation."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sharpflow.results.curves import rank_correlation
from sharpflow.results.summaries import summarise
from sharpflow.statistics.intervals import (
    Interval,
    bounded_interval,
    bounded_tail,
    intercept,
    log_interval,
    share_interval,
    slope,
    t_interval,
    t_quantile,
    t_tail,
)
from sharpflow.statistics.variance import VarianceShares, variance_shares
from sharpflow.statistics.verdicts import (
    EVERY,
    REAL,
    Failed,
    Undefined,
    check_band,
    holm,
    judge_mean,
    judge_runs,
)

INF = math.inf
POSITIVE = (0.0, INF)
UNIT = (0.0, 1.0)
MONTE_CARLO = 0.01
"""What the draws of a bounded interval may move its ends by."""
numbers = st.floats(-1e6, 1e6, allow_nan=False)
shares = st.floats(0.0, 1.0, allow_nan=False)


def covers(interval: Interval, value: float, slack: float = 0.0) -> bool:
    return interval.low - slack <= value <= interval.high + slack


def least_coverage(repeats: int, confidence: float = 0.95) -> float:
    """Coverage that a simulation of a sound interval falls short of once in a thousand."""
    return confidence - 3 * math.sqrt(confidence * (1 - confidence) / repeats)


class TestTInterval:
    def test_matches_scipy(self):
        values = np.random.default_rng(0).normal(size=7)
        result = t_interval(values, 0.9)
        expected = stats.t.interval(0.9, 6, loc=values.mean(), scale=stats.sem(values))
        assert (result.low, result.high) == pytest.approx(expected, rel=1e-12)
        assert (result.seeds, result.confidence) == (7, 0.9)
        assert result.method == "t-interval over 7 seeds"

    @pytest.mark.parametrize("count", [2, 3, 5, 10])
    @pytest.mark.parametrize("confidence", [0.8, 0.95])
    def test_covers_the_mean_of_a_normal_as_often_as_it_says(self, count, confidence):
        draws = np.random.default_rng([1, count]).normal(2, 3, size=(2000, count))
        covered = np.mean([covers(t_interval(row, confidence), 2.0) for row in draws])
        error = math.sqrt(confidence * (1 - confidence) / 2000)
        assert covered == pytest.approx(confidence, abs=3 * error)

    def test_one_seed_has_infinite_bounds(self):
        result = t_interval([3.0])
        assert (result.statistic, result.low, result.high) == (3.0, -INF, INF)
        assert result.method == "t-interval over 1 seed"
        assert t_tail(result, 0.0) == 1.0

    @pytest.mark.parametrize("bad", [math.nan, INF, -INF])
    def test_a_seed_without_a_finite_value_is_not_dropped(self, bad):
        result = t_interval([1.0, 1.0, bad])
        assert math.isnan(result.statistic)
        assert (result.low, result.high, result.seeds) == (-INF, INF, 3)

    def test_equal_values_have_no_width(self):
        result = t_interval([0.1] * 7)
        assert result.low == result.statistic == result.high == 0.1
        assert (t_tail(result, 0.1), t_tail(result, 0.2)) == (1.0, 0.0)

    @given(st.lists(numbers, min_size=2, max_size=12), st.floats(0.1, 0.9))
    def test_wider_with_more_confidence_and_around_the_mean(self, values, confidence):
        narrow, wide = t_interval(values, confidence), t_interval(values, confidence + 0.05)
        assert wide.low <= narrow.low <= narrow.statistic <= narrow.high <= wide.high

    def test_tail_is_the_p_value_of_a_t_test(self):
        values = np.random.default_rng(3).normal(1, 2, size=6)
        for value in (-1.0, 0.5, 4.0):
            expected = stats.ttest_1samp(values, value).pvalue
            assert t_tail(t_interval(values, 0.7), value) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("values", [[], [[1.0, 2.0]]])
    @pytest.mark.parametrize(
        "make", [t_interval, log_interval, lambda values: bounded_interval(values, (0, 3))]
    )
    def test_bad_values(self, make, values):
        with pytest.raises(ValueError, match="one value a seed"):
            make(values)

    @pytest.mark.parametrize("confidence", [0, 1, 95])
    def test_bad_confidence(self, confidence):
        for make in (
            lambda: t_interval([1.0, 2.0], confidence),
            lambda: log_interval([1.0, 2.0], confidence),
            lambda: bounded_interval([0.5], UNIT, confidence),
            lambda: share_interval(1, 2, confidence),
        ):
            with pytest.raises(ValueError, match="strictly between 0 and 1"):
                make()


class TestLogInterval:
    def test_is_the_t_interval_of_the_logarithm(self):
        values = np.random.default_rng(1).lognormal(size=6)
        found, expected = log_interval(values, 0.8), t_interval(np.log(values), 0.8)
        ends = np.log([found.low, found.statistic, found.high])
        assert ends == pytest.approx([expected.low, expected.statistic, expected.high])
        assert found.method.startswith("geometric mean, t-interval")

    @pytest.mark.parametrize("count", [2, 3, 5, 10])
    @pytest.mark.parametrize("spread", [0.1, 2.0])
    def test_covers_the_geometric_mean_of_a_lognormal(self, count, spread):
        draws = np.random.default_rng([2, count]).lognormal(1.0, spread, size=(2000, count))
        covered = np.mean([covers(log_interval(row), math.e) for row in draws])
        assert covered == pytest.approx(0.95, abs=3 * math.sqrt(0.95 * 0.05 / 2000))

    @given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8))
    def test_stays_positive_and_around_the_geometric_mean(self, values):
        found = log_interval(values)
        assert 0 <= found.low <= found.statistic * (1 + 1e-12)
        assert found.statistic <= found.high * (1 + 1e-12)

    @pytest.mark.parametrize("value", [0.0, -1.0])
    def test_what_is_not_positive_is_refused(self, value):
        with pytest.raises(ValueError, match="all must be positive"):
            log_interval([1.0, value])


class TestShareInterval:
    """Clopper and Pearson's interval, by enumeration of every outcome: no sampling error."""

    @pytest.mark.parametrize("count", [3, 5, 10, 20])
    @pytest.mark.parametrize("confidence", [0.8, 0.95])
    def test_coverage_is_exact(self, count, confidence):
        every = [share_interval(inside, count, confidence) for inside in range(count + 1)]
        for share in np.linspace(0, 1, 201):
            chance = stats.binom.pmf(np.arange(count + 1), count, share)
            covered = sum(c for c, i in zip(chance, every, strict=True) if covers(i, share, 1e-12))
            assert covered >= confidence - 1e-12, share

    @pytest.mark.parametrize(("inside", "count"), [(0, 4), (4, 4), (2, 7), (19, 20)])
    def test_matches_scipy(self, inside, count):
        found = share_interval(inside, count, 0.9)
        expected = stats.binomtest(inside, count).proportion_ci(0.9, method="exact")
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert found.statistic == inside / count

    @pytest.mark.parametrize(("inside", "count"), [(-1, 3), (4, 3), (0, 0)])
    def test_what_is_no_share_is_refused(self, inside, count):
        with pytest.raises(ValueError, match="is no share"):
            share_interval(inside, count)


def multisets(points: list[float], chances: list[float], count: int):
    """Every sample of `count` draws from a discrete law, as values, with its chance."""
    for numbers_of in itertools.product(range(count + 1), repeat=len(points)):
        if sum(numbers_of) == count:
            chance = stats.multinomial.pmf(numbers_of, count, chances)
            yield np.repeat(points, numbers_of), float(chance)


DISCRETE = {
    "two ends": ([0.0, 1.0], [0.3, 0.7]),
    "rare failures": ([0.0, 1.0], [0.05, 0.95]),
    "two points inside": ([0.2, 0.6], [0.85, 0.15]),
    "bimodal": ([0.05, 0.15, 0.9], [0.3, 0.3, 0.4]),
    "a far tail": ([0.0, 0.02, 1.0], [0.6, 0.35, 0.05]),
}
CONTINUOUS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "skewed": lambda rng, size: rng.beta(0.2, 2.0, size),
    "uniform": lambda rng, size: rng.uniform(0, 1, size),
    "bimodal": lambda rng, size: np.where(
        rng.random(size) < 0.3, rng.beta(2, 30, size), rng.beta(30, 2, size)
    ),
}
MEANS = {"skewed": 0.2 / 2.2, "uniform": 0.5, "bimodal": 0.3 * 2 / 32 + 0.7 * 30 / 32}


class TestBoundedInterval:
    """Gaffke's interval, which takes nothing for granted but the support."""

    @pytest.mark.parametrize("count", [1, 2, 3, 5, 10])
    def test_on_zeros_and_ones_it_is_clopper_and_pearsons(self, count):
        for inside in range(count + 1):
            values = np.repeat([0.0, 1.0], [count - inside, inside])
            found, exact = bounded_interval(values, UNIT), share_interval(inside, count)
            assert found.statistic == exact.statistic
            assert found.low == pytest.approx(exact.low, abs=MONTE_CARLO)
            assert found.high == pytest.approx(exact.high, abs=MONTE_CARLO)

    @pytest.mark.parametrize("count", [2, 3, 5, 10])
    @pytest.mark.parametrize("name", DISCRETE)
    def test_coverage_of_a_discrete_law_by_enumeration(self, name, count):
        points, chances = DISCRETE[name]
        mean = float(np.dot(points, chances))
        covered = sum(
            chance
            for values, chance in multisets(points, chances, count)
            if covers(bounded_interval(values, UNIT), mean, MONTE_CARLO / 2)
        )
        assert covered >= 0.95

    @pytest.mark.parametrize("count", [2, 3, 5, 10])
    @pytest.mark.parametrize("name", CONTINUOUS)
    def test_coverage_of_a_continuous_law_by_simulation(self, name, count):
        repeats = 200
        draws = CONTINUOUS[name](np.random.default_rng([5, count]), (repeats, count))
        covered = np.mean([covers(bounded_interval(row, UNIT), MEANS[name]) for row in draws])
        assert covered >= least_coverage(repeats)

    def test_students_interval_covers_a_skewed_law_too_rarely(self):
        """What the bounded interval is for."""
        draws = CONTINUOUS["skewed"](np.random.default_rng(6), (2000, 5))
        covered = np.mean([covers(t_interval(row), MEANS["skewed"]) for row in draws])
        assert covered < 0.85

    @given(st.lists(shares, min_size=1, max_size=8), st.sampled_from([0.5, 0.9, 0.95]))
    def test_never_leaves_its_support_and_holds_the_mean(self, values, confidence):
        found = bounded_interval(values, UNIT, confidence)
        assert 0 <= found.low <= found.statistic + 1e-12
        assert found.statistic - 1e-12 <= found.high <= 1 + 1e-12

    def test_moves_with_its_support(self):
        values = np.array([0.1, 0.4, 0.45])
        plain, moved = bounded_interval(values, UNIT), bounded_interval(5 * values - 2, (-2, 3))
        assert (moved.low, moved.high) == pytest.approx((5 * plain.low - 2, 5 * plain.high - 2))

    def test_is_the_same_every_time(self):
        assert bounded_interval([0.2, 0.3], UNIT) == bounded_interval([0.3, 0.2], UNIT)

    def test_a_rank_correlation_stays_at_most_one(self):
        """Student's interval for the mean of correlations near 1 goes on past it."""
        rng = np.random.default_rng(0)
        steps = np.arange(50)
        values = [rank_correlation(steps, steps + rng.normal(0, s, 50)) for s in (1, 2, 15)]
        assert t_interval(values).high > 1
        found = judge_mean(values, (0.5, 1.0), (-1.0, 1.0)).interval
        assert -1 <= found.low < found.statistic < found.high <= 1

    @pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, INF])
    def test_a_value_outside_the_support_is_refused(self, bad):
        with pytest.raises(ValueError, match=r"entries outside \[0, 1\], or not finite"):
            bounded_interval([0.5, bad], UNIT)

    @pytest.mark.parametrize("inside", [0, 1, 4])
    def test_tail_on_zeros_and_ones_is_twice_the_binomial_one(self, inside):
        values = np.repeat([0.0, 1.0], [4 - inside, inside])
        for share in (0.1, 0.4, 0.8):
            tails = stats.binom.cdf(inside, 4, share), stats.binom.sf(inside - 1, 4, share)
            expected = 2 * tails[0 if share > inside / 4 else 1]
            found = bounded_tail(values, UNIT, share)
            assert found == pytest.approx(min(1.0, expected), abs=2 * MONTE_CARLO)

    def test_no_number_of_draws_shows_that_something_is_impossible(self):
        assert bounded_tail(np.full(40, 0.01), UNIT, 0.9) > 0
        assert bounded_tail(np.full(40, 0.99), UNIT, 0.1) > 0


class TestMissing:
    def test_they_are_numbers_with_a_reason(self):
        assert math.isnan(Undefined("too short"))
        assert float(Failed("it diverged")) == INF
        assert (Undefined("too short").reason, Failed("it diverged").reason) == (
            "too short",
            "it diverged",
        )

    def test_a_plain_nan_or_infinity_counts_without_a_reason(self):
        found = judge_runs([1.0, math.nan, INF, -INF], (0, 2))
        assert (found.inside, found.undefined, found.failed) == (1, 1, 2)
        assert found.reason == "2 of 4 failed; 1 of 4 undefined"

    def test_reasons_are_said_once_each(self):
        values = [1.0, Undefined("a"), Undefined("b"), Undefined("a"), Failed("c")]
        found = judge_runs(values, (0, 2))
        assert found.reason == "1 of 5 failed (c); 3 of 5 undefined (a, b)"


def runs(inside: int, outside: int = 0, undefined: int = 0, failed: int = 0) -> list[float]:
    values: list[float] = [1.0] * inside + [5.0] * outside
    return values + [Undefined("why")] * undefined + [Failed("gone")] * failed


class TestRuns:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (runs(3), "supported"),
            (runs(20), "supported"),
            (runs(2), "straddles"),
            (runs(1), "straddles"),
            (runs(0, 1), "straddles"),
            (runs(4, 1), "straddles"),
            (runs(3, 2), "straddles"),
            (runs(2, 3), "not supported"),
            (runs(0, 3), "not supported"),
            (runs(0, 0, failed=2), "not supported"),
            (runs(1, failed=4), "not supported"),
            (runs(4, failed=1), "straddles"),
            (runs(4, undefined=1), "undefined"),
            (runs(0, undefined=5), "undefined"),
            (runs(3, 1, undefined=1), "straddles"),
            (runs(1, 4, undefined=1), "not supported"),
            (runs(199, 1), "supported"),
            (runs(199, undefined=1), "supported"),
        ],
    )
    def test_verdicts(self, values, expected):
        assert judge_runs(values, (0, 2)).verdict == expected

    def test_a_mean_inside_the_band_hides_nothing(self):
        """20 seeds, by turns 15 % below and above: the mean is right and no run is."""
        values = [0.85, 1.15] * 10
        found = judge_runs(values, (0.9, 1.1))
        assert judge_mean(values, (0.9, 1.1)).verdict == "supported"
        assert found.verdict == "not supported"
        assert (found.inside, found.interval.statistic) == (0, 0.0)
        assert found.reason == "20 of 20 outside the band"

    def test_three_of_three_inside(self):
        found = judge_runs([0.95, 1.0, 1.05], (0.9, 1.1))
        assert (found.verdict, found.reason, found.p_value) == ("supported", "", 1.0)

    def test_two_of_two_cannot_speak_for_every_run(self):
        found = judge_runs([1.0, 1.0], (0.9, 1.1))
        assert (found.verdict, found.reason) == ("straddles", "2 runs cannot speak for every one")

    def test_four_diverged_of_five(self):
        found = judge_runs([1.0] + [Failed("it diverged")] * 4, (0.9, 1.1))
        assert found.verdict == "not supported"
        assert found.reason == "4 of 5 failed (it diverged)"

    def test_one_undefined_of_five_could_decide(self):
        found = judge_runs([1.0] * 4 + [Undefined("too short")], (0.9, 1.1))
        assert (found.verdict, found.reason) == ("undefined", "1 of 5 undefined (too short)")
        assert found.interval.low == share_interval(4, 5).low
        assert found.interval.high == share_interval(5, 5).high == 1.0

    def test_ends_of_the_band_are_inside(self):
        assert judge_runs([0.9, 1.0, 1.1], (0.9, 1.1)).verdict == "supported"
        assert judge_runs([1.0, 1e9, 2.0], (1.0, INF)).verdict == "supported"

    @pytest.mark.parametrize("end", [0.1, 1 / 3, 0.95, 7.3, 1e9])
    def test_equal_positive_values_on_an_end_are_not_outside(self, end):
        for band in ((end, INF), (-INF, end)):
            assert judge_mean([end, end], band, POSITIVE).verdict != "not supported"

    def test_an_infinity_is_outside_a_one_sided_band(self):
        assert judge_runs([INF] * 5, (1.0, INF)).verdict == "not supported"
        assert judge_runs([-INF] * 5, (-INF, 1.0)).verdict == "not supported"

    @pytest.mark.parametrize("count", [1, 2, 3, 5, 10, 20, 40])
    @pytest.mark.parametrize("confidence", [0.8, 0.95])
    def test_p_value_and_interval_agree(self, count, confidence):
        for inside, undefined in itertools.product(range(count + 1), (0, 1)):
            if inside + undefined > count:
                continue
            outside = count - inside - undefined
            found = judge_runs(runs(inside, outside, undefined), (0, 2), confidence)
            least = stats.binom.cdf(inside + undefined, count, EVERY)
            assert found.p_value == pytest.approx(min(1.0, 2 * least))
            rejected = found.p_value < 1 - confidence
            assert rejected == (found.interval.high < EVERY)
            assert (found.verdict == "not supported") == rejected

    @pytest.mark.parametrize("count", [1, 2, 3, 5, 10, 20, 33])
    def test_size_is_the_chance_of_a_wrong_no(self, count):
        found = [judge_runs(runs(k, count - k), (0, 2)) for k in range(count + 1)]
        wrong = [k for k in range(count + 1) if found[k].verdict == "not supported"]
        for share in (EVERY, 0.95, 1.0):
            chance = float(stats.binom.pmf(wrong, count, share).sum())
            assert all(chance <= each.size + 1e-12 for each in found)
            assert chance <= 0.025
        exact = float(stats.binom.pmf(wrong, count, EVERY).sum())
        assert [each.size for each in found] == pytest.approx([exact] * (count + 1))

    @pytest.mark.parametrize("count", [3, 5, 10, 20, 50])
    def test_noticed_is_the_failure_that_four_in_five_would_see(self, count):
        words = judge_runs(runs(count), (0, 2)).noticed
        share = float(words.removeprefix("a failure in ").removesuffix(" % of runs")) / 100
        # `supported` needs every run inside.
        assert judge_runs(runs(count - 1, 1), (0, 2)).verdict != "supported"
        assert 1 - stats.binom.pmf(0, count, share) == pytest.approx(0.8, abs=0.02)


MEAN_KINDS: dict[str, tuple[Any, Any]] = {
    "real": (REAL, st.floats(-3, 3)),
    "positive": (POSITIVE, st.floats(0.05, 20)),
    "bounded": (UNIT, shares),
}


class TestMean:
    @pytest.mark.parametrize(
        ("centre", "expected"),
        [
            (1.0, "supported"),
            (0.9, "straddles"),
            (1.1, "straddles"),
            (0.5, "not supported"),
            (1.5, "not supported"),
        ],
    )
    @pytest.mark.parametrize("kind", ["real", "positive", "bounded"])
    def test_verdicts(self, centre, expected, kind):
        values, band = centre + np.linspace(-0.02, 0.02, 5), (0.9, 1.1)
        support = {"real": REAL, "positive": POSITIVE, "bounded": (centre - 0.05, centre + 0.05)}
        found = judge_mean(values, band, support[kind])
        assert found.verdict == expected
        says = "the interval reaches over an end of the band"
        assert found.reason == (says if expected == "straddles" else "")
        assert found.inside == int(np.sum((values >= 0.9) & (values <= 1.1)))

    def test_the_support_chooses_the_interval(self):
        values = [0.5, 0.6, 0.8]
        for support, expected in (
            (REAL, t_interval(values)),
            (POSITIVE, log_interval(values)),
            (UNIT, bounded_interval(values, UNIT)),
        ):
            assert judge_mean(values, (0.0, 0.7), support).interval == expected

    @pytest.mark.parametrize("kind", MEAN_KINDS)
    def test_p_value_and_interval_agree(self, kind):
        support, values = MEAN_KINDS[kind]

        @given(
            st.lists(values, min_size=2, max_size=6),
            values.filter(lambda end: end > 0),
            st.sampled_from([0.8, 0.95]),
            st.booleans(),
        )
        def check(drawn, end, confidence, below):
            band = (-INF, end) if below else (end, INF)
            found = judge_mean(drawn, band, support, confidence)
            excluded = found.interval.low > end if below else found.interval.high < end
            assert (found.verdict == "not supported") == excluded
            assert 0 <= found.p_value <= 1
            # Ties of draws with an end of the band, and rounding, aside.
            if abs(found.p_value - (1 - confidence)) > 1e-3:
                assert (found.p_value < 1 - confidence) == excluded

        check()

    @pytest.mark.parametrize("support", [REAL, POSITIVE])
    def test_a_true_mean_at_the_bands_end_is_refused_as_often_as_size_says(self, support):
        normal = np.random.default_rng(8).normal(0, 0.3, size=(3000, 4))
        draws = normal if support == REAL else np.exp(normal)
        end = 0.0 if support == REAL else 1.0
        found = [judge_mean(row, (end, end + 5), support) for row in draws]
        wrong = np.mean([each.verdict == "not supported" for each in found])
        assert np.allclose([each.size for each in found], 0.025)
        assert wrong == pytest.approx(0.025, abs=3 * math.sqrt(0.025 * 0.975 / 3000))

    @pytest.mark.parametrize("count", [3, 5, 10, 30])
    def test_noticed_is_the_distance_that_four_in_five_would_see(self, count):
        spread = np.linspace(-1, 1, count)
        spread /= spread.std(ddof=1)
        quantile = float(t_quantile(count, 0.95))
        words = judge_mean(spread, (-9, 9)).noticed
        distance = float(words.removeprefix("a mean ").removesuffix(" outside the band"))
        power = stats.nct.sf(quantile, count - 1, distance * math.sqrt(count))
        assert power == pytest.approx(0.8, abs=0.06)
        words = judge_mean(np.exp(0.1 * spread), (0.1, 9), POSITIVE).noticed
        factor = 1 + float(words.removeprefix("a mean ").removesuffix(" % outside the band")) / 100
        power = stats.nct.sf(quantile, count - 1, math.log(factor) / 0.1 * math.sqrt(count))
        assert power == pytest.approx(0.8, abs=0.06)

    def test_positive_values_far_apart_are_judged_too(self):
        for values in ([1.0, 1e-121], [1e150, 1e-150], [1e-300, 1e300, 1.0]):
            found = judge_mean(values, (0.5, 2.0), POSITIVE)
            assert found.verdict == "straddles"
            assert 0 <= found.interval.low < found.interval.high

    def test_one_undefined_of_five_leaves_no_mean(self):
        found = judge_mean([1.0] * 4 + [Undefined("too short")], (0.9, 1.1))
        assert (found.verdict, found.p_value) == ("undefined", 1.0)
        assert found.reason == "1 of 5 undefined (too short)"
        assert (found.inside, found.undefined) == (4, 1)
        assert math.isnan(found.interval.statistic)

    def test_what_failed_outright_has_no_mean_and_does_not_hold(self):
        found = judge_mean([1.0] * 3 + [Undefined("short"), Failed("it diverged")], (0.9, 1.1))
        assert (found.verdict, found.p_value) == ("not supported", 0.0)
        assert found.reason == "1 of 5 failed (it diverged); 1 of 5 undefined (short)"

    def test_one_seed_has_no_spread(self):
        found = judge_mean([1.0], (0.9, 1.1))
        assert (found.verdict, found.reason) == ("undefined", "one seed has no spread")
        assert (found.interval.statistic, found.noticed) == (1.0, "nothing")
        failed = judge_mean([Failed("gone")], (0.9, 1.1))
        assert (failed.verdict, failed.reason) == ("not supported", "1 of 1 failed (gone)")

    def test_a_value_outside_the_support_is_an_error(self):
        with pytest.raises(ValueError, match="outside"):
            judge_mean([0.5, 1.5], (0.4, 0.6), UNIT)
        with pytest.raises(ValueError, match="positive"):
            judge_mean([0.5, -0.5], (0.4, 0.6), POSITIVE)


@pytest.mark.parametrize("band", [(1.0, 0.0), (-INF, INF), (math.nan, 1.0), (0.0, math.nan)])
def test_bad_band(band):
    for call in (check_band, lambda b: judge_runs([1.0], b), lambda b: judge_mean([1.0], b)):
        with pytest.raises(ValueError, match="band"):
            call(band)


class TestHolm:
    def test_by_hand(self):
        # 0.005·4, 0.01·3, 0.03·2, and 0.04·1, which may not fall below the one before it.
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
        assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
        assert holm([0.02]) == pytest.approx([0.02])
        assert holm([]).size == 0

    @given(st.lists(shares, min_size=1, max_size=20))
    def test_between_the_raw_and_bonferronis_and_in_their_order(self, raw):
        p_values, adjusted = np.array(raw), holm(raw)
        assert np.all(adjusted >= p_values)
        assert np.all(adjusted <= np.minimum(1, p_values * p_values.size))
        order = np.argsort(p_values, kind="stable")
        assert np.all(np.diff(adjusted[order]) >= 0)

    @pytest.mark.parametrize("shared", [0.0, 0.9])
    def test_family_wise_error(self, shared):
        """12 true hypotheses beside 8 false ones, independent or with one noise for all."""
        rng, repeats = np.random.default_rng(4), 4000
        noise = shared * rng.normal(size=(repeats, 1)) + math.sqrt(1 - shared**2) * rng.normal(
            size=(repeats, 20)
        )
        noise[:, 12:] += 5
        p_values = 2 * stats.norm.sf(np.abs(noise))
        adjusted = np.array([holm(row) for row in p_values])
        wrong = np.mean(adjusted[:, :12].min(axis=1) < 0.05)
        assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / repeats)
        assert np.mean(p_values[:, :12].min(axis=1) < 0.05) > 0.1
        assert np.mean(adjusted[:, 12:] < 0.05) > 0.9


class TestSlope:
    def test_matches_a_polynomial_fit(self):
        x, y = np.random.default_rng(0).normal(size=(2, 20))
        assert slope(x, y) == pytest.approx(np.polyfit(x, y, 1)[0])

    def test_undefined(self):
        assert math.isnan(slope([1, 1], [1, 2]))
        assert math.isnan(slope([1, 2], [1, math.nan]))
        with pytest.raises(ValueError, match="equal vectors"):
            slope([1, 2], [1])


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


class TestIntercept:
    def test_is_that_of_the_line(self):
        assert intercept([1.0, 2.0], [3.0, 5.0]) == pytest.approx(1)
        assert intercept([1.0, 2.0, 3.0], [1.0, 0.0, 2.0]) == pytest.approx(0)
        assert math.isnan(intercept([1.0, 1.0], [3.0, 5.0]))


class TestVarianceShares:
    def test_recovers_the_components_of_a_crossed_design(self):
        """By simulation: variances 4 of rows, 1 of columns and 1 of the rest."""
        rng = np.random.default_rng(0)
        rows, columns = 2 * rng.standard_normal((400, 1)), rng.standard_normal((1, 300))
        found = variance_shares(rows + columns + rng.standard_normal((400, 300)))
        assert found.rows == pytest.approx(4 / 6, abs=0.05)
        assert found.columns == pytest.approx(1 / 6, abs=0.04)
        assert found.rows + found.columns + found.rest == pytest.approx(1)

    def test_one_factor_alone(self):
        table = np.array([[1.0, 1.0, 1.0], [4.0, 4.0, 4.0]])
        assert variance_shares(table) == VarianceShares(1.0, 0.0, 0.0)
        assert variance_shares(table.T) == VarianceShares(0.0, 1.0, 0.0)

    def test_nothing_varies(self):
        assert math.isnan(variance_shares(np.ones((2, 2))).rows)

    @pytest.mark.parametrize("bad", [np.ones((1, 3)), np.ones(4), np.array([[1, np.nan], [1, 2]])])
    def test_refuses(self, bad):
        with pytest.raises(ValueError, match="two by two"):
            variance_shares(bad)


class TestScales:
    """Statistics do not depend on the unit, and none is told where it cannot be known."""

    @pytest.mark.parametrize("power", [-300, -200, 200, 300])
    def test_an_interval_has_the_unit_of_its_values(self, power):
        unit = 10.0**power
        plain, other = (t_interval(np.array([1.0, 2.0, 3.0]) * u) for u in (1.0, unit))
        assert other.low == pytest.approx(plain.low * unit, rel=1e-12)
        assert other.high == pytest.approx(plain.high * unit, rel=1e-12)
        assert judge_mean([unit, 2 * unit, 3 * unit], (2.5 * unit, math.inf)).verdict == "straddles"

    @pytest.mark.parametrize("power", [-200, 200])
    def test_slopes_and_shares_do_not_overflow(self, power):
        unit, y = 10.0**power, np.array([1.0, 2.0, 3.5])
        assert slope([unit, 2 * unit, 3 * unit], y) == pytest.approx(slope([1, 2, 3], y) / unit)
        assert slope([1, 2, 3], y * unit) == pytest.approx(slope([1, 2, 3], y) * unit)
        table = np.array([[1.0, 2.0, 4.0], [2.0, 3.5, 4.5], [3.0, 3.0, 7.0]])
        one, other = variance_shares(table), variance_shares(table * unit)
        assert (other.rows, other.columns) == pytest.approx((one.rows, one.columns))

    def test_a_bound_that_no_number_holds_is_infinite(self):
        assert log_interval([1e-300, 1e300]).high == math.inf
        found = log_interval([1e306, 1.1e306, 1.2e306])
        assert found.low < found.statistic < found.high

    def test_nothing_varies_but_rounding(self):
        shares = variance_shares(np.full((3, 3), 0.1))
        assert all(math.isnan(each) for each in (shares.rows, shares.columns, shares.rest))

    @pytest.mark.parametrize("confidence", [0.95, 0.999, 0.9999])
    def test_a_bounded_mean_of_zeros_is_clopper_and_pearson_s_at_any_confidence(self, confidence):
        found = bounded_interval([0.0] * 5, (0, 1), confidence).high
        assert found == pytest.approx(share_interval(0, 5, confidence).high, rel=0.02)

    @pytest.mark.parametrize(
        "call",
        [
            lambda: bounded_interval([0.5], (0, 1), 0.99999),
            lambda: bounded_interval([0.5], (0, math.nan)),
            lambda: bounded_interval([1.5], (1, math.inf)),
            lambda: bounded_interval([0.5], (1, 0)),
            lambda: bounded_tail([0.5, math.nan], (0, 1), 0.6),
            lambda: bounded_tail([0.5, 3], (0, 1), 0.6),
            lambda: bounded_tail([0.5], (0, 1), math.nan),
            lambda: share_interval(2.5, 5),
            lambda: share_interval(2, 5.5),
            lambda: t_interval(np.ma.array([1, 2, 1e9], mask=[0, 0, 1])),
            lambda: holm([0.01, math.nan]),
            lambda: holm([-0.01, 0.5]),
            lambda: holm([[0.01, 0.5]]),
        ],
    )
    def test_what_is_no_number_of_its_kind_is_refused(self, call):
        with pytest.raises(ValueError, match=r"must|is no share|NaN|outside|known up to"):
            call()

    def test_a_support_may_be_a_list(self):
        tuples = judge_mean([1.0, 1.1, 1.2], (0.9, 1.5), (0, math.inf))
        lists = judge_mean([1.0, 1.1, 1.2], (0.9, 1.5), [0, math.inf])
        assert (tuples.verdict, tuples.interval) == (lists.verdict, lists.interval)
