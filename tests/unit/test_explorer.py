"""The curves of the page's explorer: what is kept, how exactly, and what is said of the rest."""

import hashlib
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from explorer_reader import read
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from report_page import entry
from synthetic_runs import STEPS, THRESHOLD, Curves, edge, rows

from sharpflow.report import build, collect, explorer, packing
from sharpflow.report.packing import GAP, LEVELS, Detail
from sharpflow.results.phases import phases

VENDOR = Path(packing.__file__).parent / "templates" / "vendor"
SHARPNESS = "gauss_newton_sharpness"
LOUD = np.random.default_rng(0).normal(size=(3, 601)) * 10 + 500
SMOOTH = np.exp(-np.arange(601) / 40)[None] * np.array([[1.0], [3.0], [1e-30]])
SWING = np.linspace(10, 90, 601) * np.random.default_rng(1).uniform(0.5, 1, 601)
ALTERNATING = 400 + SWING[None] * (-1.0) ** np.arange(601)


def both(seed: int) -> Curves:
    return {SHARPNESS: edge(seed), "loss": np.exp(-STEPS / (50 + seed))}


def table(curves: Callable[[int], Curves] = both, seeds: int = 3) -> pd.DataFrame:
    return pd.concat([rows(curves(seed), seed=seed) for seed in range(seeds)])


def collected(frame: pd.DataFrame, settings=None, **keys) -> explorer.ExplorerData:
    return collect([("dense", frame)], {"dense": settings or {}}, **keys)


def unpacked(data: explorer.ExplorerData, budget: int = explorer.BUDGET):
    header, curves = read(data.payload(budget).text)
    (listed,) = header["experiments"]
    runs = list(zip(listed["seed"], listed["rate"], strict=True))
    return {(runs[c.run][0], c.quantity, c.index): c for c in curves}, listed


def as_blocks(values: np.ndarray) -> list[packing.Block]:
    steps, runs = np.arange(values.shape[1]), np.arange(len(values))
    return [packing.Block("q", 0, steps, runs, *packing.quantise(values))]


# --- how exactly


@pytest.mark.parametrize("values", [LOUD, SMOOTH, ALTERNATING, np.full((1, 9), 0.1)])
def test_a_whole_curve_comes_back_within_half_a_level(values):
    packed = packing.pack({}, as_blocks(values), np.ones(len(values), bool), Detail())
    for curve, row in zip(read(packed)[1], values, strict=True):
        assert not curve.bins
        span = np.ptp(np.log(row)) if row.max() > 100 * row.min() > 0 else np.ptp(row)
        scale = row if row.max() > 100 * row.min() > 0 else 1.0
        off = np.abs(curve.values - row)
        assert (off <= curve.within * (1 + 1e-9)).all()
        single = 4e-7 * max(1.0, np.abs(row).max() if np.isscalar(scale) else 80)
        assert (curve.within <= scale * (span / LEVELS / 2 * 1.001 + single)).all()


@given(
    arrays(
        float,
        st.tuples(st.integers(1, 3), st.integers(2, 40)),
        elements=st.floats(width=64, allow_nan=True, allow_infinity=True),
    )
)
def test_any_numbers_come_back_or_are_gaps(values):
    packed = packing.pack({}, as_blocks(values), np.ones(len(values), bool), Detail())
    for curve, row in zip(read(packed)[1], values, strict=True):
        finite = np.isfinite(row) & (np.abs(row) <= np.finfo(np.float32).max)
        assert (np.isfinite(curve.values) == finite).all()
        off = np.abs(curve.values - row)[finite]
        assert (off <= curve.within[finite] * (1 + 1e-6) + 1e-30).all()


@pytest.mark.parametrize("values", [LOUD, ALTERNATING])
@pytest.mark.parametrize("bins", [5, 22, 150])
def test_a_binned_curve_keeps_the_extremes_of_every_bin_exactly(values, bins):
    words = packing.quantise(values)[0]
    packed = packing.pack({}, as_blocks(values), np.zeros(len(values), bool), Detail(None, bins))
    cuts = packing.edges(words, bins)
    assert (np.diff(cuts, axis=1) > 0).all()
    for row, curve in enumerate(read(packed)[1]):
        assert curve.bins == bins
        assert (np.abs(curve.values - values[row, curve.steps]) <= curve.within * 1.000001).all()
        low, high = np.split(curve.values, 2)
        for i in range(bins + 2):
            inside = values[row, cuts[row, i] : cuts[row, i + 1]]
            assert abs(low[i] - inside.min()) <= curve.within[0] * 1.000001
            assert abs(high[i] - inside.max()) <= curve.within[0] * 1.000001


def test_an_alternation_of_period_two_keeps_both_branches():
    """A bin of two records or more has its furthest points above and below."""
    packed = packing.pack({}, as_blocks(ALTERNATING), np.zeros(1, bool), Detail(None, 20))
    (curve,) = read(packed)[1]
    low, high = np.split(curve.values, 2)
    cuts = packing.edges(as_blocks(ALTERNATING)[0].words, 20)[0]
    several = np.diff(cuts) > 1
    assert several.sum() >= 20
    assert (np.where(several, low, 0) < 400).all()
    assert (high[several] > 400).all()
    for branch, sign in ((low, -1), (high, 1)):
        furthest = [max(sign * (ALTERNATING[0, a:b] - 400)) for a, b in pairwise(cuts)]
        assert np.allclose(sign * (branch - 400), furthest, atol=curve.within[0] * 1.001)


def test_bins_are_short_where_a_curve_moves():
    """A spike of four records does not become a tent over a whole bin."""
    values = np.random.default_rng(1).normal(size=(1, 600)) * 1e-3
    values[0, 300:304] += [1, 3, 2, 1]
    cuts = packing.edges(packing.quantise(values)[0], 20)[0]
    widths = np.diff(cuts)
    held = np.searchsorted(cuts, 301, side="right") - 1
    assert widths[held] <= 3 < widths[1:-1].max()


def test_gaps_inside_bins_are_told():
    values = LOUD.copy()
    values[1, 200:230] = np.nan
    words = packing.quantise(values)[0]
    cuts = packing.edges(words, 20)
    low, high, _, _, gaps = packing.binned(words, cuts)
    touched = (cuts[1, :-1] < 230) & (cuts[1, 1:] > 200)
    assert (gaps[1].astype(bool) == touched).all()
    assert not gaps[[0, 2]].any()
    assert (low[1][~touched] < GAP).all()
    assert ((high == GAP) == (low == GAP)).all()


def test_a_smooth_curve_is_whole_and_an_equal_one_is_stored_once():
    straight = np.linspace(0, 1, 200)[None]
    blocks = [*as_blocks(straight), *as_blocks(3 * straight)]
    packed = packing.pack({}, blocks, np.zeros(1, bool), Detail(None, 16))
    header, (one, other) = read(packed)
    assert [block.get("same") for block in header["blocks"]] == [None, 0]
    assert one.bins == other.bins == 0
    assert np.allclose(other.values, 3 * one.values, atol=1e-4)


# --- what is in


def test_the_curves_of_a_table_are_there_with_their_runs_and_phases():
    curves, listed = unpacked(collected(table()))
    assert listed["seed"] == [0, 1, 2]
    assert {key[1] for key in curves} == {SHARPNESS, "loss", "stability_threshold"}
    found = curves[1, SHARPNESS, 0]
    assert (np.abs(found.values - edge(1)) <= found.within * 1.000001).all()
    labels = phases(edge(1) / THRESHOLD, 1.0)
    spans = listed["phases"]["1"]
    assert [phase for phase, *_ in spans] == [
        int(labels[0]),
        *labels[1:][np.diff(labels) != 0].tolist(),
    ]
    assert all(before[2] == after[1] for before, after in pairwise(spans))


def test_a_curvature_that_compares_with_no_threshold_has_no_phases():
    settings = {"cases": {"tanh": {"preconditioned": True, "threshold_symbol": "38/η"}}}
    _, listed = unpacked(collected(table(), settings))
    assert listed["cases"] == [{"name": "tanh", "symbol": "38/η", "preconditioned": True}]
    assert listed["phases"] == {}


def test_unconverged_and_diverged_values_are_gaps_and_notes_of_solvers_are_not_there():
    flags = np.ones(600)
    flags[30:33] = 0
    lost = np.where(STEPS < 500, edge(0), np.inf)
    curves, _ = unpacked(
        collected(
            table(
                lambda seed: {
                    SHARPNESS: lost,
                    f"{SHARPNESS}_converged": flags,
                    "gauss_newton_products": np.ones(600),
                    "gauss_newton_residual": np.ones(600),
                    "weight_residual": np.ones(600),
                    "samples": np.array([100.0]),
                    "short": edge(0)[:500],
                },
                seeds=1,
            )
        )
    )
    names = {key[1] for key in curves}
    assert names == {SHARPNESS, "weight_residual", "stability_threshold", "short"}
    gaps = np.flatnonzero(np.isnan(curves[0, SHARPNESS, 0].values))
    assert gaps.tolist() == [30, 31, 32, *range(500, 600)]
    assert curves[0, "short", 0].steps.size == 500


def test_matrices_are_named_and_sparse_records_are_points():
    full = rows({"loss": np.exp(-STEPS / 50)})
    sparse = full[(full["quantity"] == "loss") & (full["step"] % 20 == 0)]
    entries = rows({("gram", i): np.arange(600.0) for i in range(9)})
    layers = rows({("layers", i): np.arange(600.0) for i in range(8)})
    frame = pd.concat([full, sparse.assign(quantity="hessian_sharpness"), entries, layers])
    frame = frame.drop_duplicates(["step", "quantity", "index"])
    data = collected(frame)
    curves, _ = unpacked(data)
    assert curves[0, "loss", 0].joined
    assert not curves[0, "hessian_sharpness", 0].joined
    assert {key[2] for key in curves if key[1] == "layers"} == set(range(8))
    assert not [key for key in curves if key[1] == "gram"]
    assert any("gram" in note and "tables" in note for note in data.payload().notes)


def test_pieces_of_any_size_give_the_same_bytes():
    frame = table(seeds=4)
    whole = collected(frame).payload().text
    pieces = [("dense", part) for _, part in frame.groupby("seed")]
    assert collect(pieces, {}).payload().text == whole


def test_a_table_without_its_columns_is_refused():
    with pytest.raises(ValueError, match="lacks value"):
        collect([("dense", table().drop(columns="value"))], {})


# --- how much


def noisy(seeds: int, records: int = 600, widths=(10,)) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    shape = (len(widths), seeds, records)
    runs = np.indices(shape).reshape(3, -1)
    return pd.DataFrame(
        {
            "case": "tanh",
            "width": np.take(widths, runs[0]),
            "learning_rate": 0.1,
            "seed": runs[1],
            "step": runs[2],
            "quantity": "loss",
            "index": 0,
            "value": generator.normal(size=shape).ravel() + 5,
        }
    )


def test_detail_gives_way_to_the_budget_and_the_page_says_how():
    data = collected(noisy(20))
    sizes = {}
    for budget in (50_000, 15_000, 6_000, 3_000):
        payload = data.payload(budget)
        assert len(payload.text) <= budget
        _, curves = read(payload.text)
        sizes[budget] = sum(curve.values.size for curve in curves)
        if payload.detail == Detail():
            assert payload.notes == []
        elif payload.detail.seeds == 1:
            assert len(curves) == 20
            assert len(payload.notes) == 1
            assert f"{payload.detail.others} bins" in payload.notes[0]
        else:
            assert f"shown are {len(curves)} of 20, every" in payload.notes[-1]
    assert sorted(sizes.values(), reverse=True) == list(sizes.values())
    assert data.payload(50_000).detail == Detail()
    assert data.payload(3_000).detail.seeds > 1


def test_the_first_seed_of_a_setting_is_whole_while_others_are_bands():
    payload = collected(noisy(20)).payload(15_000)
    assert payload.detail.first is None
    _, curves = read(payload.text)
    assert [curve.run for curve in curves if not curve.bins] == [0]


def test_ten_thousand_runs_fit_and_what_is_left_out_is_said():
    frame = noisy(500, records=12, widths=range(1, 21))
    data = collected(frame, kept_bytes=60_000)
    assert data.detail.seeds > 1, "runs were left out while the table was read"
    held = sum(block.words.nbytes for block in data.curves["dense"].blocks)
    assert held <= 60_000
    payload = data.payload(20_000)
    assert len(payload.text) <= 20_000
    _, curves = read(payload.text)
    shown = re.search(r"shown are ([\d,]+) of 10,000, every (\d+)", payload.notes[-1])
    assert shown, payload.notes
    assert int(shown[1].replace(",", "")) == len(curves)
    assert int(shown[2]) == payload.detail.seeds
    assert {curve.run for curve in curves} == set(range(len(curves)))


def test_many_settings_of_one_seed_are_thinned_too():
    data = collected(noisy(1, records=12, widths=range(1, 400)))
    payload = data.payload(4_000)
    assert payload.detail.networks > 1
    assert "the first seed of every" in payload.notes[-1]


def test_a_budget_that_nothing_fits_into_is_exceeded_and_that_is_said():
    payload = collected(noisy(2)).payload(100)
    assert len(payload.text) > 100
    assert (
        f"take {len(payload.text) / 1000:.3g} kB of the page and not the 0.1 kB"
        in payload.notes[-1]
    )


# --- on the page


def test_the_page_holds_all_of_it_and_loads_nothing():
    papers = {"li2022": {"key": "li2022", "title": "T"}}
    page = build(
        [entry()], pd.DataFrame(), {"dense": {}}, papers, {}, explorer=collected(table()).section()
    )
    without = build([], pd.DataFrame(), {}, {}, {})
    assert 'id="explorer"' in page
    assert 'id="explorer"' not in without
    text = re.search(r'id="explorer-data">([^<]+)</script>', page)
    assert text
    assert read(text[1])[0]["experiments"][0]["name"] == "dense"
    assert "This part needs JavaScript. All numbers are in the tables" in page
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"(?!data:)", page)


def test_an_experiment_without_a_curve_is_not_offered():
    single = table()[lambda frame: frame["step"] == 0]
    data = collect([("single", single), ("dense", table())], {})
    header, curves = read(data.payload().text)
    assert [each["name"] for each in header["experiments"]] == ["dense"]
    assert {curve.run for curve in curves} == {0, 1, 2}
    alone = collect([("single", single)], {})
    assert 'id="explorer"' not in build([], pd.DataFrame(), {}, {}, {}, explorer=alone.section())


def test_the_bundled_library_is_the_version_that_is_named():
    readme = (VENDOR / "README.md").read_text()
    version = re.search(r"uPlot ([\d.]+) \(MIT", readme)
    assert version
    assert f"uplot-{version[1]}.tgz" in readme
    assert f"(v{version[1]})" in (VENDOR / "uPlot.iife.min.js").read_text()[:80]
    sums = dict(re.findall(r"^\| `([^`]+)` \| `[^`]+` \| `(\w{64})` \|$", readme, re.M))
    assert set(sums) == {path.name for path in VENDOR.iterdir()} - {"README.md"}
    for name, digest in sums.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
