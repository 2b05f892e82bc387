"""The stability threshold with momentum, from the roots of the update on a quadratic."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shards import found, shard, trained

MODEL = {"kind": "mlp"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.floats(0.0, 0.98), st.floats(1e-4, 1e2))
def test_it_divides_stable_from_unstable_curvatures(make_dataset, beta, rate):
    problem = shard(make_dataset(), MODEL, {"momentum": beta}, learning_rate=rate)
    for factor, stable in ((0.999, True), (1.001, False)):
        curvature = factor * problem.stability_threshold
        # θ⁺ = θ + β (θ - θ⁻) - ηλ θ
        roots = np.roots([1.0, -(1.0 + beta - rate * curvature), beta])
        assert (np.abs(roots).max() < 1.0) == stable


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_table_names_it_where_it_is_not_two_over_the_learning_rate(make_dataset, beta):
    trajectory, _ = trained(shard(make_dataset(), MODEL, {"momentum": beta}))
    named = found(trajectory.table, "stability_threshold", 1, 0)
    expected = [3.0 / 0.05] if beta else []
    torch.testing.assert_close(named, torch.tensor(expected, dtype=named.dtype))
