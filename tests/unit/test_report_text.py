"""Values as text, and the table of sharpness in numbers."""

import re

import numpy as np
import pandas as pd
import pytest

from sharpflow.report import (
    SHARPNESS_QUANTITIES,
    TableEntry,
    build,
    settings_digest,
    sharpness_table,
)
from sharpflow.report.tables import sharpness_numbers
from sharpflow.report.text import anchor, band, flatten, number
from sharpflow.results.tables import ExperimentTable, networks


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
        own = {"gauss_newton_sharpness": values, "stability_threshold": np.full(300, 100.0)}
        for quantity, curve in own.items():
            columns = {"seed": seed, "step": steps * 2, "quantity": quantity, "value": curve}
            rows.append(pd.DataFrame(columns))
    runs = pd.concat(rows, ignore_index=True).assign(
        case="tanh", width=8, learning_rate=0.02, index=0
    )
    table = sharpness_table({"dense": ExperimentTable(runs, pd.DataFrame(), {})})
    row = table.iloc[0]
    assert (row["network"], row["threshold"]) == ("dense: tanh", 100.0)
    assert (row["crossed"], row["up-crossings"]) == ("3 of 3", "1")
    assert row["first crossing"] == "200"
    assert row["peak"] == "1.30 [1.20,\u00a01.40]"
    assert row["lowest after"] == "0.80"
    assert row["end mean"] == "0.80"
    assert row["anomaly points, %"] == row["‖A‖² end"] == "–"
    entry = TableEntry("Sharpness", table, "What the <numbers> mean.")
    page = build([], pd.DataFrame(), {}, {}, {}, [entry])
    assert page.count("up-crossings") == 1
    assert "What the &lt;numbers&gt; mean." in page


def norms(values, quantity="output_norm_squared", seed=0, rate=0.02) -> pd.DataFrame:
    values = np.asarray(values, dtype=float)
    steps = np.arange(values.size)
    return pd.DataFrame({"step": steps, "value": values}).assign(
        case="tanh", width=8, learning_rate=rate, seed=seed, quantity=quantity, index=0
    )


def thresholds(count: int, value: float = 100.0, seed: int = 0) -> pd.DataFrame:
    return norms(np.full(count, value), "stability_threshold", seed)


def test_sharpness_table_counts_anomalies_and_gives_the_norm():
    rising = np.linspace(50, 150, 101)
    opposed = np.concatenate([np.linspace(1, 2, 76), np.linspace(2, 1.5, 26)[1:]])
    parts = [norms(rising, "gauss_newton_sharpness"), norms(opposed), thresholds(101)]
    (row,) = sharpness_table(
        {"dense": ExperimentTable(pd.concat(parts), pd.DataFrame(), {})}
    ).to_dict("records")
    assert row["anomaly points, %"] == "25"
    assert (row["‖A‖² start"], row["‖A‖² end"]) == ("1.00", "1.50")


def test_sharpness_table_takes_the_stated_threshold_and_survives_divergence():
    broken = np.where(np.arange(101) < 60, np.linspace(50, 150, 101), np.nan)
    parts = [
        norms(np.linspace(50, 90, 101), "gauss_newton_sharpness"),
        norms(broken, "gauss_newton_sharpness", seed=1),
        thresholds(101, 80.0),
        thresholds(101, 80.0, seed=1),
    ]
    table = {"dense": ExperimentTable(pd.concat(parts), pd.DataFrame(), {})}
    row = sharpness_table(table).iloc[0]
    assert (row["threshold"], row["crossed"]) == (80.0, "2 of 2")
    numbers = sharpness_numbers(table, networks(table)[0])
    assert numbers["first_crossing"].tolist() == [75, 30]
    assert numbers["peak"].tolist() == pytest.approx([89.8 / 80, 108.5 / 80])


def test_shares_are_of_the_threshold_of_the_same_step():
    moving = np.where(np.arange(101) < 50, 100.0, 200.0)
    parts = [
        norms(np.linspace(50, 150, 101), "gauss_newton_sharpness"),
        norms(moving, "stability_threshold"),
    ]
    tables = {"dense": ExperimentTable(pd.concat(parts), pd.DataFrame(), {})}
    numbers = sharpness_numbers(tables, networks(tables)[0])
    assert numbers["first_crossing"].isna().all()
    assert numbers["peak"].tolist() == pytest.approx([0.985])
    assert sharpness_table(tables).iloc[0]["threshold"] == 200.0


def test_a_value_that_did_not_converge_is_left_out_and_nothing_else():
    sharpness = np.linspace(50, 150, 101)
    flags = np.ones(101)
    sharpness[20], flags[20] = 1e6, 0.0
    parts = [
        norms(sharpness, "gauss_newton_sharpness"),
        norms(flags, "gauss_newton_sharpness_converged"),
        norms(np.linspace(50, 150, 101), "gauss_newton_sharpness", seed=1),
        norms(np.linspace(1, 2, 101)),
        thresholds(101),
        thresholds(101, seed=1),
        norms(np.ones(101), "loss"),
    ]
    read = pd.concat(parts)
    read = read[read["quantity"].isin(SHARPNESS_QUANTITIES)]  # as the script reads a table
    tables = {"dense": ExperimentTable(read, pd.DataFrame(), {})}
    numbers = sharpness_numbers(tables, networks(tables)[0])
    assert numbers["first_crossing"].tolist() == [50, 50]
    assert numbers["peak"].tolist() == pytest.approx([1.495, 1.495])
    assert numbers["end_mean"].tolist() == pytest.approx([1.33, 1.33], abs=0.01)
    assert numbers["anomalies"].iloc[0] == 0


def test_widths_are_told_apart_where_there_are_several():
    one = pd.concat([norms(np.linspace(50, 150, 20), "gauss_newton_sharpness"), thresholds(20)])
    both = pd.concat([one, one.assign(width=16)])
    table = sharpness_table({"dense": ExperimentTable(both, pd.DataFrame(), {})})
    assert table["network"].tolist() == ["dense: tanh, width 8", "dense: tanh, width 16"]


def test_sharpness_table_of_nothing_has_its_columns():
    columns = ["case", "width", "learning_rate", "seed", "step", "quantity", "index", "value"]
    empty = ExperimentTable(pd.DataFrame(columns=columns), pd.DataFrame(), {})
    table = sharpness_table({"dense": empty})
    assert table.empty
    assert "up-crossings" in table.columns
