"""Values as text, and the table of sharpness in numbers."""

import re

import numpy as np
import pandas as pd
import pytest

from sharpflow.figures.base import ExperimentTable
from sharpflow.report import build, settings_digest, sharpness_table
from sharpflow.report.text import anchor, band, flatten, number


def test_anchors_are_safe_and_distinct():
    names = ["a b", "a-b", 'a"b', "a<b", "ä", "", "Λ"]
    anchors = [anchor("figure", name) for name in names]
    assert len(set(anchors)) == len(names)
    assert all(re.fullmatch("[A-Za-z0-9_-]+", text) for text in anchors)


def test_digest_follows_the_settings_and_not_their_order():
    assert settings_digest({"a": 1, "b": 2}) == settings_digest({"b": 2, "a": 1})
    assert settings_digest({"a": 1}) != settings_digest({"a": 2})
    assert re.fullmatch("[0-9a-f]{16}", settings_digest({}))


def test_settings_are_flattened_in_order():
    given = {"b": {"x": 1, "y": {"z": [1, 2]}}, "a": None, "c": True, "d": {}, "e": []}
    assert list(flatten(given)) == [
        ("b.x", "1"),
        ("b.y.z", "1, 2"),
        ("a", "(none)"),
        ("c", "true"),
        ("d", "(none)"),
        ("e", "(none)"),
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.5678, "1,235"),
        (-0.5, "−0.5"),
        (-3.0, "−3"),
        (1.5e-7, "1.5e−07"),
        (float("inf"), "∞"),
        (np.int64(1200), "1,200"),
        (True, "yes"),
        (None, "–"),
        (pd.NA, "–"),
        ("tanh", "tanh"),
    ],
)
def test_numbers_as_text(value, text):
    assert number(value) == text


def test_bands_as_text():
    assert band(0.9, 1.1) == "0.9 to 1.1"
    assert band(-np.inf, 0.03) == "≤ 0.03"
    assert band(0.5, np.nan) == "≥ 0.5"
    assert band(np.nan, np.nan) == "–"


def test_sharpness_table_of_a_known_curve():
    steps = np.arange(300)
    rows = []
    for seed, peak in enumerate([1.2, 1.3, 1.4]):
        values = np.interp(steps, [0, 100, 150, 200, 299], [50, 100, 100 * peak, 80, 80])
        rows.append(pd.DataFrame({"seed": seed, "step": steps * 2, "value": values}))
    runs = pd.concat(rows, ignore_index=True).assign(
        case="tanh", width=8, learning_rate=0.02, quantity="gauss_newton_sharpness", index=0
    )
    table = sharpness_table({"dense": ExperimentTable(runs, pd.DataFrame(), {})})
    row = table.iloc[0]
    assert (row["experiment"], row["case"], row["2/η"]) == ("dense", "tanh", 100.0)
    assert (row["seeds"], row["crossed"], row["up-crossings"]) == (3, 3, 1)
    assert row["first crossing (step)"] == 200
    assert row["peak / (2/η)"] == pytest.approx(1.3, abs=0.01)
    assert row["lowest after / (2/η)"] == pytest.approx(0.8)
    assert row["end mean / (2/η)"] == pytest.approx(0.8, abs=0.01)
    assert build([], pd.DataFrame(), {}, {}, [("Sharpness", table)]).count("up-crossings") == 1


def test_sharpness_table_of_nothing_has_its_columns():
    columns = ["case", "width", "learning_rate", "seed", "step", "quantity", "index", "value"]
    empty = ExperimentTable(pd.DataFrame(columns=columns), pd.DataFrame(), {})
    table = sharpness_table({"dense": empty})
    assert table.empty
    assert "up-crossings" in table.columns
