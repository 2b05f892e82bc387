"""Rates of decay and growth, upward passages, and what the end of a run may do to a stride."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpflow.results.crossings import up_crossing_indices, up_crossings
from sharpflow.results.curves import resolves_alternation, two_step_average
from sharpflow.results.rates import accumulated, decay_rate, decay_window, growth_rates


def test_rates_add_up_by_the_trapezoidal_rule():
    steps = np.array([0, 1, 4, 9, 20])
    np.testing.assert_allclose(
        accumulated(steps, 3 - 0.1 * steps).cumsum(), [2.95, 11.2, 22.95, 40]
    )
    both = np.stack([np.ones(5), 2 * np.ones(5)], axis=1)
    np.testing.assert_allclose(accumulated(steps, both).sum(0), [20, 40])


class TestDecay:
    @given(rate=st.floats(0.01, 0.3), stride=st.integers(1, 3))
    def test_rate_of_an_exponential(self, rate, stride):
        steps = np.arange(0, 60 / rate, stride)
        share = np.exp(-rate * steps)
        enough = int(((share < 0.9) & (share >= 0.3)).sum()) >= 5
        found = decay_rate(steps, share)
        assert found == pytest.approx(rate, rel=1e-9) if enough else np.isnan(found)

    def test_window_is_between_the_shares(self):
        steps = np.arange(0, 1000, 10)
        share = 1 - steps / 1000
        times, logs = decay_window(steps, share, 0.8, 0.25)
        assert (times[0], times[-1]) == (210, 750)
        np.testing.assert_allclose(logs, np.log(share[21:76]))

    def test_what_does_not_come_down_has_no_rate(self):
        steps = np.arange(100)
        assert np.isnan(decay_rate(steps, np.full(100, 0.95)))
        assert np.isnan(decay_rate(steps, 1 - 0.006 * steps))
        assert np.isnan(decay_rate(steps[:5], [1, 0.8, 0.5, 0.2, 0.1]))

    def test_divergence_ends_the_curve(self):
        steps = np.arange(200)
        share = np.exp(-0.02 * steps)
        share[40:] = np.nan
        assert np.isnan(decay_rate(steps, share))
        assert decay_rate(steps, share, lower=0.5) == pytest.approx(0.02)

    @pytest.mark.parametrize("lower", [0.0, -1.0, 0.9, 1.2])
    def test_shares_out_of_order(self, lower):
        with pytest.raises(ValueError, match="lower is"):
            decay_rate([0, 1], [1, 0.5], lower=lower)


class TestGrowth:
    def test_slopes_over_the_earliest_crossing(self):
        steps = np.arange(0, 300, 3)
        bent = np.where(steps < 60, 2.0 * steps, 120 + 9.0 * (steps - 60))
        rates = growth_rates([(steps, 5.0 * steps), (steps, bent)], [300, 300])
        # The first crosses at step 60, before the second bends.
        np.testing.assert_allclose(rates, [5.0, 2.0])

    def test_each_has_its_own_threshold(self):
        steps = np.arange(100)
        bent = np.where(steps < 50, 1.0 * steps, 50.0)
        rates = growth_rates([(steps, bent), (steps, 0.1 * steps)], [40, 1e3])
        np.testing.assert_allclose(rates, [1.0, 0.1])

    def test_undefined_on_a_short_horizon_or_without_a_curve(self):
        steps = np.arange(100)
        early = growth_rates([(steps, 100.0 * steps), (steps, 1.0 * steps)], [400, 400])
        assert np.isnan(early).all()
        gone = growth_rates([(steps, np.full(100, np.nan)), (steps, 1.0 * steps)], [400, 400])
        assert np.isnan(gone).all()
        assert growth_rates([], []).size == 0

    def test_as_many_thresholds_as_curves(self):
        with pytest.raises(ValueError):
            growth_rates([([0, 1], [1, 2])], [])


def test_up_crossing_indices_are_where_the_average_reaches_the_threshold():
    steps = np.arange(400)
    curve = 100 + 20 * np.sin(2 * np.pi * (steps - 20.5) / 100)
    found = up_crossing_indices(curve, 100)
    averaged = two_step_average(curve)
    assert found.tolist() == [20, 120, 220, 320]
    assert np.all(averaged[found] >= 100 - 1e-9)
    assert np.all(averaged[found - 1] < 100)
    assert up_crossings(curve, 100) == 4


def test_the_end_of_a_run_may_break_an_odd_stride():
    assert resolves_alternation([*range(0, 200, 3), 200])
    assert not resolves_alternation([0, 3, 5, 8])
    assert not resolves_alternation([0, 2])
    assert not resolves_alternation([*range(0, 200, 10), 199])
