"""The figures of ziyin2024, drawn from tables made of the theory's formulas."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic_noise as noise
from matplotlib.figure import Figure

import sharpflow.figures
from sharpflow.figures import _ensemble as ensemble
from sharpflow.figures import base, style
from sharpflow.figures.base import ExperimentTable, Network

EXPERIMENTS = {
    "scale_invariance": ["scale_invariance"],
    "matrix_factorisation": ["equilibrium", "matrix_factorisation"],
    "data_covariance": ["data_covariance", "sharpening"],
    "warmup": ["warmup"],
    "normalisation": ["normalisation"],
    "representations": ["representations"],
    "convergence_speed": ["convergence_speed"],
    "noether_flow": ["noether_flow"],
}
NAMES = list(EXPERIMENTS)
SETTINGS = {
    "warmup": {
        "cases": {
            "sgd_kaiming_constant": {"training": {"batch": 1}},
            "sgd_kaiming_warmup": {
                "training": {"batch": 1, "warmup": {"learning_rate": 0.001, "until": 5000}}
            },
        }
    },
    "representations": {"cases": {"tanh_sgd": {}, "tanh_gd": {}, "relu_sgd": {}, "relu_gd": {}}},
    "noether_flow": {
        "cases": {"isotropic": {}, "anisotropic": {}},
        "measurements": {"noether_flow": {"learning_rate": 0.001, "batch": 10}},
    },
}


def table(name: str, runs: pd.DataFrame) -> ExperimentTable:
    settings = {"title": name.capitalize(), "paper": "ziyin2024"} | SETTINGS.get(name, {})
    return ExperimentTable(runs, pd.DataFrame(), settings)


def tables_of(name: str, **twists) -> dict[str, ExperimentTable]:
    made = {e: noise.EXPERIMENTS[e] for e in EXPERIMENTS[name]}
    return {e: table(e, make(**twists.get(e, {}))) for e, make in made.items()}


@pytest.fixture(scope="module")
def every() -> dict[str, dict[str, ExperimentTable]]:
    return {name: tables_of(name) for name in NAMES}


def words(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def lines(axes, label: str | None = None) -> list:
    return [line for line in axes.lines if label is None or line.get_label() == label]


def titled(figure: Figure, part: str):
    return next(axes for axes in figure.axes if part in axes.get_title(loc="left"))


def test_every_figure_is_registered():
    assert set(NAMES) <= set(base.names())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_draws_without_a_warning_with_every_label_in_one_legend(name, every):
    figure = base.load(name).draw(every[name])
    figure.draw_without_rendering()
    assert len(figure.legends) == 1
    assert len(set(words(figure))) == len(words(figure))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_draws_a_single_seed(name, every):
    few = {e: table(e, given.runs[given.runs["seed"] == 0]) for e, given in every[name].items()}
    module = base.load(name)
    module.draw(few)
    assert "1 seed." in module.caption(few) or "1 seed;" in module.caption(few)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_draws_a_run_that_diverged(name, every):
    module = base.load(name)
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
        base.load(name).draw(bare)


@pytest.mark.parametrize("name", NAMES)
def test_caption_takes_scale_and_title_from_the_tables(name, every):
    caption = base.load(name).caption(every[name])
    for experiment, given in every[name].items():
        assert experiment.capitalize() in caption
        last = int(given.runs["step"].max())
        assert f"steps 0 to {last:,}" in caption or not last
    assert f"{noise.SEEDS} seeds" in caption
    assert "nan" not in caption
    assert "undefined" not in caption
    assert not re.search(r"  |\.\.|\{|\}", caption)
    assert "-" not in re.sub(r"\w-\w", "", caption)


def test_same_bytes_twice(every, tmp_path):
    name = "representations"
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        figure = base.load(name).draw(every[name])
        style.save(figure, tmp_path / folder / "a.png", tmp_path / folder / "a.pdf")
    for file in ("a.png", "a.pdf"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert (tmp_path / "one" / "a.png").stat().st_size < 300_000


def test_no_figure_imports_torch_or_another_figure():
    folder = Path(sharpflow.figures.__file__).parent
    for name in [*NAMES, "_ensemble"]:
        tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
        imported = {
            f"{node.module}.{alias.name}"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        assert not {f"sharpflow.figures.{other}" for other in NAMES} & imported
    code = (
        "import sys; from sharpflow.figures.base import load;"
        f"[load(name) for name in {NAMES}]; print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder.parents[1],
    )
    assert done.stdout.strip() == "False"


# What each figure holds


def test_the_band_spans_all_seeds_and_the_line_is_their_median():
    frame = pd.DataFrame({0: [1.0, 2.0], 1: [3.0, 6.0], 2: [2.0, 7.0]}, index=[0, 10])
    axes = Figure().subplots()
    line = ensemble.draw_band(axes, frame, style.BLUE)
    np.testing.assert_array_equal(line.get_ydata(), [2, 6])
    (band,) = axes.collections
    edges = band.get_paths()[0].vertices
    assert edges[:, 1].min() == 1
    assert edges[:, 1].max() == 7


def test_points_show_every_seed_and_the_interval():
    values = np.array([1.0, 2.0, 4.0, 5.0])
    for scale in ("linear", "log"):
        axes = Figure().subplots()
        axes.set_xscale(scale)
        mark = ensemble.draw_points(axes, 3.0, values, style.BLUE, spread=0.1)
        assert mark.get_ydata()[0] == 3
        dots, bar = axes.collections
        np.testing.assert_array_equal(dots.get_offsets()[:, 1], values)
        half = 3.182446 * values.std(ddof=1) / 2
        ends = bar.get_segments()[0][:, 1]
        np.testing.assert_allclose(ends, [3 - half, 3 + half], rtol=1e-5)
    assert ensemble.draw_points(axes, 3.0, np.array([np.nan]), style.BLUE) is None


def test_interval_as_text():
    assert ensemble.interval_text([1.0, 1.0]) == "1.000 ± 0.000"
    assert ensemble.interval_text([2.0]) == "2"
    assert ensemble.interval_text([-1.01, -0.99]) == "−1.00 ± 0.13"
    assert ensemble.interval_text([1.0, np.nan]) == "undefined"


def test_a_number_in_a_case():
    assert ensemble.number_in("sgd_phi_0_25") == 0.25
    assert ensemble.number_in("batch_400") == 400
    assert ensemble.number_in("width") is None


def test_radius_is_drawn_beside_its_prediction(every):
    figure = base.load("scale_invariance").draw(every["scale_invariance"])
    axes = titled(figure, "radius")
    (sgd,), (gd,), (predicted,) = (lines(axes, w) for w in ("SGD", "GD", "predicted for SGD"))
    assert sgd.get_ydata()[-1] == pytest.approx(predicted.get_ydata()[-1], rel=0.05)
    assert predicted.get_ydata()[-1] == pytest.approx((1 + 8 * 0.02**2 * 4 * 2000) ** 0.25)
    assert gd.get_ydata()[-1] == pytest.approx(1.034, abs=1e-3)


def test_the_charge_falls_under_sgd_and_not_under_gd(every):
    module = base.load("matrix_factorisation")
    figure = module.draw(every["matrix_factorisation"])
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
    module = base.load("matrix_factorisation")
    tables = every["matrix_factorisation"]
    figure = module.draw(tables)
    axes = titled(figure, "anisotropic")
    (level,) = {line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == ":"}
    assert level == 0.06
    assert "anisotropic noise and a rotated teacher" in module.caption(tables)
    isotropic = {"matrix_factorisation": tables["matrix_factorisation"]}
    assert len(module.draw(isotropic).axes) == 3
    assert "rotated teacher" not in module.caption(isotropic)


def test_norm_ratio_beside_the_closed_form(every):
    module = base.load("data_covariance")
    tables = every["data_covariance"]
    axes = titled(module.draw(tables), "norm ratio")
    dashes = lines(axes, "closed form")
    sgd = {float(mark.get_xdata()[0]): float(mark.get_ydata()[0]) for mark in lines(axes, "SGD")}
    assert list(sgd) == sorted(noise.PHIS)
    for phi, value in zip(dashes[0].get_xdata(), dashes[0].get_ydata(), strict=True):
        assert value == pytest.approx(np.sqrt(phi * (2 - phi)))
        assert sgd[phi] == pytest.approx(value, rel=0.02)


def test_caption_says_which_noise_sharpens_from_the_tables(every):
    module = base.load("data_covariance")
    tables = every["data_covariance"]
    text = "SGD sharpens at k = 1.5, k = 2 and flattens at k = 0, k = 0.5"
    assert text in module.caption(tables)
    still = table("sharpening", noise.sharpening(reached=0.0))
    text = "SGD sharpens nowhere and flattens nowhere"
    assert text in module.caption(tables | {"sharpening": still})


def test_sharpening_is_left_out_where_it_was_not_run(every):
    alone = {"sharpening": every["data_covariance"]["sharpening"]}
    assert len(base.load("data_covariance").draw(alone).axes) == 2
    assert "Above" not in base.load("data_covariance").caption(alone)
    alone = {"data_covariance": every["data_covariance"]["data_covariance"]}
    module = base.load("data_covariance")
    assert len(module.draw(alone).axes) == 2
    assert "balanced start" not in module.caption(alone)


def test_warmup_marks_the_runs_that_diverged_and_the_end_of_warmup(every):
    module = base.load("warmup")
    figure = module.draw(every["warmup"])
    crosses = [line for axes in figure.axes for line in lines(axes, "run diverged")]
    assert [len(line.get_xdata()) for line in crosses] == [noise.SEEDS]
    moment = [line for axes in figure.axes for line in lines(axes, "end of warm-up")]
    assert [line.get_xdata()[0] for line in moment] == [5000]
    caption = module.caption(every["warmup"])
    assert f"{noise.SEEDS} of {noise.SEEDS} runs diverged, by step 500" in caption
    assert "η = 0.001 before step 5,000" in caption
    stable = module.caption(tables_of("warmup", warmup={"diverging": 0}))
    assert "diverged, by" not in stable


def test_growth_of_the_norm_and_its_exponent(every):
    module = base.load("normalisation")
    tables = every["normalisation"]
    (network,) = (n for n in base.networks(tables, "norm_squared") if n.case == "net_b_sgd")
    slopes = module.exponents(tables, network)
    assert len(slopes) == noise.SEEDS
    assert np.mean(slopes) == pytest.approx(0.5, abs=0.02)
    ratio = module.growth_ratio(tables, network)
    assert ratio.shape[1] == noise.SEEDS
    assert ratio.to_numpy().mean() == pytest.approx(1, abs=0.05)
    (growth,) = lines(titled(module.draw(tables), "Net-B"), "‖θ‖², SGD")
    assert growth.get_ydata()[-1] == pytest.approx((1 + 0.03 * 10_000) ** 0.5, rel=0.05)


def test_pictures_are_alike_for_aligned_layers_and_units_share_an_order(every):
    figure = base.load("representations").draw(every["representations"])
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
def test_exponents_a_step_and_a_unit_of_sde_time(twist, exponent, every):
    module = base.load("convergence_speed")
    tables = every["convergence_speed"]
    if twist:
        tables = tables_of("convergence_speed", convergence_speed=twist)
    rates = module.decay_rates(tables)
    eta = rates[rates["group"] == "eta"]
    assert module.exponent(eta, "learning_rate", eta["rate"])[0] == pytest.approx(exponent)
    scaled = eta["rate"] / eta["learning_rate"]
    assert module.exponent(eta, "learning_rate", scaled)[0] == pytest.approx(exponent - 1)
    titles = [axes.get_title(loc="left") for axes in module.draw(tables).axes]
    assert titles[0].startswith(f"exponent of η, a step: {exponent:.3f}")
    assert titles[1].startswith(f"exponent of η, a unit of SDE time t = ηk: {exponent - 1:.3f}")
    assert "not yet" in module.caption(tables)


def test_rates_agree_with_the_claims(every):
    from sharpflow import claims
    from sharpflow.claims import _noise

    tables = every["convergence_speed"]
    rates = base.load("convergence_speed").decay_rates(tables)
    runs = {
        (r.case.split("_")[0], r.learning_rate, r.width, r.seed, r.case): _noise.decay_rate(r)
        for r in claims.runs_of(tables["convergence_speed"].runs)
        if r.case in ("eta", "width")
    }
    for (group, rate, width, seed, _), value in runs.items():
        chosen = rates[
            (rates["group"] == group)
            & (rates["learning_rate"] == rate)
            & (rates["width"] == width)
            & (rates["seed"] == seed)
        ]
        assert chosen["rate"].iloc[0] == pytest.approx(value, rel=1e-12)


def test_ratio_of_the_flow(every):
    module = base.load("noether_flow")
    network = Network("noether_flow", "anisotropic", 40, 1e-3)
    tables = every["noether_flow"]
    assert module.ratio(tables, network, "flow_predicted", 1).mean() == pytest.approx(1, abs=0.01)
    expected = 1 / (1 - 0.08)
    assert module.ratio(tables, network, "flow_sde", 1).mean() == pytest.approx(expected, rel=0.01)
    assert module.ratio(tables, network, "nothing", 1).empty
    assert "(η = 0.001, S = 10), over 2,000 draws" in module.caption(tables)
    order = [t.get_text() for t in module.draw(tables).axes[0].get_xticklabels()]
    assert order[:3] == ["isotropic\ndata", "anisotropic\ndata", "narrow\nnet"]
    assert "the unweighted flow is excluded" in module.caption(tables)
