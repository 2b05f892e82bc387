"""The figures of ziyin2024, drawn from tables made of the theory's formulas."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic_noise as noise
from matplotlib.figure import Figure

from papers.ziyin2024.claims.data_covariance import data_norm_ratio, sharpening_absent
from papers.ziyin2024.claims.equilibrium import equilibrium_closed_form
from papers.ziyin2024.claims.rates import rate_learning_rate
from papers.ziyin2024.claims.scale_invariance import norm_growth_exponent
from papers.ziyin2024.figures import (
    convergence_speed,
    data_covariance,
    deep_linear,
    matrix_factorisation,
    noether_flow,
    normalisation,
    representations,
    scale_invariance,
    warmup,
)
from sharpflow.claims.base import judge
from sharpflow.figures import ensemble, style
from sharpflow.results.runs import runs_by_network
from sharpflow.results.tables import ExperimentTable, Network
from sharpflow.symmetry import predictions

MODULES = {
    "scale_invariance": scale_invariance,
    "matrix_factorisation": matrix_factorisation,
    "deep_linear": deep_linear,
    "data_covariance": data_covariance,
    "warmup": warmup,
    "normalisation": normalisation,
    "representations": representations,
    "convergence_speed": convergence_speed,
    "noether_flow": noether_flow,
}
EXPERIMENTS = {name: [name] for name in MODULES} | {
    "matrix_factorisation": ["equilibrium", "matrix_factorisation"],
    "data_covariance": ["data_covariance", "sharpening"],
}
NAMES = list(MODULES)
ROOT = Path(__file__).resolve().parents[2]
SGD, GD = {"training": {"batch": 10}}, {"training": {"batch": None}}
METHODS = {"sgd": SGD, "gd": GD}
STARTS = {"small_u": (0.5, 2), "small_w": (2, 0.5), "balanced": (1, 1)}


def factors(u: float, w: float) -> dict:
    return {"model": {"initialisation": {"kind": "factors", "u": u, "w": w}}}


def started(kind: str) -> dict:
    return {"model": {"initialisation": {"kind": kind}}, "schedule": {"kind": "constant"}}


def gaussian(input_std, noise_std=1.0) -> dict:
    stds = {"input_std": input_std, "noise_std": noise_std}
    return {"data": {"source": "gaussian", "inputs": 10, "outputs": 10} | stds}


def normed_std(k: float) -> list[float]:
    """Noise of unit mean variance in proportion to the k-th power of the inputs' std."""
    std = np.repeat([1.8, 0.2], 5) ** (k / 2)
    return (std / np.sqrt(np.mean(std**2))).tolist()


INITIALISED = {
    f"{method}_{start}": batch | factors(*scales)
    for method, batch in METHODS.items()
    for start, scales in STARTS.items()
}
COVARIANCES = {
    f"{method}{kind}_phi_{noise.slug(phi)}": gaussian(noise.phi_std(phi).tolist())
    | {"training": {**batch["training"], "weight_decay": decay}}
    | started("kaiming")
    for method, batch in METHODS.items()
    for kind, decay in (("", 0.0), ("_decay", 1e-3))
    for phi in noise.PHIS
}
BALANCED = {
    f"{method}_k_{noise.slug(k)}": batch
    | started("balanced")
    | gaussian(np.sqrt(np.repeat([1.8, 0.2], 5)).tolist(), normed_std(k))
    for method, batch in METHODS.items()
    for k in noise.KS
}
WARMED = {"kind": "warmup", "learning_rate": 0.001, "until": 5000, "shape": "step"}
ONE = {"training": {"batch": 1}}
FLOW = {"measurements": {"noether_flow": {"learning_rate": 0.001, "batch": 10}}}
CASES = {
    "scale_invariance": METHODS,
    "matrix_factorisation": INITIALISED,
    "equilibrium": INITIALISED,
    "data_covariance": COVARIANCES,
    "deep_linear": {
        case: batch | {"model": {"initialisation": {"kind": "layers", "stds": stds}}}
        for case, batch, stds in (
            ("sgd_small_first", SGD, [0.5, 1, 2]),
            ("sgd_small_last", SGD, [2, 1, 0.5]),
            ("gd_small_first", GD, [0.5, 1, 2]),
            ("eta", SGD, [1, 1, 1]),
        )
    },
    "sharpening": BALANCED,
    "warmup": {
        "sgd_kaiming_constant": ONE | started("kaiming"),
        "sgd_kaiming_warmup": ONE | started("kaiming") | {"schedule": WARMED},
        "sgd_xavier": ONE | started("xavier"),
        "gd_kaiming": GD | started("kaiming"),
    },
    "normalisation": {
        f"{net}_{method}": batch | {"model": {"kind": "scale_invariant", "normalisation": kind}}
        for net, kind in (("net_a", "global"), ("net_b", "layer"))
        for method, batch in METHODS.items()
    },
    "representations": {
        f"{activation}_{method}": batch | {"model": {"activation": activation}}
        for activation in ("tanh", "relu")
        for method, batch in METHODS.items()
    },
    "convergence_speed": {
        **{name: {"data": {"inputs": 10}, "training": {"batch": 100}} for name in ("eta", "width")},
        **noise.CASES,
        "gd": GD,
    },
    "noether_flow": {
        case: {"data": {"inputs": inputs}} | FLOW
        for case, inputs in (("isotropic", 30), ("anisotropic", 30), ("narrow", 50), ("tanh", 10))
    },
}


def table(
    name: str, runs: pd.DataFrame, confidence: float = 0.95, cases: dict | None = None
) -> ExperimentTable:
    settings = {"title": name.capitalize(), "paper": "ziyin2024", "cases": cases or CASES[name]}
    return ExperimentTable(runs, pd.DataFrame(), settings, confidence)


def tables_of(name: str, confidence: float = 0.95, **twists) -> dict[str, ExperimentTable]:
    made = {e: noise.EXPERIMENTS[e] for e in EXPERIMENTS[name]}
    return {e: table(e, make(**twists.get(e, {})), confidence) for e, make in made.items()}


@pytest.fixture(scope="module")
def every() -> dict[str, dict[str, ExperimentTable]]:
    return {name: tables_of(name) for name in NAMES}


def words(figure: Figure) -> list[str]:
    own = [axes.get_legend() for axes in figure.axes]
    legends = [*figure.legends, *(legend for legend in own if legend is not None)]
    return [text.get_text() for legend in legends for text in legend.get_texts()]


def lines(axes, label: str | None = None) -> list:
    return [line for line in axes.lines if label is None or line.get_label() == label]


def titled(figure: Figure, part: str):
    return next(axes for axes in figure.axes if part in axes.get_title(loc="left"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_draws_without_a_warning_with_a_legend_of_each_label(name, every):
    figure = MODULES[name].draw(every[name])
    figure.draw_without_rendering()
    owned = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    assert len(figure.legends) == 1 or len(owned) == len(figure.axes)
    for legend in [*figure.legends, *owned]:
        texts = [text.get_text() for text in legend.get_texts()]
        assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_draws_a_single_seed(name, every):
    few = {e: table(e, given.runs[given.runs["seed"] == 0]) for e, given in every[name].items()}
    module = MODULES[name]
    module.draw(few)
    assert "1 seed." in module.caption(few) or "1 seed;" in module.caption(few)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_draws_a_run_that_diverged(name, every):
    module = MODULES[name]
    changed = {}
    for experiment, given in every[name].items():
        runs = given.runs.copy()
        half = runs["step"].max() / 2
        lost = (runs["seed"] == 1) & (runs["step"] > half)
        runs.loc[lost, "value"] = np.nan
        keys = runs.loc[lost, ["case", "width", "learning_rate", "seed"]].drop_duplicates()
        marks = keys.assign(step=int(half) + 1, quantity="diverged_step", index=0, value=half)
        changed[experiment] = table(experiment, pd.concat([runs, marks], ignore_index=True))
    module.draw(changed).draw_without_rendering()
    assert "nan" not in module.caption(changed)


@pytest.mark.parametrize("name", NAMES)
def test_without_the_quantity_is_an_error(name, every):
    bare = {
        e: table(e, given.runs[given.runs["quantity"] == "loss"])
        for e, given in every[name].items()
    }
    with pytest.raises(ValueError, match="hold no quantity"):
        MODULES[name].draw(bare)


@pytest.mark.parametrize("name", NAMES)
def test_caption_takes_the_scale_from_the_tables(name, every):
    caption = MODULES[name].caption(every[name])
    steps = {int(given.runs["step"].max()) for given in every[name].values()}
    assert f"steps 0 to {' or '.join(f'{last:,}' for last in sorted(steps))}" in caption
    assert f"{noise.SEEDS} seeds" in caption
    assert "nan" not in caption
    assert "undefined" not in caption
    assert not re.search(r"  |\.\.|\{|\}", caption)
    assert "-" not in re.sub(r"\w-\w", "", caption)


def test_same_bytes_twice(every, tmp_path):
    name = "representations"
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        figure = MODULES[name].draw(every[name])
        style.save(figure, *(tmp_path / folder / f"a{kind}" for kind in style.KINDS))
    for file in (f"a{kind}" for kind in style.KINDS):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert (tmp_path / "one" / "a.png").stat().st_size < 300_000


def test_no_figure_imports_torch():
    code = (
        "import sys; from sharpflow.parts.loading import load, register;"
        "register({'ziyin2024': 'papers/ziyin2024'});"
        f"[load('figures', name, 'ziyin2024') for name in {NAMES}]; print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "False"


# What each figure holds


def test_the_band_spans_all_seeds_and_the_line_is_their_mean():
    steps = np.arange(ensemble.FEW + 1)
    frame = pd.DataFrame({0: 1.0 + steps, 1: 3.0 + steps, 2: 5.0 + steps}, index=10 * steps)
    axes = Figure().subplots()
    line = ensemble.draw_band(axes, frame, style.BLUE)
    np.testing.assert_array_equal(line.get_ydata(), 3 + steps)
    assert line.get_linestyle() == "-"
    (band,) = axes.collections
    edges = band.get_paths()[0].vertices
    assert edges[:, 1].min() == 1
    assert edges[:, 1].max() == 5 + ensemble.FEW


def test_few_records_stand_apart():
    steps = np.arange(ensemble.FEW)
    frame = pd.DataFrame({0: 1.0 + steps, 1: 4.0 + steps}, index=10 * steps)
    axes = Figure().subplots()
    line = ensemble.draw_band(axes, frame, style.BLUE)
    assert (line.get_linestyle(), line.get_marker()) == ("None", "o")
    np.testing.assert_array_equal(line.get_ydata(), 2.5 + steps)
    (bars,) = axes.collections
    for place, bar in enumerate(bars.get_segments()):
        assert bar[:, 1].tolist() == [1 + place, 4 + place]


def test_points_show_every_seed_and_the_interval():
    values = np.array([1.0, 2.0, 4.0, 5.0])
    for scale in ("linear", "log"):
        axes = Figure().subplots()
        axes.set_xscale(scale)
        mark = ensemble.draw_points(axes, 3.0, values, 0.95, style.BLUE, spread=0.1)
        assert mark.get_ydata()[0] == 3
        dots, bar = axes.collections
        np.testing.assert_array_equal(dots.get_offsets()[:, 1], values)
        half = 3.182446 * values.std(ddof=1) / 2
        ends = bar.get_segments()[0][:, 1]
        np.testing.assert_allclose(ends, [3 - half, 3 + half], rtol=1e-5)
    assert ensemble.draw_points(axes, 3.0, [np.nan], 0.95, style.BLUE) is None


def test_interval_as_text():
    assert ensemble.interval_text([1.0, 1.0], 0.95) == "1.000 ± 0.000"
    assert ensemble.interval_text([2.0], 0.95) == "2"
    assert ensemble.interval_text([-1.01, -0.99], 0.95) == "−1.00 ± 0.13"
    assert ensemble.interval_text([-1.01, -0.99], 0.9) == "−1.000 ± 0.063"
    assert ensemble.interval_text([1.0, np.nan], 0.95) == "undefined"


@pytest.mark.parametrize("name", NAMES)
def test_captions_have_the_confidence_of_the_tables(name, every):
    given = {e: replace(table, confidence=0.9) for e, table in every[name].items()}
    caption = MODULES[name].caption(given)
    assert "95 % t-interval" not in caption
    if "95 % t-interval" in MODULES[name].caption(every[name]):
        assert "90 % t-interval" in caption


def test_radius_is_drawn_beside_its_prediction(every):
    figure = scale_invariance.draw(every["scale_invariance"])
    axes = titled(figure, "radius")
    (sgd,), (gd,), (predicted,) = (lines(axes, w) for w in ("SGD", "GD", "predicted for SGD"))
    assert sgd.get_ydata()[-1] == pytest.approx(predicted.get_ydata()[-1], rel=0.05)
    assert predicted.get_ydata()[-1] == pytest.approx((1 + 8 * 0.02**2 * 4 * 2000) ** 0.25)
    assert gd.get_ydata()[-1] == pytest.approx(1.034, abs=1e-3)


def test_the_charge_falls_under_sgd_and_not_under_gd(every):
    figure = matrix_factorisation.draw(every["matrix_factorisation"])
    axes = titled(figure, "charge")
    for start in ("small U, large W", "large U, small W"):
        (sgd,), (gd,) = (lines(axes, f"{m}: {start}") for m in ("SGD", "GD"))
        steps = sgd.get_xdata()
        early = steps <= 3000
        slope = np.polyfit(steps[early], np.log(sgd.get_ydata()[early]), 1)[0]
        assert slope == pytest.approx(-1.2e-3, rel=0.1)
        np.testing.assert_allclose(gd.get_ydata(), 1)
    (cross,) = lines(titled(figure, "norms"), "closed form")
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (30, 30)


def test_the_anisotropic_panel_is_of_the_data_that_tell_the_balances_apart(every):
    tables = every["matrix_factorisation"]
    figure = matrix_factorisation.draw(tables)
    axes = titled(figure, "anisotropic")
    (level,) = {line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"}
    assert level == 0.06
    assert "Only anisotropic data and a rotated teacher" in matrix_factorisation.caption(tables)
    isotropic = {"matrix_factorisation": tables["matrix_factorisation"]}
    assert len(matrix_factorisation.draw(isotropic).axes) == 3
    assert "rotated teacher" not in matrix_factorisation.caption(isotropic)


def test_layers_of_deep_nets_beside_their_closed_form(every):
    figure = deep_linear.draw(every["deep_linear"])
    for line in titled(figure, "each layer").lines:
        if "start" in line.get_label():
            assert line.get_ydata()[-1] == pytest.approx(1.03, rel=0.01)
    norms = titled(figure, "norms at the end")
    closed = [float(line.get_ydata()[0]) for line in lines(norms, "closed form")]
    assert set(closed) == {9.0, 7.5}
    spectra = {line.get_label(): line.get_ydata() for line in titled(figure, "spectrum").lines}
    assert np.ptp(spectra["SGD, start 0.5, 1, 2"]) == pytest.approx(3 * 0.04, rel=0.05)
    assert np.ptp(spectra["GD, start 0.5, 1, 2"]) == pytest.approx(3 * 0.35, rel=0.05)
    ends = [line for line in titled(figure, "against η").lines if line.get_linestyle() == "--"]
    assert ends[0].get_ydata()[0] == pytest.approx(0.01, abs=1e-3)
    one_rate = table("deep_linear", noise.deep_linear().query("case != 'eta'"))
    assert len(deep_linear.draw({"deep_linear": one_rate}).axes) == 3


def test_norm_ratio_beside_the_closed_form(every):
    tables = every["data_covariance"]
    axes = titled(data_covariance.draw(tables), "norm ratio")
    dashes = lines(axes, data_covariance.CLOSED)
    sgd = marks(axes, "SGD")
    assert list(sgd) == sorted(noise.PHIS)
    for phi, value in zip(dashes[0].get_xdata(), dashes[0].get_ydata(), strict=True):
        assert value == pytest.approx(np.sqrt(phi * (2 - phi)))
        assert sgd[phi] == pytest.approx(value, rel=0.02)


def test_caption_says_which_noise_sharpens_from_the_tables(every):
    tables = every["data_covariance"]
    text = "SGD sharpens at k = 1.5, k = 2 and flattens at k = 0, k = 0.5"
    assert text in data_covariance.caption(tables)
    still = table("sharpening", noise.sharpening(reached=0.0))
    text = "SGD sharpens nowhere and flattens nowhere"
    assert text in data_covariance.caption(tables | {"sharpening": still})


def test_sharpening_is_left_out_where_it_was_not_run(every):
    alone = {"sharpening": every["data_covariance"]["sharpening"]}
    assert len(data_covariance.draw(alone).axes) == 2
    assert "variances" not in data_covariance.caption(alone)
    alone = {"data_covariance": every["data_covariance"]["data_covariance"]}
    assert len(data_covariance.draw(alone).axes) == 2
    assert "balanced start" not in data_covariance.caption(alone)


def test_warmup_marks_the_runs_that_diverged_and_the_end_of_warmup(every):
    figure = warmup.draw(every["warmup"])
    crosses = [line for axes in figure.axes for line in lines(axes, "run diverged")]
    assert [len(line.get_xdata()) for line in crosses] == [noise.SEEDS]
    moment = [line for axes in figure.axes for line in lines(axes, "end of warm-up")]
    assert [line.get_xdata()[0] for line in moment] == [5000]
    said = warmup.numbers(every["warmup"])
    assert said["rows"][0][-1] == "500"
    assert said["rows"][0][said["columns"].index("diverged")] == str(noise.SEEDS)
    assert f"{noise.SEEDS} runs diverge" in warmup.alt(every["warmup"])
    assert "η = 0.001 before step 5,000" in warmup.caption(every["warmup"])
    stable = tables_of("warmup", warmup={"diverging": 0})
    assert "diverged" not in "".join(warmup.numbers(stable)["columns"])
    assert "runs diverge." not in warmup.alt(stable)


def on_pictures(name: str, runs: pd.DataFrame) -> ExperimentTable:
    """A table of an experiment's pictures, with the cases of that on Gaussian data."""
    photos = {"data": {"source": "photos"}}
    return table(f"{name}_pictures", runs, cases={c: s | photos for c, s in CASES[name].items()})


def test_warmup_has_a_row_for_each_kind_of_data_and_the_equilibrium_where_measured(every):
    pictures = {"warmup_pictures": on_pictures("warmup", noise.warmup_pictures())}
    figure = warmup.draw(every["warmup"] | pictures)
    figure.draw_without_rendering()
    assert len(figure.axes) == 4
    assert not lines(titled(figure, "Gaussian data"), warmup.EQUILIBRIUM)
    drawn = lines(titled(figure, "photographs"), warmup.EQUILIBRIUM)
    assert len(drawn) == 2  # of both runs of SGD that end
    assert drawn[0].get_ydata()[-1] == pytest.approx(130, rel=0.01)
    said = warmup.caption(every["warmup"] | pictures)
    assert "population and the full-batch loss" in said
    assert "same product UW" in said
    assert "same product UW" not in warmup.caption(every["warmup"])
    alone = warmup.draw(pictures)
    assert [axes.get_title(loc="left") for axes in alone.axes] == ["in time", "over the last fifth"]


def test_normalisation_has_stacks_for_each_kind_of_data(every):
    pictures = {"normalisation_pictures": on_pictures("normalisation", noise.normalisation())}
    tables = every["normalisation"] | pictures
    titles = [title.partition(":")[0] for title, _ in normalisation.stacks_of(tables)]
    nets = ("Net-A", "Net-B")
    assert titles == [f"{n}, {d}" for d in ("Gaussian data", "photographs") for n in nets]
    figure = normalisation.draw(tables)
    figure.draw_without_rendering()
    assert len(figure.axes) == 12
    assert "Net-B, photographs SGD" in normalisation.alt(tables)


def test_growth_of_the_norm_and_its_exponent(every):
    tables = every["normalisation"]
    found = runs_by_network(tables, *normalisation.READS)
    (network,) = (n for n in found if n.case == "net_b_sgd")
    slopes = [norm_growth_exponent.statistic(run) for run in found[network]]
    assert np.mean(slopes) == pytest.approx(1.0, abs=1e-9)
    said = normalisation.numbers(tables)
    own = next(row for row in said["rows"] if row[0] == "net b SGD")
    assert own[-1] == ensemble.interval_text(slopes, 0.95)
    ratio = normalisation.growth_ratio(tables, network, found[network])
    assert ratio.shape[1] == noise.SEEDS
    assert ratio.to_numpy().mean() == pytest.approx(1, abs=0.05)
    (growth,) = lines(titled(normalisation.draw(tables), "Net-B"), "‖θ‖², SGD")
    assert growth.get_ydata()[-1] == pytest.approx((1 + 0.03 * 10_000) ** 0.5, rel=0.05)


def test_pictures_are_alike_for_aligned_layers_and_units_share_an_order(every):
    figure = representations.draw(every["representations"])
    images = [axes.images[0].get_array() for axes in figure.axes if len(axes.images) == 1]
    images = [np.asarray(image) for image in images if image.shape[0] == image.shape[1]]
    assert len(images) == 8
    for w_sgd, u_sgd, w_gd, u_gd in (images[:4], images[4:]):
        np.testing.assert_allclose(w_sgd, u_sgd)
        assert not np.allclose(w_gd, u_gd)
        assert np.all(np.diff(np.diag(w_sgd)) <= 0)
        assert np.abs(w_sgd).max() == 1
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_ylabel() == "cosine"]
    assert titles == ["tanh", "ReLU"]


@pytest.mark.parametrize(("twist", "exponent"), [({}, 2.0), ({"eta": 1.6}, 1.6)])
def test_exponents_a_step(twist, exponent):
    tables = tables_of("convergence_speed", convergence_speed=twist)
    figure = convergence_speed.draw(tables)
    titles = [axes.get_title(loc="left") for axes in figure.axes[::2]]
    assert titles[0].startswith(f"exponent of η: {exponent:.3f}")
    assert titles[0].endswith("(theory 2)")
    assert titles[1].startswith("exponent of S: −1.0")
    assert titles[1].endswith("(theory −1)")
    assert titles[2].startswith(("exponent of d: 0.0", "exponent of d: −0.0"))
    assert titles[3].startswith(("exponent of k: 1.0", "exponent of k: 0.9"))
    assert "not yet" in convergence_speed.caption(tables)
    rates = convergence_speed.decay_rates(tables)
    for column, below in zip(convergence_speed.SWEEPS, figure.axes[1::2], strict=True):
        own = rates[rates["varied"] == column]
        expected = (own["rate"] / own["predicted"]).groupby(own[column]).mean()
        drawn = marks(below, "rate / theory")
        assert list(drawn) == list(expected.index)
        np.testing.assert_allclose(list(drawn.values()), expected)
        assert below.get_ylim() == figure.axes[1].get_ylim()


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_exponents_are_those_of_the_verdicts(confidence):
    twist = {"eta": 1.9, "batch": -0.9, "width": 0.02, "inputs": 1.1}
    tables = tables_of("convergence_speed", confidence, convergence_speed=twist)
    rates = convergence_speed.decay_rates(tables)
    for column, (claim, _, _) in convergence_speed.SWEEPS.items():
        drawn = convergence_speed.exponent(rates[rates["varied"] == column], column, confidence)
        judged = verdict(claim, "convergence_speed", tables)
        assert drawn.statistic == pytest.approx(judged["statistic"], rel=1e-12)
        assert drawn.low == pytest.approx(judged["low"], rel=1e-9)
        assert drawn.high == pytest.approx(judged["high"], rel=1e-9)


def test_a_run_that_diverged_has_no_exponent_and_fails(every):
    given = every["convergence_speed"]["convergence_speed"]
    runs = given.runs.copy()
    lost = (runs["seed"] == 0) & (runs["case"] == "eta") & (runs["step"] > 0)
    runs.loc[lost & (runs["quantity"] == "loss"), "value"] = np.inf
    tables = {"convergence_speed": table("convergence_speed", runs)}
    title = convergence_speed.draw(tables).axes[0].get_title(loc="left")
    assert title == "exponent of η: undefined (theory 2)"
    judged = verdict(rate_learning_rate, "convergence_speed", tables)
    assert judged["verdict"] == "not supported"
    assert judged["reason"] == "1 of 5 failed (it diverged at step 3)"


def verdict(claim, experiment: str, tables: dict[str, ExperimentTable], case: str = ""):
    """The claim's row of a case; without one, its only row."""
    given = tables[experiment]
    cases = given.settings["cases"]
    rows = judge(claim, "ziyin2024", "", experiment, given.runs, cases, given.confidence)
    if not case:
        (only,) = rows["case"]
        return rows.set_index("case").loc[only]
    return rows.set_index("case").loc[case]


def marks(axes, label: str) -> dict[float, float]:
    """Height of the large markers of that label, by their place."""
    return {float(m.get_xdata()[0]): float(m.get_ydata()[0]) for m in lines(axes, label)}


def test_what_is_drawn_at_the_end_of_training_is_what_the_claims_judge(every):
    tables = every["data_covariance"]
    figure = data_covariance.draw(tables)
    ratios = marks(titled(figure, "norm ratio"), "SGD")
    judged = verdict(data_norm_ratio, "data_covariance", tables, "sgd_phi_0_1")
    predicted = float(predictions.norm_ratio(noise.phi_std(0.1)))
    # The claim's is a geometric mean of five ratios that agree to a few thousandths.
    assert ratios[0.1] / predicted == pytest.approx(judged["statistic"], rel=1e-4)
    ends = marks(titled(figure, "balanced start, over the last fifth"), "SGD")
    judged = verdict(
        sharpening_absent, "sharpening", tables, "sgd_k_1 (width 10, learning rate 0.03)"
    )
    assert ends[1.0] == pytest.approx(judged["statistic"], rel=1e-4)
    tables = every["matrix_factorisation"]
    errors = titled(matrix_factorisation.draw(tables), "anisotropic")
    own = marks(errors, "SGD, from the closed form")
    judged = verdict(equilibrium_closed_form, "equilibrium", tables, "sgd_small_u")
    # The mean of the one index and of the other, beside the larger of the two of each seed.
    assert judged["least"] <= max(own[-0.18], own[0.18]) <= judged["largest"]


def test_bounds_that_are_changed_in_the_claims_move_in_the_figures(every, monkeypatch):
    def changed(module, claim, low: float, high: float) -> None:
        monkeypatch.setattr(module, claim.name, replace(claim, band=(low, high)))

    changed(matrix_factorisation, equilibrium_closed_form, -np.inf, 0.12)
    tables = every["matrix_factorisation"]
    axes = titled(matrix_factorisation.draw(tables), "anisotropic")
    (level,) = {line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"}
    assert level == 0.12
    assert "dotted: 12 %" in matrix_factorisation.caption(tables)
    changed(data_covariance, sharpening_absent, 0.95, 1.2)
    text = "SGD sharpens at k = 2 and"
    assert text in data_covariance.caption(every["data_covariance"])


def test_the_scatter_of_an_exact_law_is_drawn_as_it_is_said(every):
    low, high = noether_flow.SCATTER
    assert f"grey: {low:g} to {high:g}" in noether_flow.caption(every["noether_flow"])
    band = noether_flow.draw(every["noether_flow"]).axes[0].patches[0]
    assert (band.get_y(), band.get_height()) == (low, pytest.approx(high - low))
    low, high = normalisation.SCATTER
    assert f"grey: {low:g} to {high:g}" in normalisation.caption(every["normalisation"])


# Nothing is read from a case's name


@pytest.mark.parametrize("name", [name for name in NAMES if name != "convergence_speed"])
@pytest.mark.filterwarnings("error")
def test_cases_of_any_name_are_drawn(name, every):
    renamed = {}
    for experiment, given in every[name].items():
        cases = given.settings["cases"]
        names = {case: f"arm_{place}" for place, case in enumerate(cases)}
        runs = given.runs.assign(case=given.runs["case"].map(names))
        renamed[experiment] = table(experiment, runs, cases={names[c]: s for c, s in cases.items()})
    figure, own = MODULES[name].draw(renamed), MODULES[name].draw(every[name])
    assert len(figure.axes) == len(own.axes)
    for drawn, expected in zip(figure.axes, own.axes, strict=True):
        assert len(drawn.lines) == len(expected.lines)
    if name != "noether_flow":
        assert words(figure) == words(own)
        assert MODULES[name].caption(renamed).replace("arm ", "") == MODULES[name].caption(
            every[name]
        )


def with_case(every, name: str, like: str, case: str, **settings) -> dict[str, ExperimentTable]:
    """The tables with one more case in the last experiment: the runs of another, renamed."""
    experiment = EXPERIMENTS[name][-1]
    given = every[name][experiment]
    runs = given.runs[given.runs["case"] == like].assign(case=case)
    cases = given.settings["cases"]
    both = pd.concat([given.runs, runs], ignore_index=True)
    added = table(experiment, both, cases=cases | {case: cases[like] | settings})
    return every[name] | {experiment: added}


@pytest.mark.filterwarnings("error")
def test_a_start_that_is_not_the_papers_is_drawn_under_its_case(every):
    orthogonal = {"model": {"initialisation": {"kind": "orthogonal"}}}
    mild = with_case(every, "matrix_factorisation", "sgd_balanced", "sgd_orthogonal", **orthogonal)
    figure = matrix_factorisation.draw(mild)
    beside = [text.get_text() for text in titled(figure, "norms").texts]
    assert "SGD orthogonal" in beside
    assert "small U, large W" in beside
    unbalanced = with_case(
        every, "matrix_factorisation", "sgd_small_u", "sgd_orthogonal", **orthogonal
    )
    figure = matrix_factorisation.draw(unbalanced)
    figure.draw_without_rendering()
    (line,) = lines(titled(figure, "charge"), "SGD orthogonal")
    taken = {own.get_color() for own in lines(titled(figure, "charge")) if own is not line}
    assert line.get_color() not in taken
    assert "nan" not in matrix_factorisation.caption(unbalanced)


@pytest.mark.filterwarnings("error")
def test_an_unknown_start_on_anisotropic_data_is_a_place_on_the_axis(every):
    cases = CASES["equilibrium"]
    orthogonal = {"sgd_orthogonal": SGD | {"model": {"initialisation": {"kind": "orthogonal"}}}}
    runs = noise.equilibrium()
    added = runs[runs["case"] == "sgd_small_w"].assign(case="sgd_orthogonal")
    given = table("equilibrium", pd.concat([runs, added]), cases=cases | orthogonal)
    axes = titled(matrix_factorisation.draw({"equilibrium": given}), "anisotropic")
    assert [t.get_text() for t in axes.get_xticklabels()][-1] == "SGD orthogonal"


@pytest.mark.parametrize(
    ("name", "like", "settings"),
    [
        ("warmup", "sgd_xavier", {"model": {"initialisation": {"kind": "orthogonal"}}}),
        ("warmup", "sgd_kaiming_warmup", {"schedule": {"kind": "cosine", "final": 0.1}}),
        ("warmup", "sgd_kaiming_warmup", {"training": {"batch": 2}}),
        ("scale_invariance", "sgd", {"training": {"batch": 3}}),
        ("normalisation", "net_a_sgd", {"training": {"batch": 3}}),
        ("normalisation", "net_b_sgd", {"model": {"kind": "other"}}),
        ("representations", "tanh_sgd", {"training": {"batch": 3}}),
        ("representations", "relu_gd", {"model": {"activation": "elu"}}),
        ("noether_flow", "isotropic", {}),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_further_case_is_drawn_under_its_name(name, like, settings, every):
    figure = MODULES[name].draw(with_case(every, name, like, "one_more", **settings))
    figure.draw_without_rendering()
    texts = [axes.get_title(loc="left") for axes in figure.axes] + words(figure)
    texts += [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert ("ELU" if "activation" in settings.get("model", {}) else "one more") in texts
    assert "nan" not in MODULES[name].caption(with_case(every, name, like, "one_more", **settings))


@pytest.mark.parametrize(
    ("data", "phi", "power"),
    [
        ({"inputs": 4, "outputs": 4, "input_std": 2.0}, 4.0, np.nan),
        ({"inputs": 2, "outputs": 2, "input_std": [0.5, 2.0], "noise_std": 1.0}, 0.25, 0.0),
        ({"inputs": 2, "outputs": 2, "input_std": [0.5, 2.0], "noise_std": [0.25, 4.0]}, 0.25, 2.0),
        (
            {
                "inputs": 3,
                "outputs": 3,
                "input_std": {"first": 1.0, "last": 3.0},
                "noise_std": {"first": 2.0, "last": 6.0},
            },
            1.0,
            1.0,
        ),
        ({"inputs": 2, "outputs": 3, "input_std": [0.5, 2.0], "noise_std": 1.0}, 0.25, np.nan),
    ],
)
def test_numbers_come_from_the_settings(data, phi, power):
    network = Network("sharpening", "any", 4, 0.1, setup={"data": data})
    assert data_covariance.first_variance(network) == phi
    np.testing.assert_equal(data_covariance.noise_power(network), power)


def test_ratio_of_the_flow(every):
    network = Network("noether_flow", "anisotropic", 40, 1e-3)
    tables = every["noether_flow"]
    assert noether_flow.ratio(tables, network, "flow_predicted", 1).mean() == pytest.approx(
        1, abs=0.01
    )
    expected = 1 / (1 - 0.08)
    assert noether_flow.ratio(tables, network, "flow_sde", 1).mean() == pytest.approx(
        expected, rel=0.01
    )
    assert noether_flow.ratio(tables, network, "nothing", 1).empty
    assert "(η = 0.001, S = 10) over 2,000 draws" in noether_flow.caption(tables)
    order = [t.get_text() for t in noether_flow.draw(tables).axes[0].get_xticklabels()]
    assert order[:3] == ["isotropic\ndata", "anisotropic\ndata", "narrow\nnet"]
    assert "narrow networks exclude it" in noether_flow.caption(tables)


def test_what_is_not_predicted_is_said_where_its_marker_would_be(every):
    tables = every["noether_flow"]
    given = tables["noether_flow"].runs
    bare = given[~((given["quantity"] == "flow_unweighted") & (given["case"] == "tanh"))]
    for runs in (given, bare):
        chosen = {"noether_flow": table("noether_flow", runs)}
        networks = noether_flow.results.networks(chosen, *noether_flow.READS)
        for axes, index in zip(noether_flow.draw(chosen).axes, noether_flow.POINTS, strict=True):
            missing = [
                noether_flow.ratio(chosen, network, law, index).empty
                for network in networks
                for law in noether_flow.LAWS
            ]
            said = [text for text in axes.texts if text.get_text() == "not predicted"]
            assert len(said) == sum(missing)
    assert sum(missing) > 0
