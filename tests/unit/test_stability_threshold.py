"""The stability threshold with momentum, from the roots of the update on a quadratic."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shards import shard, trained

MODEL = {"kind": "mlp"}


def heavy_ball(momentum):
    """The update rule with that momentum."""
    return {"kind": "heavy_ball", "momentum": momentum}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.floats(0.0, 0.98), st.floats(1e-4, 1e2))
def test_it_divides_stable_from_unstable_curvatures(make_dataset, beta, rate):
    problem = shard(make_dataset(), MODEL, optimiser=heavy_ball(beta), learning_rate=rate)
    threshold = problem.threshold(problem.initial_state(), 0)
    for factor, stable in ((0.999, True), (1.001, False)):
        curvature = factor * threshold
        # θ⁺ = θ + β (θ - θ⁻) - ηλ θ
        roots = np.roots([1.0, -(1.0 + beta - rate * curvature), beta])
        assert (np.abs(roots).max() < 1.0) == stable


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_table_has_it_at_every_recorded_step(make_dataset, beta):
    problem = shard(make_dataset(), MODEL, {"record_every": 4}, optimiser=heavy_ball(beta))
    table = trained(problem)[0].table
    named = table[(table["quantity"] == "stability_threshold") & (table["seed"] == 1)]
    assert named["step"].tolist() == [0, 4, 8, 10]
    assert named["value"].tolist() == pytest.approx([(2 + 2 * beta) / 0.05] * 4)
