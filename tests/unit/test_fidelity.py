"""A publication's curves beside ours: what is read off a run, and the table of it."""

import numpy as np
import pandas as pd
import pytest
from synthetic_runs import THRESHOLD, rows

from sharpflow import fidelity
from sharpflow.results.description import describe
from sharpflow.results.runs import runs_of

STEPS = np.arange(500)


def curves(seed: int = 0) -> dict[str, np.ndarray]:
    """Λ rises to 2/η at step 100 and swings about it with period 80; the loss falls."""
    swing = 1 + 0.2 * np.sin(2 * np.pi * (STEPS - 100) / 80)
    ratio = np.where(STEPS < 100, 0.25 + 0.0075 * STEPS, swing) + 0.001 * seed
    loss = np.exp(-STEPS / 300)
    return {
        "gauss_newton_sharpness": THRESHOLD * ratio,
        "loss": loss,
        "output_norm_squared": 0.3 + np.where(STEPS < 100, ratio, 2 - ratio),
        "rest_norm_squared": loss,
        "samples": np.array([1000]),
    }


def described(shown=400, loss_at=499, **changes):
    (run,) = runs_of(rows(curves() | changes, steps=STEPS), {})
    return describe(run, shown, loss_at)


def test_what_is_read_off_a_run():
    found = described()
    assert found["threshold"] == THRESHOLD
    assert found["initial sharpness"] == pytest.approx(100)
    assert found["first crossing"] in (100, 101)
    assert found["peak"] == pytest.approx(1.2, abs=1e-3)
    assert found["least after the crossing"] == pytest.approx(0.8, abs=1e-3)
    assert found["mean after the crossing"] == pytest.approx(1, abs=0.02)
    assert found["crossings upwards"] == 4
    assert found["anomalies before the crossing"] == 0
    # ‖A‖² moves against Λ at every step from the crossing on.
    assert found["share of anomalies"] == pytest.approx(300 / 400, abs=0.01)
    assert found["loss at the end"] == pytest.approx(np.exp(-499 / 300))
    assert found["share of falls of the loss"] == 1


def test_only_what_is_shown_is_read():
    assert described(shown=50)["peak"] == pytest.approx(0.25 + 0.0075 * 50)
    assert np.isnan(described(shown=50)["first crossing"])
    assert np.isnan(described(shown=50)["mean after the crossing"])
    assert described(shown=50)["share of anomalies"] == 0


PUBLISHED = {
    "loss_at": 499,
    "networks": {
        "tanh": {"shown": 400, "values": {"peak": 1.3, "first crossing": 100, "threshold": 400}},
        "relu": {"shown": 400, "values": {"peak": 1.2}},
    },
}


def table(cases, make=curves):
    parts = [rows(make(s), case=case, seed=s, steps=STEPS) for case in cases for s in range(3)]
    return pd.concat(parts), {case: {} for case in cases}


def written(cases, make=curves):
    return list(fidelity.rows(PUBLISHED, *table(cases, make)))


def test_every_published_value_is_a_row_of_every_case_of_its_network():
    lines = written(["tanh", "tanh_two_classes", "relu"])
    assert len(lines) == 2 + 2 * 3 + 1
    (peak,) = [line for line in lines if "| peak | 1.3 | `tanh` |" in line]
    mean, spread = 1.2 + 0.001, 0.001
    assert f"{mean:.4g}" in peak
    assert f"{(1.3 - mean) / spread:+.0f}" in peak.replace(".0", "")


def test_equal_values_have_no_distance_in_spreads():
    lines = written(["tanh"])
    (row,) = [line for line in lines if "threshold" in line]
    assert row.endswith("| 0 | – |")


def test_runs_without_a_value_are_counted():
    def make(seed):
        low = curves(seed)["gauss_newton_sharpness"] * (0.5 if seed == 1 else 1)
        return curves(seed) | {"gauss_newton_sharpness": low}

    lines = written(["tanh"], make)
    (row,) = [line for line in lines if "first crossing" in line]
    assert "(1 of 3 have none)" in row


def test_shares_of_the_variance():
    def make(seed):
        return curves(5 * seed)

    lines = list(fidelity.shares(PUBLISHED, *table(["tanh", "relu"], make)))
    (peak,) = [line for line in lines if "peak" in line]
    # Both cases are alike, and the seeds differ: all of it is the start's.
    assert [cell.strip() for cell in peak.split("|")[3:6]] == ["0 %", "100 %", "0 %"]
