import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sharpflow.results.crossings import (
    first_crossing,
    first_cycle_end,
    plateau,
    rising_trend,
    sharpness_summary,
    up_crossings,
)
from sharpflow.results.curves import (
    falling_share,
    finite_prefix,
    kendall_tau,
    rank_correlation,
    resolves_alternation,
    running_mean,
    two_step_average,
)
from sharpflow.results.phases import WINDOW, cycles, phase_exits, phase_randomised, phases
from sharpflow.results.residual import (
    anomaly_points,
    residual_split,
    sign_agreement,
    spike_coincidence,
    spikes,
)

THRESHOLD = 400.0
NAN = float("nan")


def climb(steps: int = 100, end: float = THRESHOLD) -> np.ndarray:
    return np.linspace(100, end, steps, endpoint=False)


def alternation(steps: int, centre: float = THRESHOLD, size: float = 24) -> np.ndarray:
    return centre + size * (-1.0) ** np.arange(steps)


def relaxation(periods: int = 8, period: int = 120) -> np.ndarray:
    """A slow climb from below the threshold, a short spike and a fall, again and again."""
    up = np.linspace(370, 400, period - 30, endpoint=False)
    spike = 400 + 80 * np.sin(np.linspace(0, np.pi, 20, endpoint=False))
    down = np.linspace(400, 370, 10, endpoint=False)
    return np.tile(np.concatenate([up, spike, down]), periods)


random_walks = st.lists(st.integers(-60, 60), min_size=2, max_size=120).map(
    lambda moves: THRESHOLD + np.cumsum(np.array(moves, dtype=float))
)


class TestCurves:
    def test_two_step_average_cancels_an_alternation_exactly(self):
        np.testing.assert_array_equal(two_step_average(alternation(9)), np.full(8, THRESHOLD))

    def test_differences_of_averages_stay_within_a_branch(self):
        curve = np.random.default_rng(0).normal(size=30)
        np.testing.assert_allclose(
            np.diff(two_step_average(curve)), (curve[2:] - curve[:-2]) / 2, atol=1e-15
        )

    def test_running_mean_matches_a_loop_and_is_empty_when_too_short(self):
        curve = np.random.default_rng(1).normal(size=40)
        expected = [curve[i : i + 6].mean() for i in range(35)]
        np.testing.assert_allclose(running_mean(curve, 6), expected, atol=1e-14)
        assert running_mean(curve, 41).size == 0
        with pytest.raises(ValueError, match="window is 0"):
            running_mean(curve, 0)

    def test_finite_prefix_cuts_all_curves_at_the_first_bad_entry(self):
        first, second = finite_prefix([1, 2, 3, NAN, 5], [1, 2, np.inf, 4, 5])
        np.testing.assert_array_equal(first, [1, 2])
        np.testing.assert_array_equal(second, [1, 2])
        with pytest.raises(ValueError, match="lengths"):
            finite_prefix([1, 2], [1])
        with pytest.raises(ValueError, match="one-dimensional"):
            finite_prefix([[1, 2]])

    @pytest.mark.parametrize(
        ("steps", "expected"),
        [([0, 1, 2], True), ([0, 3, 6], True), ([0, 10, 20], False), ([0, 1, 11], False), ([5], 0)],
    )
    def test_resolves_alternation_needs_odd_strides(self, steps, expected):
        assert resolves_alternation(steps) is bool(expected)

    def test_an_even_stride_cannot_see_an_alternation_and_an_odd_one_can(self):
        curve = alternation(300)
        assert two_step_average(curve[::10]).mean() == THRESHOLD + 24
        assert two_step_average(curve[::3]).mean() == THRESHOLD

    def test_falling_share(self):
        assert falling_share([3, 2, 1, NAN]) == 1
        assert falling_share(alternation(101)) == 0.5
        assert falling_share([1, 1, 1]) == 0
        assert np.isnan(falling_share([1]))

    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=40))
    def test_rank_correlation_is_spearmans(self, pairs):
        a, b = np.array(pairs, dtype=float).T
        if np.ptp(a) == 0 or np.ptp(b) == 0:
            assert rank_correlation(a, b) == 0
        else:
            assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b)[0], abs=1e-12)

    @given(st.lists(st.integers(0, 50), min_size=2, max_size=20, unique=True), st.randoms())
    def test_kendall_tau_is_scipys_where_nothing_is_tied(self, first, random):
        second = random.sample(first, len(first))
        expected = stats.kendalltau(first, second)[0]
        assert kendall_tau(first, second) == pytest.approx(expected, abs=1e-12)

    def test_kendall_tau_counts_a_tie_as_neither(self):
        assert kendall_tau([1, 2, 3], [5, 5, 5]) == 0
        assert kendall_tau([1, 2, 3], [5, 5, 6]) == pytest.approx(2 / 3)
        assert np.isnan(kendall_tau([1], [2]))
        assert np.isnan(kendall_tau([1, 2], [2, np.inf]))
        with pytest.raises(ValueError, match="2 and 1 entries"):
            kendall_tau([1, 2], [1])


class TestCrossings:
    def test_first_crossing_counts_equality_and_stops_at_divergence(self):
        assert first_crossing([1, 2, 3, 4], 3) == 2
        assert first_crossing([5, 1], 3) == 0
        assert first_crossing([1, 2], 3) is None
        assert first_crossing([1, NAN, 9], 3) is None
        assert first_crossing([], 3) is None
        with pytest.raises(ValueError, match="threshold is 0"):
            first_crossing([1], 0)

    def test_up_crossings_of_a_sine_are_its_periods(self):
        t = np.arange(1000)
        sine = THRESHOLD + 40 * np.sin(2 * np.pi * (t - 20) / 100)
        assert up_crossings(sine, THRESHOLD) == 10

    def test_up_crossings_ignore_alternation_and_small_noise(self):
        assert up_crossings(alternation(400), THRESHOLD) == 0
        noise = THRESHOLD * (1 + 0.01 * np.sin(np.arange(400)))
        assert up_crossings(np.concatenate([climb(), noise]), THRESHOLD) == 0
        raw = THRESHOLD * (1 + 0.01 * np.sin(np.arange(400) / 5))
        assert up_crossings(raw, THRESHOLD, hysteresis=0) > 5

    def test_first_cycle_ends_on_the_return_below_the_threshold(self):
        spike = THRESHOLD + 100 * np.sin(np.linspace(0, np.pi, 40, endpoint=False))
        curve = np.concatenate([climb(), spike, np.full(50, 380.0)])
        end = first_cycle_end(curve, THRESHOLD)
        assert first_crossing(curve, THRESHOLD) == 100
        assert end == pytest.approx(139, abs=1)
        assert curve[end : end + 2].mean() < THRESHOLD

    def test_first_cycle_survives_an_alternating_spike(self):
        spike = THRESHOLD + 100 * np.sin(np.linspace(0, np.pi, 40, endpoint=False))
        spike = spike + alternation(40, 0, 60)
        curve = np.concatenate([climb(), spike, alternation(60, 380, 30)])
        assert np.any(curve[100:135] < THRESHOLD)
        assert first_cycle_end(curve, THRESHOLD) == pytest.approx(138, abs=3)

    def test_a_slide_onto_the_plateau_leaves_nothing_out(self):
        curve = np.concatenate([climb(), np.full(100, 402.0)])
        assert first_cycle_end(curve, THRESHOLD) == 100

    def test_only_the_upper_branch_reaches_the_threshold(self):
        curve = np.concatenate([climb(end=380), alternation(100, 390, 20)])
        assert first_cycle_end(curve, THRESHOLD) == first_crossing(curve, THRESHOLD) == 100

    def test_never_crossing_has_no_first_cycle(self):
        assert first_cycle_end(climb(), THRESHOLD) is None

    def test_plateau_leaves_out_the_spike_and_cancels_alternation(self):
        spike = np.full(30, 900.0)
        curve = np.concatenate([climb(), spike, alternation(201, 396, 24)])
        assert plateau(curve, THRESHOLD) == pytest.approx(396, abs=0.2)

    def test_plateau_of_a_net_that_hovers_below_is_its_level(self):
        curve = np.concatenate([climb(end=320), np.full(300, 320.0)])
        assert plateau(curve, THRESHOLD) == 320

    def test_plateau_undefined_for_divergence_and_late_crossing(self):
        assert np.isnan(plateau([100, 500, 390, 410, NAN], THRESHOLD))
        late = np.concatenate([climb(), np.full(10, 401.0)])
        assert np.isnan(plateau(late, THRESHOLD, minimum=50))
        assert plateau(late, THRESHOLD) == 401

    def test_rising_trend(self):
        dip = np.concatenate([np.linspace(332, 214, 20), np.linspace(214, 420, 60)])
        assert rising_trend(dip, THRESHOLD) == pytest.approx(1, abs=1e-3)
        falling = np.linspace(390, 200, 100)
        assert rising_trend(falling, THRESHOLD) == pytest.approx(-1)
        assert rising_trend(np.append(falling, 500), THRESHOLD) < 0
        assert rising_trend(np.full(50, 300.0), THRESHOLD) == 0
        assert np.isnan(rising_trend([500, 400, 300], THRESHOLD))

    def test_rising_trend_ignores_what_follows_the_crossing(self):
        curve = np.concatenate([climb(), np.full(1, THRESHOLD), np.linspace(400, 0, 300)])
        assert rising_trend(curve, THRESHOLD) == pytest.approx(1)

    def test_summary_of_a_strided_diverging_curve(self):
        steps = np.arange(0, 30, 3)
        values = [100, 200, 420, 420, 380, 380, 400, 400, NAN, NAN]
        summary = sharpness_summary(steps, values, THRESHOLD)
        assert summary.first_crossing == 6
        assert summary.peak == 420 / 400
        assert summary.lowest_after == 380 / 400
        assert summary.up_crossings == 1
        assert summary.end_mean == pytest.approx((380 + 390 + 400) / 3 / 400)
        assert summary.end_spread == pytest.approx(10 / 400)

    def test_summary_of_a_curve_that_diverged_at_once(self):
        summary = sharpness_summary([0, 1], [NAN, NAN], THRESHOLD)
        assert np.isnan([summary.first_crossing, summary.peak, summary.end_spread]).all()
        assert summary.up_crossings == 0


class TestPhases:
    def test_a_sine_goes_through_the_phases_in_order(self):
        t = np.arange(400)
        curve = THRESHOLD - 60 * np.cos(2 * np.pi * t / 200)
        labels = phases(curve, THRESHOLD, window=1)
        quarters = [labels[10:45], labels[55:95], labels[110:145], labels[155:195]]
        assert [set(quarter.tolist()) for quarter in quarters] == [{1}, {2}, {3}, {4}]
        exits = phase_exits(labels)
        np.testing.assert_array_equal(
            exits, [[0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 2], [1, 0, 0, 0]]
        )

    def test_alternation_on_top_changes_nothing(self):
        t = np.arange(400)
        curve = THRESHOLD - 60 * np.cos(2 * np.pi * t / 200)
        shaken = curve + 50 * (-1.0) ** t
        np.testing.assert_array_equal(
            phase_exits(phases(shaken, THRESHOLD)), phase_exits(phases(curve, THRESHOLD))
        )

    def test_small_wobbles_within_the_hysteresis_are_no_exits(self):
        t = np.arange(600)
        curve = THRESHOLD * (1 + 0.008 * np.sin(t / 15))
        assert phase_exits(phases(curve, THRESHOLD)).sum() == 0
        assert phase_exits(phases(curve, THRESHOLD, hysteresis=0)).sum() > 10

    def test_turning_back_below_the_threshold_is_an_exit_out_of_order(self):
        curve = np.concatenate([np.linspace(300, 390, 50), np.linspace(390, 300, 50)])
        exits = phase_exits(phases(curve, THRESHOLD, window=2))
        assert exits[0, 3] == exits.sum() == 1

    @given(random_walks, st.sampled_from([1, 2, 6]), st.sampled_from([0.0, 0.02, 0.1]))
    def test_forced_exits_are_forced(self, curve, window, hysteresis):
        exits = phase_exits(phases(curve, THRESHOLD, window, hysteresis))
        assert exits[1, 0] == exits[3, 2] == 0
        assert exits[0, 2] == exits[2, 0] == 0

    def test_a_jump_past_the_threshold_skips_a_phase(self):
        labels = phases([390.0, 400, 410, 390, 380, 410], THRESHOLD, window=1, hysteresis=0)
        np.testing.assert_array_equal(labels, [1, 2, 2, 4, 4, 2])

    @given(random_walks, st.integers(-20, 20))
    def test_scaling_curve_and_threshold_together_changes_nothing(self, curve, power):
        scale = 2.0**power
        np.testing.assert_array_equal(
            phases(curve, THRESHOLD), phases(curve * scale, THRESHOLD * scale)
        )
        assert first_cycle_end(curve, THRESHOLD) == first_cycle_end(
            curve * scale, THRESHOLD * scale
        )
        assert up_crossings(curve, THRESHOLD) == up_crossings(curve * scale, THRESHOLD * scale)

    def test_divergence_shortens_the_labels(self):
        curve = np.concatenate([climb(), [NAN] * 20])
        assert phases(curve, THRESHOLD).size == 100 - WINDOW + 1
        assert phases([NAN] * 5, THRESHOLD).size == 0

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="window is 5"):
            phases(climb(), THRESHOLD, window=5)
        with pytest.raises(ValueError, match="hysteresis is 1"):
            phases(climb(), THRESHOLD, hysteresis=1)
        with pytest.raises(ValueError, match="phases are 1 to 4"):
            phase_exits([0, 1])

    @settings(deadline=None)
    @given(st.integers(1, 200), st.integers(0, 100))
    def test_surrogates_keep_mean_and_spectrum(self, length, seed):
        curve = np.random.default_rng(seed).normal(3, 1, size=length)
        surrogate = phase_randomised(curve, np.random.default_rng(seed + 1))
        assert surrogate.shape == curve.shape
        np.testing.assert_allclose(
            np.abs(np.fft.rfft(surrogate)), np.abs(np.fft.rfft(curve)), atol=1e-10
        )
        assert surrogate.mean() == pytest.approx(curve.mean())

    def test_surrogates_differ_and_repeat_with_the_seed(self):
        curve = np.random.default_rng(0).normal(size=64)
        first = phase_randomised(curve, np.random.default_rng(5))
        np.testing.assert_array_equal(first, phase_randomised(curve, np.random.default_rng(5)))
        assert np.abs(first - curve).max() > 0.5

    def test_relaxation_cycles_are_in_order_more_often_than_surrogates(self):
        result = cycles(relaxation(), THRESHOLD, np.random.default_rng(0), surrogates=30)
        assert result.in_order == 1
        assert result.free_exits >= 14
        assert result.excess > 0.05

    def test_a_surrogate_of_noise_does_as_well_as_the_noise(self):
        rng = np.random.default_rng(3)
        noise = np.convolve(rng.normal(0, 100, 4060), np.ones(60) / 60, "valid") + THRESHOLD
        result = cycles(noise, THRESHOLD, np.random.default_rng(0), surrogates=20)
        assert abs(result.excess) < 0.15
        assert 0 < result.in_order < 1

    def test_cycles_of_a_constant_are_undefined(self):
        result = cycles(np.full(200, 401.0), THRESHOLD, np.random.default_rng(0), surrogates=3)
        assert result.free_exits == 0
        assert np.isnan(result.in_order)
        assert np.isnan(result.excess)


class TestResidual:
    def test_split_is_an_identity_and_keeps_nan(self):
        rng = np.random.default_rng(0)
        residual = rng.normal(size=(5, 40))
        top = rng.normal(size=(5, 40))
        top /= np.linalg.norm(top, axis=1, keepdims=True)
        along = np.einsum("ti,ti->t", residual, top)
        rest = residual - along[:, None] * top
        split = residual_split((residual**2).sum(axis=1), along, 40)
        np.testing.assert_allclose(split.rest, (rest**2).sum(axis=1) / 40, rtol=1e-12)
        np.testing.assert_allclose(split.loss, split.along + split.rest, rtol=1e-12)
        assert np.isnan(residual_split([1.0, NAN], [1.0, 1.0], 2).rest[1])
        with pytest.raises(ValueError, match="samples is 0"):
            residual_split([1.0], [1.0], 0)
        with pytest.raises(ValueError, match="lengths 1 and 2"):
            residual_split([1.0], [1.0, 2.0], 2)

    def test_anomaly_points_are_opposite_signs(self):
        norm, sharpness = [1, 2, 3, 3, 2, NAN], [5, 6, 5, 6, 7, 8]
        np.testing.assert_array_equal(anomaly_points(norm, sharpness), [False, True, False, True])

    def test_averages_restore_an_agreement_that_alternation_hides(self):
        t = np.arange(300)
        norm = 10 + np.sin(t / 40)
        sharpness = 400 + 50 * np.sin(t / 40) + 30 * (-1.0) ** t
        assert sign_agreement(norm, sharpness) == pytest.approx(0.5, abs=0.02)
        assert sign_agreement(norm, sharpness, averaged=True) > 0.95
        assert np.isnan(sign_agreement([1, 1, 1], [1, 2, 3]))

    @given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=40))
    def test_agreement_and_anomalies_account_for_every_moving_step(self, pairs):
        a, b = np.array(pairs, dtype=float).T
        moving = np.count_nonzero((np.diff(a) != 0) & (np.diff(b) != 0))
        anomalies = np.count_nonzero(anomaly_points(a, b))
        if moving:
            assert sign_agreement(a, b) == pytest.approx(1 - anomalies / moving)
        else:
            assert anomalies == 0

    def test_spikes_are_found_at_any_level_of_a_decaying_curve(self):
        t = np.arange(400)
        bumps = sum(np.exp(-(((t - c) / 6) ** 2)) for c in (80, 200, 320))
        curve = np.exp(-t / 200) * (1 + 0.5 * bumps)
        np.testing.assert_allclose(spikes(curve), [80, 200, 320], atol=3)
        np.testing.assert_array_equal(spikes(curve), spikes(curve * 1e-12))
        assert spikes(np.exp(-t / 200)).size == 0
        assert spikes(1 + 0.5 * (-1.0) ** t).size == 0
        with pytest.raises(ValueError, match="non-negative"):
            spikes([1.0, -1.0])

    def test_spikes_coincide_with_the_part_along_v1(self):
        t = np.arange(500)
        along = sum(np.exp(-(((t - c) / 5) ** 2)) for c in (60, 190, 300, 430)) + 0.01
        loss = np.exp(-t / 300) + along
        result = spike_coincidence(loss, along)
        assert (result.share, result.spikes) == (1, 4)
        assert result.null == pytest.approx(4 * 11 / 499)
        elsewhere = spike_coincidence(loss, np.roll(along, 40))
        assert elsewhere.share == 0
        assert elsewhere.excess < 0

    def test_the_null_is_the_mean_over_all_circular_shifts(self):
        rng = np.random.default_rng(2)
        loss, along = np.exp(rng.normal(size=(2, 61)))
        times, others = spikes(loss), spikes(along)
        shifted = []
        for shift in range(60):
            gap = np.abs(times[:, None] - (others + shift) % 60)
            shifted.append((np.minimum(gap, 60 - gap) <= 2).any(axis=1).mean())
        assert spike_coincidence(loss, along, tolerance=2).null == pytest.approx(np.mean(shifted))

    def test_spiking_everywhere_coincides_with_nothing_in_particular(self):
        t = np.arange(401)
        loss = 1 + sum(np.exp(-(((t - c) / 5) ** 2)) for c in (100, 300))
        result = spike_coincidence(loss, 2 + np.sin(2 * np.pi * t / 8))
        assert result.share == 1
        assert result.excess == pytest.approx(0)

    def test_a_loss_without_spikes_is_undefined(self):
        result = spike_coincidence(np.exp(-np.arange(50) / 9), np.ones(50))
        assert np.isnan(result.share)
        assert result.spikes == 0
