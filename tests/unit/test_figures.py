"""Figures drawn from synthetic curves that look like gradient descent at the edge of stability."""

import ast
import itertools
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

import sharpflow.figures
from papers.li2022.claims.eigenvectors import surrogate_factor
from papers.li2022.claims.phases import SMOOTHING
from papers.li2022.figures import output_norm, phases, plateau, residual, surrogate
from sharpflow.claims.edge import plateau_slope
from sharpflow.errors import PartError
from sharpflow.figures import base, edge, style
from sharpflow.results import tables as results
from sharpflow.results.edge import plateau_level
from sharpflow.results.runs import runs_of
from sharpflow.results.summaries import summarise
from sharpflow.results.tables import ExperimentTable, Network

MODULES = {
    "output_norm": output_norm,
    "phases": phases,
    "plateau": plateau,
    "residual": residual,
    "surrogate": surrogate,
}
LI2022 = list(MODULES)
ROOT = Path(sharpflow.figures.__file__).parents[2]
PAPERS = ("li2022", "ziyin2024", "beyond")


def edge_of_stability(steps: int, threshold: float, seed: int) -> dict[str, np.ndarray]:
    """Self-stabilisation in two variables: x along v₁ flips sign, y is the excess of Λ over 2/η."""
    generator = np.random.default_rng(seed)
    x, y = 1e-3 * (1 + generator.random()), -0.5 - 0.2 * generator.random()
    rise = 0.004 * (1 + 0.3 * generator.random())
    xs, ys = [], []
    for _ in range(steps):
        xs.append(x)
        ys.append(y)
        x, y = -(1 + y) * x + 1e-4 * generator.standard_normal(), y + rise * (1 - x**2)
    excess, along = np.array(ys), np.array(xs)
    rest = 0.9 * np.exp(-np.arange(steps) / (0.4 * steps)) + 0.02
    sharpness = threshold * (1 + 0.5 * excess) + 0.02 * threshold * along
    return {
        "gauss_newton_sharpness": sharpness,
        "rest": rest,
        "along": 0.05 * along**2,
        "loss": rest + 0.05 * along**2,
        "output_norm_squared": 1 + 2 * (sharpness - 0.02 * threshold * along) / threshold,
        "hessian_sharpness": sharpness * (1 + 0.3 * rest),
    }


def run_table(
    cases=("tanh",), thresholds=(400.0,), widths=(200,), seeds=3, steps=300, n=1000, stride=10
) -> pd.DataFrame:
    """Run table in the schema of the workflow."""
    parts = []
    for case in cases:
        for threshold in thresholds:
            for width in widths:
                for seed in range(seeds):
                    key = {"case": case, "width": width, "learning_rate": 2 / threshold}
                    key["seed"] = seed
                    made = edge_of_stability(steps, threshold, 1000 * len(case) + seed)
                    made["stability_threshold"] = np.full(steps, threshold)
                    parts.append(_quantities(key, made, steps, n, stride))
    return pd.concat(parts, ignore_index=True)


def _quantities(key, made, steps, n, stride):
    every = np.arange(steps)
    some = every[::stride]
    columns = {
        "loss": (every, made["loss"]),
        "gauss_newton_sharpness": (every, made["gauss_newton_sharpness"]),
        "output_norm_squared": (every, made["output_norm_squared"]),
        "rest_norm_squared": (every, n * made["rest"]),
        "residual_along_v1": (every, np.sqrt(n * made["along"])),
        "hessian_sharpness": (some, made["hessian_sharpness"][::stride]),
        "hessian_sharpness_converged": (some, np.ones(len(some))),
        "stability_threshold": (every, made["stability_threshold"]),
        "samples": (every[:1], np.array([n])),
    }
    frames = [
        pd.DataFrame({**key, "step": when, "quantity": name, "index": 0, "value": value})
        for name, (when, value) in columns.items()
    ]
    frame = pd.concat(frames, ignore_index=True)
    return frame.astype({"value": float})


def setup(**changes) -> dict:
    """Settings of a case of full-batch gradient descent, as the configuration makes them."""
    plain = {
        "data": {"source": "photos", "samples": 1000, "scaling": "unit"},
        "model": {"kind": "mlp", "activation": "tanh"},
        "optimiser": {"kind": "sgd"},
        "schedule": {"kind": "constant"},
        "training": {"steps": 300, "batch": None, "frozen": 0, "weight_decay": 0.0},
        "threshold_symbol": "2/η",
    }
    return plain | changes


def table(runs: pd.DataFrame, confidence: float = 0.95, **settings) -> ExperimentTable:
    """Experiment table with settings like those of the configuration."""
    stated = {
        "title": "Dense networks",
        "paper": "li2022",
        "seeds": 3,
        "cases": {"tanh": setup(), "relu": setup()},
    }
    return ExperimentTable(runs, summarise(runs), {**stated, **settings}, confidence)


@pytest.fixture(scope="module")
def two_cases() -> dict[str, ExperimentTable]:
    return {"dense": table(run_table(cases=("relu", "tanh")))}


@pytest.fixture(scope="module")
def sweep() -> dict[str, ExperimentTable]:
    runs = run_table(thresholds=(100.0, 200.0, 400.0), widths=(32, 64, 128))
    return {"sweep": table(runs, cases={"tanh": setup()})}


def inputs(name, two_cases, sweep):
    return sweep if name == "plateau" else two_cases


def diverging(tables: dict[str, ExperimentTable], step: int = 120) -> dict[str, ExperimentTable]:
    """The same tables in which seed 0 of every network leaves the finite numbers at ``step``."""
    changed = {}
    for name, given in tables.items():
        runs = given.runs.copy()
        lost = (runs["seed"] == 0) & (runs["step"] >= step)
        runs.loc[lost, "value"] = np.nan
        keys = runs.loc[runs["seed"] == 0, ["case", "width", "learning_rate", "seed"]]
        marks = keys.drop_duplicates().assign(
            step=step, quantity="diverged_step", index=0, value=float(step)
        )
        runs = pd.concat([runs, marks], ignore_index=True)
        changed[name] = ExperimentTable(runs, summarise(runs), given.settings)
    return changed


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def panel(figure: Figure, title: str):
    """Axes of a stack, from the top, found by the title of the first."""
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    first = titles.index(title)
    following = [i for i, text in enumerate(titles) if text and i > first]
    return figure.axes[first : following[0] if following else None]


def line(axes, text: str):
    return next(drawn for drawn in axes.lines if drawn.get_label() == text)


def strong_values(tables, case: str, quantity: str, seed: int = 0) -> np.ndarray:
    experiment = next(iter(tables))
    threshold = 400.0
    key = Network(experiment, case, 200, 2 / threshold)
    return results.curves(tables, key, quantity)[seed].dropna().to_numpy()


# What a figure is


def test_modules_have_what_a_figure_has():
    for paper in PAPERS:
        for file in sorted((ROOT / "papers" / paper / "figures").glob("*.py")):
            module = import_module(f"papers.{paper}.figures.{file.stem}")
            assert isinstance(module.TITLE, str), file
            assert callable(module.draw), file
            assert callable(module.caption), file
            assert module.READS, file


def test_what_is_no_figure_is_refused():
    with pytest.raises(PartError, match=r"mine: draw returned 'str'; it must return a matplotlib"):
        base.checked("a picture", "mine")
    figure = Figure()
    assert base.checked(figure, "mine") is figure


def test_drawing_imports_neither_torch_nor_pyplot_nor_another_figure():
    code = (
        "import sys; from sharpflow.parts.loading import register;"
        "register({'li2022': 'papers/li2022'}); import papers.li2022.figures.surrogate;"
        "print([m for m in sys.modules if m.split('.')[0] == 'torch' or m in "
        "('matplotlib.pyplot', 'papers.li2022.figures.phases', 'papers.li2022.figures.plateau')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"


def test_figure_modules_do_not_import_each_other():
    for paper in PAPERS:
        for file in (ROOT / "papers" / paper / "figures").glob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            relative = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]
            assert all(node.module.startswith("claims.") for node in relative), file


# Every figure


@pytest.mark.parametrize("name", LI2022)
@pytest.mark.filterwarnings("error")
def test_draws_without_a_warning(name, two_cases, sweep):
    module = MODULES[name]
    figure = module.draw(inputs(name, two_cases, sweep))
    figure.draw_without_rendering()
    assert figure.legends
    labels = [axes.get_xlabel() for axes in figure.axes]
    assert "stability threshold 2/η" in labels if name == "plateau" else "step" in labels


@pytest.mark.parametrize("name", LI2022)
@pytest.mark.filterwarnings("error")
def test_draws_a_diverged_run_and_says_so(name, two_cases, sweep):
    module = MODULES[name]
    tables = diverging(inputs(name, two_cases, sweep))
    module.draw(tables).draw_without_rendering()
    said = "9 of 27 runs have no plateau" if name == "plateau" else "of 6 runs diverged"
    assert said in module.caption(tables)


@pytest.mark.parametrize("name", LI2022)
@pytest.mark.filterwarnings("error")
def test_draws_a_single_seed_of_few_steps(name):
    module = MODULES[name]
    tables = {"tiny": ExperimentTable(run_table(seeds=1, steps=15, n=20), pd.DataFrame(), {})}
    module.draw(tables).draw_without_rendering()
    caption = module.caption(tables)
    assert "n = 20 samples" in caption
    assert "1 seed." in caption
    assert "the other seeds" not in caption


@pytest.mark.parametrize("name", LI2022)
def test_without_the_quantity_is_an_error(name):
    runs = run_table(seeds=1, steps=15)
    runs = runs[runs["quantity"].isin(["loss", "samples"])]
    with pytest.raises(ValueError, match=r"no run|no quantity"):
        MODULES[name].draw({"bare": ExperimentTable(runs, pd.DataFrame(), {})})


@pytest.mark.parametrize("name", LI2022)
def test_caption_takes_the_scale_from_the_tables(name):
    caption = MODULES[name].caption
    for n, steps, seeds in [(640, 90, 2), (1234, 120, 4)]:
        runs = run_table(seeds=seeds, steps=steps, n=n, widths=(17,), thresholds=(250.0,))
        text = caption({"dense": table(runs)})
        assert f"n = {n:,} samples of photos (pixels unit)" in text
        assert f"steps 0 to {steps - 1:,}" in text
        assert f"{seeds} seeds" in text
        assert "width 17" in text
        assert "2/η = 250" in text


@pytest.mark.parametrize("name", ["output_norm", "plateau"])  # lines and pictures; points
def test_same_bytes_twice(name, tmp_path):
    tables = {"dense": table(run_table(seeds=2, steps=120))}
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        figure = MODULES[name].draw(tables)
        style.save(figure, *(tmp_path / folder / f"a{kind}" for kind in style.KINDS))
    for file in (f"a{kind}" for kind in style.KINDS):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert (tmp_path / "one" / "a.png").stat().st_size < 300_000
    assert b"CreationDate" not in (tmp_path / "one" / "a.pdf").read_bytes()
    assert b"ModDate" not in (tmp_path / "one" / "a.pdf").read_bytes()


def test_same_bytes_from_a_process_with_another_hash_seed(tmp_path):
    code = (
        "from sharpflow.figures import style\n"
        "@style.house\ndef make():\n"
        "    f, s = style.panel_grid(1, (2, 1)); s[0][0].plot([1, 2], label='Λ ‖A‖² 2/η')\n"
        "    s[0][0].set_title('Dᵀv₁'); style.legend_below(f, s[0][0].lines); return f\n"
        "style.save(make(), target + '.png', target + '.pdf', target + '.svg')"
    )
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    exec(code, {"target": str(tmp_path / "here")})
    subprocess.run(
        [sys.executable, "-c", f"target = {str(tmp_path / 'there')!r}\n{code}"],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": other},
    )
    for kind in style.KINDS:
        there, here = tmp_path / f"there{kind}", tmp_path / f"here{kind}"
        assert there.read_bytes() == here.read_bytes()


@pytest.mark.parametrize(
    ("limits", "labels"),
    [
        ((0.4, 9.0), ["0.5", "1", "2", "5"]),
        ((0.06, 0.9), ["0.1", "0.2", "0.5"]),
        ((0.8, 2.6), ["1", "1.5", "2"]),
        ((0.75, 1.9), ["0.8", "0.9", "1", "1.2", "1.5"]),
    ],
)
def test_short_logarithmic_axes_have_plain_labels(limits, labels):
    _, ((axes,),) = style.panel_grid(1, (3,))
    axes.set(yscale="log", ylim=limits)
    style.plain_log_ticks(axes)
    axes.figure.draw_without_rendering()
    shown = [
        text.get_text()
        for text in axes.get_yticklabels(which="both")
        if text.get_text() and limits[0] <= text.get_position()[1] <= limits[1]
    ]
    assert shown == labels


def test_long_logarithmic_axes_keep_powers_of_ten():
    _, ((axes,),) = style.panel_grid(1, (3,))
    axes.set(yscale="log", ylim=(1e-4, 1.0))
    before = axes.yaxis.get_major_formatter()
    style.plain_log_ticks(axes)
    assert axes.yaxis.get_major_formatter() is before


def test_reduced_colours_keep_flat_areas_and_change_edges_little(tmp_path):
    figure, ((axes,),) = style.panel_grid(1, (3,))
    axes.axvspan(0, 1, color="#E1F0FA")
    axes.axvspan(1, 2, color="#E5F1F9")
    for place, colour in enumerate(style.PALETTE):
        axes.plot([0, 2], [place, place + 0.7], color=colour)
    style.save(figure, *(tmp_path / f"a{kind}" for kind in style.KINDS))
    figure.savefig(tmp_path / "b.png", dpi=style.DOTS_PER_INCH)
    reduced, exact = (
        np.asarray(Image.open(tmp_path / name).convert("RGB"), dtype=int)
        for name in ("a.png", "b.png")
    )
    for colour in ([225, 240, 250], [229, 241, 249], [255, 255, 255]):
        flat = (exact == colour).all(axis=-1)
        assert flat.sum() > 1000
        assert (reduced[flat] == colour).all()
    assert np.abs(reduced - exact).max() < 48
    assert np.abs(reduced - exact).mean() < 0.2


def test_drawing_leaves_matplotlib_as_it_was(two_cases):
    import matplotlib

    before = dict(matplotlib.rcParams)
    phases.draw(two_cases)
    assert dict(matplotlib.rcParams) == before


# What each figure holds


def test_panels_follow_the_order_of_the_settings(two_cases):
    assert [n.case for n in results.networks(two_cases)] == ["tanh", "relu"]
    figure = residual.draw(two_cases)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    assert titles == ["tanh, 2/η = 400", "ReLU, 2/η = 400"]


def test_six_panels_wrap_into_two_rows():
    figure, stacks = style.panel_grid(6, heights=(2, 1))
    assert len({stack[0].get_subplotspec().colspan.start for stack in stacks}) == 3
    assert len({stack[0].get_subplotspec().rowspan.start for stack in stacks}) == 2
    assert len(style.left_column(stacks)) == 2
    assert figure.get_figwidth() < 11


def test_four_panels_make_a_square():
    _, stacks = style.panel_grid(4, heights=(1,))
    assert len(style.left_column(stacks)) == 2


def test_phases_draws_the_table(two_cases):
    figure = phases.draw(two_cases)
    _, above, below = panel(figure, "tanh, 2/η = 400")
    drawn = line(above, "sharpness Λ").get_ydata()
    sharpness = strong_values(two_cases, "tanh", "gauss_newton_sharpness")
    np.testing.assert_allclose(drawn, sharpness / 400)
    np.testing.assert_array_equal(line(above, "threshold 2/η").get_ydata(), [1, 1])
    assert above.get_ylabel() == "Λη/2"
    assert below.get_yscale() == "log"
    np.testing.assert_array_equal(
        line(below, "loss").get_ydata(), strong_values(two_cases, "tanh", "loss")
    )
    faint = [drawn for drawn in above.lines if drawn.get_alpha() == pytest.approx(0.28)]
    assert len(faint) == 2
    assert {"I: below 2/η, rising", "IV: below, falling"} <= set(legend_texts(figure))
    strip, *_ = panel(figure, "tanh, 2/η = 400")
    found = phases.spans(np.arange(300), sharpness / 400)
    numerals = [text.get_text() for text in strip.texts if text.get_gid() != style.LETTER]
    assert numerals == [phases.PHASES[kind][0] for *_, kind in found]
    assert numerals
    assert " ".join(numerals) in phases.alt(two_cases)


@pytest.mark.parametrize(("stride", "window"), [(1, SMOOTHING), (3, 6)])
def test_phase_spans_of_a_sine_are_in_order_and_cover_the_curve(stride, window):
    steps = np.arange(1000) * stride
    ratio = 1 + 0.3 * np.sin(2 * np.pi * (np.arange(1000) - 5) / 400)
    found = phases.spans(steps, ratio)
    kinds = [kind for *_, kind in found]
    assert kinds == [2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4][: len(kinds)]
    assert len(kinds) >= 9
    for (_, stop, _), (start, _, _) in itertools.pairwise(found):
        assert stop == start
    assert found[0][0] == stride * (window - 1) / 2
    assert found[-1][1] == stride * (999 - (window - 1) / 2)
    assert phases.spans(steps[:5], ratio[:5]) == []


def test_output_norm_marks_the_anomaly_points():
    sharpness = pd.Series([1.0, 2.0, 3.0, 2.0, 3.0], index=[0, 2, 4, 6, 8])
    norm = pd.Series([1.0, 2.0, 1.0, 2.0, 3.0], index=[0, 2, 4, 6, 8])
    raw, averaged = output_norm.anomalies(sharpness, norm)
    assert raw.tolist() == [2, 4]
    assert averaged.tolist() == []


def test_output_norm_holds_curves_and_strip(two_cases):
    figure = output_norm.draw(two_cases)
    above, strip, below = panel(figure, "ReLU, 2/η = 400")
    np.testing.assert_array_equal(line(above, "threshold 2/η").get_ydata(), [1, 1])
    expected = strong_values(two_cases, "relu", "output_norm_squared")
    np.testing.assert_array_equal(line(below, "‖A‖²").get_ydata(), expected)
    relu = results.networks(two_cases)[1]
    found = output_norm.anomalies_of(two_cases, relu)
    assert sorted(found) == [0, 1, 2]
    for picture, kind in zip(strip.images, (0, 1), strict=True):
        share = np.mean([np.isin(np.arange(300), own[kind]) for own in found.values()], axis=0)
        np.testing.assert_allclose(picture.get_array()[0, :, 3], share)
    table = output_norm.numbers(two_cases)
    expected = np.median([own[0].size for own in found.values()]) / 299
    column = table["columns"].index("anomalies")
    assert [row[column] for row in table["rows"]][1] == f"{100 * expected:.0f} %"


def test_every_panel_of_sharpness_has_the_same_axis_in_thresholds():
    runs = run_table(cases=("tanh", "relu"), thresholds=(400.0,))
    runs.loc[(runs["case"] == "relu") & (runs["quantity"] == edge.SHARPNESS), "value"] *= 2
    figure = output_norm.draw({"dense": table(runs)})
    tops = [axes.get_ylim() for axes in figure.axes if axes.get_ylabel() == "Λη/2"]
    tops.append(panel(figure, "ReLU, 2/η = 400")[0].get_ylim())
    assert len(set(tops)) == 1


def test_even_stride_is_owned_up_to():
    runs = run_table(steps=200)
    even = {"dense": table(runs[(runs["step"] % 2 == 0)])}
    odd = {"dense": table(runs)}
    assert "even stride" in output_norm.caption(even)
    assert "even stride" not in output_norm.caption(odd)


def test_residual_divides_by_n(two_cases):
    figure = residual.draw(two_cases)
    above, below = panel(figure, "tanh, 2/η = 400")
    loss, rest = line(above, "loss ‖D‖²/n"), line(above, "‖R‖²/n")
    along = line(below, "(Dᵀv₁)²/n")
    np.testing.assert_allclose(
        loss.get_ydata() - rest.get_ydata(), along.get_ydata(), rtol=1e-6, atol=1e-12
    )
    sharpness = strong_values(two_cases, "tanh", "gauss_newton_sharpness")
    moment = line(above, "Λ first reaches 2/η").get_xdata()[0]
    assert sharpness[moment] >= 400
    assert (sharpness[:moment] < 400).all()


def test_the_cut_of_the_residual_is_told_beyond_the_panel(two_cases):
    figure = residual.draw(two_cases)
    _, below = panel(figure, "tanh, 2/η = 400")
    (note,) = (text for text in below.texts if text.get_text().startswith("cut 6 decades"))
    figure.draw_without_rendering()
    assert note.get_window_extent().y0 > below.get_window_extent().y1
    drawn = [tick for tick in below.yaxis.get_minorticklocs() if tick > 0]
    np.testing.assert_allclose(np.log10(drawn), np.round(np.log10(drawn)), atol=1e-9)


def test_surrogate_ratio_is_taken_where_both_were_measured(two_cases):
    figure = surrogate.draw(two_cases)
    _, below = panel(figure, "tanh, 2/η = 400")
    ratio = line(below, "Λ / λₘₐₓ")
    top = strong_values(two_cases, "tanh", "gauss_newton_sharpness")[::10]
    hessian = strong_values(two_cases, "tanh", "hessian_sharpness")
    np.testing.assert_array_equal(ratio.get_xdata(), np.arange(0, 300, 10))
    np.testing.assert_allclose(ratio.get_ydata(), top / hessian)
    assert "λₘₐₓ every 10 steps" in surrogate.caption(two_cases)


def test_surrogate_shows_the_band_that_its_claim_has(two_cases):
    factor = surrogate_factor.band[1]
    figure = surrogate.draw(two_cases)
    _, below = panel(figure, "tanh, 2/η = 400")
    (band,) = below.patches
    assert band.get_y() == pytest.approx(1 / factor)
    assert band.get_y() + band.get_height() == pytest.approx(factor)
    low, high = below.get_ylim()
    assert low < 1 / factor < factor < high
    assert f"within a factor of {factor:g}" in legend_texts(figure)
    assert f"within a factor of {factor:g}, which" in surrogate.caption(two_cases)


def test_what_did_not_converge_is_left_out_and_counted():
    def converged(tables) -> str:
        said = surrogate.numbers(tables)
        return said["rows"][0][said["columns"].index("converged λₘₐₓ")]

    runs = run_table(seeds=2)
    assert converged({"dense": table(runs)}) == "60 of 60"
    failed = (runs["quantity"] == "hessian_sharpness_converged") & (runs["step"] == 50)
    runs.loc[failed, "value"] = 0.0
    tables = {"dense": table(runs)}
    above, below = panel(surrogate.draw(tables), "tanh, 2/η = 400")
    for axes, text in ((above, "Hessian λₘₐₓ"), (below, "Λ / λₘₐₓ")):
        assert line(axes, text).get_xdata().tolist() == [s for s in range(0, 300, 10) if s != 50]
    assert converged(tables) == "58 of 60"


def test_what_was_measured_now_and_then_is_not_joined(two_cases):
    above, below = panel(surrogate.draw(two_cases), "tanh, 2/η = 400")
    for axes, label in ((above, "Hessian λₘₐₓ"), (below, "Λ / λₘₐₓ")):
        strong = line(axes, label)
        apart = [drawn for drawn in axes.lines if drawn.get_color() == strong.get_color()]
        assert len(apart) == 3
        assert {drawn.get_linestyle() for drawn in apart} == {"None"}


def test_plateau_holds_every_run(sweep):
    points = plateau.plateaus(sweep)
    assert len(points) == 27
    figure = plateau.draw(sweep)
    (axes,) = figure.axes
    drawn = np.sort(np.concatenate([c.get_offsets()[:, 1] for c in _scatters(axes)]))
    np.testing.assert_allclose(drawn, np.sort(points["plateau"] / points["threshold"]))
    assert [text.get_text() for text in axes.get_xticklabels()] == ["100", "200", "400"]
    spans = [c.get_offsets()[:, 0] for c in _scatters(axes)]
    spans = sorted((own.min(), own.max()) for own in spans)
    for (_, right), (left, _) in itertools.pairwise(spans):
        assert right < left  # no marker of one width over those of another
    texts = legend_texts(figure)
    assert {"width 32: mean, interval", "width 128: mean, interval"} <= set(texts)
    assert len({c.get_paths()[0].vertices.tobytes() for c in _scatters(axes)}) == 3


def _scatters(axes):
    return [c for c in axes.collections if type(c).__name__ == "PathCollection"]


def test_plateau_tells_runs_that_never_crossed():
    runs = run_table(thresholds=(100.0, 200.0), widths=(32,))
    low = runs["learning_rate"] == 2 / 200.0
    runs.loc[low & (runs["quantity"] == "gauss_newton_sharpness"), "value"] *= 0.2
    tables = {"sweep": table(runs)}
    said = plateau.numbers(tables)
    column = said["columns"].index("never reached it")
    assert [row[column] for row in said["rows"]] == ["–", "3"]
    assert "seed that never reached 2/η" in legend_texts(plateau.draw(tables))


def claimed_plateaus(tables: dict[str, ExperimentTable]) -> dict[tuple, float]:
    return {
        (run.width, run.learning_rate, run.seed): plateau_level(run)
        for given in tables.values()
        for run in runs_of(given.runs, given.settings["cases"])
    }


def drawn_plateaus(tables: dict[str, ExperimentTable]) -> dict[tuple, float]:
    points = plateau.plateaus(tables)
    return {
        (row.width, 2 / row.threshold, row.seed): row.ratio
        for row in points.itertuples(index=False)
    }


@pytest.mark.parametrize(("stride", "steps", "exist"), [(1, 300, 27), (2, 300, 0), (1, 140, 0)])
@pytest.mark.filterwarnings("error")
def test_plateau_and_its_claim_agree_on_which_runs_have_one(stride, steps, exist):
    """At an even stride, or where under fifty steps are settled, there is none for either."""
    runs = run_table(thresholds=(100.0, 200.0, 400.0), widths=(32, 64, 128), steps=steps)
    if steps < 150:
        below = runs["quantity"] == "gauss_newton_sharpness"
        runs.loc[below, "value"] *= 0.2
    tables = {"sweep": table(runs[runs["step"] % stride == 0], cases={"tanh": setup()})}
    drawn, claimed = drawn_plateaus(tables), claimed_plateaus(tables)
    assert drawn.keys() == claimed.keys()
    np.testing.assert_array_equal(list(drawn.values()), [claimed[key] for key in drawn])
    assert np.isfinite(list(drawn.values())).sum() == exist
    (given,) = tables.values()
    seed = [run for run in runs_of(given.runs, given.settings["cases"]) if run.seed == 0]
    assert np.isfinite(plateau_slope.statistic(seed)) == bool(exist)
    figure = plateau.draw(tables)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert ("no run has a plateau" in {text.get_text() for text in axes.texts}) == (not exist)
    assert bool(figure.legends) == bool(axes.patches) == bool(exist)
    assert ("Small points" in plateau.caption(tables)) == bool(exist)
    assert ("no run has a plateau" in plateau.alt(tables)) == (not exist)
    missing = f"{27 - exist} of 27 runs have no plateau"
    assert (missing in plateau.caption(tables)) == (exist < 27)


def test_the_confidence_of_intervals_is_that_of_the_tables():
    runs = run_table(thresholds=(100.0, 200.0), widths=(32,), seeds=4)
    lengths = {}
    for confidence in (0.9, 0.95):
        tables = {"sweep": table(runs, confidence, cases={"tanh": setup()})}
        figure = plateau.draw(tables)
        bars = [
            collection.get_segments()[0][:, 1]
            for collection in figure.axes[0].collections
            if type(collection).__name__ == "LineCollection"
        ]
        lengths[confidence] = [high - low for low, high in bars]
        assert f"their mean, {100 * confidence:g} % t-interval" in plateau.caption(tables)
    # Two-sided quantiles of Student's t with three degrees of freedom.
    np.testing.assert_allclose(
        np.divide(lengths[0.9], lengths[0.95]), 2.353363 / 3.182446, rtol=1e-5
    )


def test_a_bound_that_is_changed_moves_in_the_figure(sweep, monkeypatch):
    monkeypatch.setattr(plateau, "BAND_HIGH", 1.2)
    figure = plateau.draw(sweep)
    (band,) = (p for p in figure.axes[0].patches if p.get_height() > 0.1)
    assert band.get_y() + band.get_height() == pytest.approx(1.2)
    assert "0.9 to 1.2 of it" in legend_texts(figure)


# Thresholds that move


def warming(until: int = 100) -> dict[str, ExperimentTable]:
    """A run with a warm-up: 2/η is 2,000 before a step, and 400 from it on."""
    runs = run_table(seeds=2)
    early = (runs["quantity"] == "stability_threshold") & (runs["step"] < until)
    runs.loc[early, "value"] = 2000.0
    schedule = {"kind": "warmup", "learning_rate": 0.001, "until": until, "shape": "step"}
    return {"warm": table(runs, cases={"tanh": setup(schedule=schedule)})}


@pytest.mark.parametrize("name", ["output_norm", "phases"])
def test_the_sharpness_is_drawn_over_the_threshold_of_its_step(name):
    tables = warming()
    above = panel(MODULES[name].draw(tables), "tanh, 2/η = 400")[name == "phases"]
    moving = np.where(np.arange(300) < 100, 2000, 400)
    expected = strong_values(tables, "tanh", "gauss_newton_sharpness") / moving
    np.testing.assert_allclose(line(above, "sharpness Λ").get_ydata(), expected)
    np.testing.assert_array_equal(line(above, "threshold 2/η").get_ydata(), [1, 1])


def test_without_a_threshold_to_compare_with_the_sharpness_is_drawn_as_it_is():
    case = setup(optimiser={"kind": "adam"}, threshold_symbol="38/η", preconditioned=True)
    tables = {"adam": table(run_table(seeds=2), cases={"tanh": case})}
    above, *_ = output_norm.draw(tables).axes
    assert above.get_ylabel() == "Λ"
    expected = strong_values(tables, "tanh", "gauss_newton_sharpness")
    np.testing.assert_array_equal(line(above, "sharpness Λ").get_ydata(), expected)


def test_an_odd_stride_is_drawn_as_means_with_its_records():
    runs = run_table(steps=300)
    coarse = {"dense": table(runs[runs["step"] % 3 == 0])}
    above, *_ = panel(output_norm.draw(coarse), "tanh, 2/η = 400")
    values = strong_values(coarse, "tanh", "gauss_newton_sharpness") / 400
    drawn = line(above, "sharpness Λ")
    np.testing.assert_allclose(drawn.get_ydata(), (values[1:] + values[:-1]) / 2)
    np.testing.assert_array_equal(drawn.get_xdata(), np.arange(1.5, 297, 3))
    records = [own for own in above.lines if own.get_marker() == "."]
    np.testing.assert_allclose(records[0].get_ydata(), values)
    assert "At strides above one" in output_norm.caption(coarse)
    assert "At strides above one" not in output_norm.caption({"dense": table(runs)})


def test_crossings_are_those_of_the_moving_threshold():
    runs = run_table(seeds=2)
    sharpness = runs["quantity"] == "gauss_newton_sharpness"
    runs.loc[sharpness & (runs["step"] < 100), "value"] = 500.0
    schedule = {"kind": "warmup", "learning_rate": 0.001, "until": 100, "shape": "step"}
    early = (runs["quantity"] == "stability_threshold") & (runs["step"] < 100)
    runs.loc[early, "value"] = 2000.0
    tables = {"warm": table(runs, cases={"tanh": setup(schedule=schedule)})}
    above, _ = panel(residual.draw(tables), "tanh, 2/η = 400")
    assert line(above, "Λ first reaches 2/η").get_xdata()[0] >= 100


def test_the_symbol_is_that_of_the_optimiser():
    runs = run_table(seeds=2)
    momentum = {"kind": "heavy_ball", "momentum": 0.5}
    case = setup(optimiser=momentum, threshold_symbol="(2 + 2β)/η")
    tables = {"heavy": table(runs, cases={"tanh": case})}
    for module in (output_norm, phases, residual, surrogate):
        figure = module.draw(tables)
        title = "tanh, β = 0.5, (2 + 2β)/η = 400"
        assert title in [axes.get_title(loc="left") for axes in figure.axes]
        assert "(2 + 2β)/η" in module.caption(tables)
        assert "2/η" not in legend_texts(figure)


@pytest.mark.parametrize("name", LI2022)
@pytest.mark.filterwarnings("error")
def test_a_threshold_of_another_curvature_is_not_drawn_beside_the_sharpness(name):
    case = setup(optimiser={"kind": "adam"}, threshold_symbol="38/η", preconditioned=True)
    tables = {"adam": table(run_table(seeds=2), cases={"tanh": case})}
    figure = MODULES[name].draw(tables)
    figure.draw_without_rendering()
    assert "38/η" not in legend_texts(figure)
    assert "reaches" not in "".join(legend_texts(figure))
    if name == "plateau":
        assert "2 of 2 runs have no plateau" in plateau.caption(tables)


def test_an_axis_of_sharpness_without_a_threshold_is_that_of_the_data():
    curves = pd.DataFrame({0: [1.0, 5.0]})
    assert style.sharpness_top(curves, np.nan) == pytest.approx(5.3)
    assert style.sharpness_top(curves, 2.0) == pytest.approx(5.3)
    assert style.sharpness_top(curves, pd.Series([1.0, 0.5])) == 4.0
    assert style.sharpness_top(curves * np.nan, 2.0) == pytest.approx(2.12)


def test_sharpness_axis_is_cut_for_a_blow_up(two_cases):
    runs = two_cases["dense"].runs.copy()
    spike = (runs["quantity"] == "gauss_newton_sharpness") & (runs["step"] == 200)
    runs.loc[spike, "value"] = 1e12
    tables = {"dense": ExperimentTable(runs, pd.DataFrame(), two_cases["dense"].settings)}
    above = panel(phases.draw(tables), "tanh, 2/η = 400")[1]
    assert above.get_ylim() == (0, 4)
    assert "cut at 4 × 2/η" in [text.get_text() for text in above.texts]
    untouched = panel(phases.draw(two_cases), "tanh, 2/η = 400")[1]
    assert not [text for text in untouched.texts if "cut" in text.get_text()]


def test_samples_must_be_known():
    runs = run_table(seeds=1, steps=5)
    runs = runs[runs["quantity"] != "samples"]
    tables = {"bare": ExperimentTable(runs, pd.DataFrame(), {})}
    with pytest.raises(ValueError, match="one of them must give n"):
        results.samples(tables, results.networks(tables)[0])


@pytest.mark.parametrize(
    ("value", "text"),
    [(400.0, "400"), (1234.0, "1,234"), (0.005, "0.005"), (66.6666, "66.67"), (np.nan, "nan")],
)
def test_numbers_as_text(value, text):
    assert base.number(value) == text


def _svg(figure: Figure) -> ElementTree.Element:
    return ElementTree.fromstring(style.scalable(figure))


def _attributes(tree: ElementTree.Element) -> str:
    return " ".join(value for node in tree.iter() for value in node.attrib.values())


def test_an_svg_has_text_as_text_no_date_and_the_pages_colour_for_black():
    figure, ((axes,),) = style.panel_grid(1, (3,))
    axes.plot([0, 1], [0, 1], color=style.BLUE, label="Λ, ‖A‖²")
    axes.axhline(0.5, color=style.BLACK)
    axes.set_title("tanh, 2/η = 400")
    axes.legend()
    tree = _svg(figure)
    words = "".join(tree.itertext())
    assert "tanh, 2/η = 400" in words
    assert "Λ, ‖A‖²" in words
    assert not re.search(r"\d{4}-\d\d-\d\d|[Mm]atplotlib", "".join(words))
    drawn = _attributes(tree)
    assert style.BLUE.lower() in drawn
    assert "currentColor" in drawn
    assert "#000000" not in drawn
    assert tree.get("fill") == "currentColor"  # of texts, which say no colour of their own
    white = [node for node in tree.iter() if "fill: #ffffff" in node.get("style", "")]
    assert not [node for node in white if "opacity: 0" not in node.get("style", "")]


def test_svgs_in_one_page_share_no_identifier_and_miss_none():
    names = []
    for top in (1, 2):
        figure, ((axes,),) = style.panel_grid(1, (3,))
        axes.plot([0, 1], [0, top], marker="o")
        tree = _svg(figure)
        names.append({node.get("id") for node in tree.iter()} - {None})
        used = re.findall(r"#([\w.-]+)", " ".join(v for v in _attributes(tree).split() if "-" in v))
        assert used
        assert set(used) == names[-1]
    assert not names[0] & names[1]


def test_a_long_curve_is_a_picture_in_the_svg_and_stays_a_path_elsewhere():
    figure, ((axes,),) = style.panel_grid(1, (3,))
    values = np.random.default_rng(0).normal(size=20 * style.DENSE)
    (line,) = axes.plot(values)
    text = style.scalable(figure)
    assert "data:image/png;base64" in text
    assert len(text) < 100_000
    assert not line.get_rasterized()
    line.set_data(np.arange(style.DENSE), values[: style.DENSE])
    assert "data:image" not in style.scalable(figure)


def _module(**attributes) -> ModuleType:
    module = ModuleType("a_figure")
    vars(module).update({"TITLE": "A title", "caption": lambda _: "What it shows."} | attributes)
    return module


def test_words_of_a_figure_that_says_no_more_than_it_must():
    assert base.words(_module(), {}) == {
        "title": "A title",
        "caption": "What it shows.",
        "published": "",
        "alt": "A title",
        "numbers": None,
    }


def test_words_come_from_the_tables_where_a_module_has_functions():
    said = base.words(
        _module(
            PUBLISHED="Figure 3, left",
            ALT="never read",
            alt=lambda tables: f"{len(tables)} curves rise.",
            numbers=lambda tables: {"columns": ["case", "η"], "rows": [["tanh", 0.5]]},
        ),
        {"dense": None},
    )
    assert said["published"] == "Figure 3, left"
    assert said["alt"] == "1 curves rise."
    assert said["numbers"] == {"columns": ["case", "η"], "rows": [["tanh", "0.5"]]}


@pytest.mark.parametrize(
    "numbers", [{"rows": []}, {"columns": ["a"], "rows": [["1", "2"]]}, ["a"], {"columns": 1}]
)
def test_numbers_of_another_form_are_refused(numbers):
    with pytest.raises(PartError, match="a_figure: numbers must return"):
        base.words(_module(numbers=lambda _: numbers), {})


def test_another_papers_figure_has_no_number_where_it_is_drawn():
    module = _module(PUBLISHED="Figure 2")
    module.__name__ = "papers.li2022.figures.output_norm"
    numbers = [base.words(module, {}, paper)["published"] for paper in ("", "li2022", "mine")]
    assert numbers == ["Figure 2", "Figure 2", ""]


@pytest.mark.parametrize(
    ("name", "spelled"),
    [
        ("sgd_k_0_5", "SGD k 0.5"),
        ("sgd_phi_1_75", "SGD φ 1.75"),
        ("gd_decay_phi_0_1", "GD decay φ 0.1"),
        ("adam_beta_05", "Adam β 0.5"),
        ("momentum_09", "momentum 0.9"),
        ("resnet_batch_norm", "ResNet batch norm"),
        ("draw_100", "draw 100"),
        ("edge_0", "edge 0"),
        ("relu", "ReLU"),
        ("width", "width"),
    ],
)
def test_names_are_spelled_as_the_field_writes_them(name, spelled):
    assert base.spelled(name) == spelled
