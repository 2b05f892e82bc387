"""The figures of li2022's mechanism and of what goes beyond it, drawn from a two-layer net."""

import ast
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import two_layer_linear
from two_layer_linear import SAMPLES

import sharpflow.figures
from sharpflow.dynamics import first_crossing
from sharpflow.figures import _edge, alignment, base, beyond, freezing, two_layer_theory
from sharpflow.figures.base import ExperimentTable
from sharpflow.statistics import summarise

NAMES = ["alignment", "beyond", "freezing", "two_layer_theory"]
RATE = 0.35


def tables(runs: pd.DataFrame, **settings) -> dict[str, ExperimentTable]:
    return {"net": ExperimentTable(runs, summarise(runs), {"title": "Two layers", **settings})}


def frozen(slopes=(3.0, 2.0, 1.0, 0.2), seeds=3, steps=200) -> pd.DataFrame:
    """Straight sharpness curves, one slope a number of frozen layers; 2/η = 400."""
    parts = []
    for number, slope in enumerate(slopes):
        for seed in range(seeds):
            curve = 10 + slope * (1 + 0.1 * seed) * np.arange(steps)
            for quantity, values in (
                ("gauss_newton_sharpness", curve),
                ("trained_sharpness", 0.8 * curve),
                ("output_norm_squared", curve / 400),
                ("residual_dot_outputs", -curve),
                ("eigenvector_alignment", np.full(steps, 0.99)),
                ("loss", 1 / curve),
            ):
                rows = {"step": np.arange(steps), "quantity": quantity, "value": values}
                parts.append(pd.DataFrame(rows).assign(case=f"frozen_{number}", seed=seed))
    runs = pd.concat(parts).assign(width=8, learning_rate=0.005, index=0)
    return pd.concat([runs, samples_of(runs)], ignore_index=True)


def samples_of(runs: pd.DataFrame) -> pd.DataFrame:
    keys = runs[["case", "width", "learning_rate", "seed"]].drop_duplicates()
    return keys.assign(step=0, quantity="samples", index=0, value=float(SAMPLES))


@pytest.fixture(scope="module")
def net() -> dict[str, ExperimentTable]:
    return tables(two_layer_linear.table())


def given(name, net):
    return tables(frozen()) if name == "freezing" else net


def diverging(given: dict[str, ExperimentTable], step: int) -> dict[str, ExperimentTable]:
    runs = given["net"].runs.copy()
    seed = runs["seed"].min()
    lost = (runs["seed"] == seed) & (runs["step"] >= step) & (runs["quantity"] != "samples")
    runs.loc[lost, "value"] = np.nan
    keys = runs.loc[runs["seed"] == seed, ["case", "width", "learning_rate", "seed"]]
    marks = keys.drop_duplicates().assign(
        step=step, quantity="diverged_step", index=0, value=float(step)
    )
    return tables(pd.concat([runs, marks], ignore_index=True))


def drawn(axes, label: str) -> np.ndarray:
    """The line of that label, an array (points, 2)."""
    return next(line.get_xydata() for line in axes.lines if line.get_label() == label)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_draws_without_a_warning_and_says_the_scale(name, net):
    module, chosen = base.load(name), given(name, net)
    figure = module.draw(chosen)
    figure.draw_without_rendering()
    assert figure.legends
    assert "step" in [axes.get_xlabel() for axes in figure.axes]
    caption = module.caption(chosen)
    assert f"n = {SAMPLES} samples" in caption
    assert "3 seeds" in caption
    assert "nan" not in caption


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("step", [0, 1, 70])
@pytest.mark.filterwarnings("error")
def test_draws_a_diverged_run_and_says_so(name, step, net):
    module, chosen = base.load(name), diverging(given(name, net), step)
    module.draw(chosen).draw_without_rendering()
    assert "runs diverged" in module.caption(chosen)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_draws_a_single_seed_of_few_steps(name, net):
    runs = given(name, net)["net"].runs
    runs = runs[(runs["seed"] == runs["seed"].min()) & (runs["step"] < 6)]
    module = base.load(name)
    module.draw(tables(runs)).draw_without_rendering()
    assert "1 seed." in module.caption(tables(runs))


@pytest.mark.parametrize("name", NAMES)
def test_without_the_quantity_is_an_error(name, net):
    runs = net["net"].runs
    with pytest.raises(ValueError, match=r"no run|no quantity"):
        base.load(name).draw(tables(runs[runs["quantity"].isin(["loss", "samples"])]))


@pytest.mark.parametrize("name", NAMES)
def test_figure_modules_do_not_import_each_other(name):
    folder = Path(sharpflow.figures.__file__).parent
    tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
    imported = {
        f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert not {f"sharpflow.figures.{other}" for other in base.names()} & imported


class TestCrossings:
    def test_first_and_later_crossings_of_a_known_curve(self):
        step = np.arange(400)
        values = 100 + 20 * np.sin(2 * np.pi * (step - 50) / 100)
        runs = pd.DataFrame({"step": step, "value": values}).assign(
            case="a", width=1, learning_rate=0.02, seed=0, quantity=_edge.SHARPNESS, index=0
        )
        chosen = tables(runs)
        (network,) = base.networks(chosen)
        # Starts at the threshold, falls below at once, and comes up at 50 + 100 k.
        assert _edge.crossing_step(chosen, network, 0) == 0
        assert _edge.later_crossings(chosen, network, 0) == [50, 150, 250, 350]
        late = tables(runs[runs["step"] > 10])
        assert _edge.crossing_step(late, network, 0) == 50
        assert _edge.later_crossings(late, network, 0) == [150, 250, 350]

    def test_none_for_a_run_that_never_reaches_it(self, net):
        (network,) = base.networks(net)
        far = base.Network("net", "linear", 12, RATE, stability_threshold=1e6)
        assert network.threshold == pytest.approx(2 / RATE)
        assert _edge.crossing_step(net, far, 1) is None
        assert _edge.later_crossings(net, far, 1) == []


class TestStatedThreshold:
    def test_momentum_replaces_two_over_eta_everywhere(self):
        runs = two_layer_linear.table()
        stated = samples_of(runs).assign(quantity="stability_threshold", value=7.5)
        chosen = tables(pd.concat([runs, stated]))
        (network,) = base.networks(chosen, "gauss_newton_sharpness")
        assert network.threshold == 7.5
        assert base.label(chosen, network, [network]) == "linear, (2 + 2β)/η = 7.5"
        chosen["net"].settings["cases"] = {"linear": {"training": {"momentum": 0.5}}}
        assert base.label(chosen, network, [network]) == "linear, β = 0.5, (2 + 2β)/η = 7.5"
        assert "(2 + 2β)/η = 7.5" in base.scale_sentence(chosen)
        figure = beyond.draw(chosen)
        ratio = drawn(figure.axes[0], "sharpness Λ / threshold")[:, 1]
        curve = two_layer_linear.run(1)["gauss_newton_sharpness"]
        np.testing.assert_allclose(ratio, curve / 7.5)


class TestTwoLayerTheory:
    def test_increment_obeys_the_identity_to_rounding(self, net):
        (network,) = base.networks(net, "residual_dot_outputs")
        for seed in (1, 2, 3):
            moves = two_layer_theory.increments(net, network, seed)
            curves = two_layer_linear.run(seed)
            scale = np.abs(moves["measured"]).max()
            error = moves["remainder"] - curves["second_order"][: len(moves)]
            assert np.abs(error).max() < 1e-12 * scale
            np.testing.assert_allclose(
                moves["predicted"], -4 * RATE / SAMPLES * curves["residual_dot_outputs"][:-1]
            )

    def test_a_wrong_learning_rate_would_show(self, net):
        wrong = base.Network("net", "linear", 12, RATE)
        moves = two_layer_theory.increments(net, wrong, 1)
        curve = two_layer_linear.run(1)
        off = moves["measured"] + 4 * 1.5 * RATE / SAMPLES * curve["residual_dot_outputs"][:-1]
        error = np.abs(off - curve["second_order"][:-1]).max()
        assert error > 0.1 * np.abs(moves["measured"]).max()

    def test_only_neighbouring_steps_make_an_increment(self, net):
        runs = net["net"].runs
        dot = runs["quantity"] == "residual_dot_outputs"
        chosen = tables(runs[~dot | (runs["step"] % 5 == 0)])
        (network,) = base.networks(chosen, "residual_dot_outputs")
        moves = two_layer_theory.increments(chosen, network, 1)
        assert set(moves.index % 5) == {0}
        thinned = tables(runs[runs["step"] % 2 == 0])
        assert two_layer_theory.increments(thinned, network, 1).empty

    def test_return_is_marked_and_told(self, net):
        (network,) = base.networks(net, "residual_dot_outputs")
        curve = two_layer_linear.run(1)["gauss_newton_sharpness"]
        back = two_layer_theory.return_step(net, network, 1)
        averaged = (curve[1:] + curve[:-1]) / 2
        crossing = first_crossing(curve, network.threshold)
        after = np.flatnonzero(averaged[crossing + 2 :] < network.threshold)[0] + crossing + 2
        assert back == after
        marks = [
            line.get_xdata()[0]
            for line in two_layer_theory.draw(net).axes[0].lines
            if line.get_label() == "and is below again"
        ]
        assert marks == [back]
        caption = two_layer_theory.caption(net)
        assert "3 of 3 seeds return below 2/η" in caption
        assert "negative difference: never" in caption

    def test_a_run_that_does_not_return(self):
        slow = tables(two_layer_linear.table(learning_rates=(0.1,)))
        (network,) = base.networks(slow, "residual_dot_outputs")
        assert two_layer_theory.return_step(slow, network, 1) is None
        assert "0 of 3 seeds return" in two_layer_theory.caption(slow)


class TestAlignment:
    def test_panels_hold_the_quantities(self, net):
        top, parts, turns, along, dot = alignment.draw(net).axes
        curves = two_layer_linear.run(1)
        np.testing.assert_allclose(drawn(top, "second Λ₂")[:, 1], curves["second_eigenvalue"])
        part = drawn(parts, "(2/n) λ_max(M_A)")[:, 1]
        np.testing.assert_allclose(part, curves["output_layer_sharpness"])
        assert np.all(part <= curves["gauss_newton_sharpness"] + 1e-12)
        turn = 1 - curves["eigenvector_alignment"][1:]
        # Of the lines longer than a mark, the strong one is the widest.
        curves_drawn = [line for line in turns.lines if len(line.get_xdata()) > 2]
        shown = max(curves_drawn, key=lambda line: line.get_linewidth()).get_ydata()
        np.testing.assert_allclose(shown, turn[turn > 0])
        assert (along.get_ylabel(), dot.get_ylabel()) == ("Dᵀv₁", "DᵀF")
        for axes in (along, dot):
            low, high = axes.get_ylim()
            assert low == -high

    def test_caption_gives_the_extremes(self, net):
        largest = max(two_layer_linear.run(s)["second_eigenvalue"].max() for s in (1, 2, 3))
        assert f"Λ₂ at most {largest * RATE / 2:.2f} of the threshold" in alignment.caption(net)

    def test_without_a_second_eigenvalue_or_the_output_part(self, net):
        runs = net["net"].runs
        plain = tables(runs[(runs["index"] == 0) & (runs["quantity"] != "output_layer_sharpness")])
        alignment.draw(plain).draw_without_rendering()
        caption = alignment.caption(plain)
        assert "Λ₂ at most" not in caption
        assert "M_A's part" not in caption


class TestFreezing:
    def test_growth_rates_are_the_slopes(self):
        chosen = tables(frozen())
        (members,) = freezing.groups(chosen)
        rates = freezing.growth(chosen, members)
        expected = [s * (1 + 0.1 * seed) for seed in range(3) for s in (3.0, 2.0, 1.0, 0.2)]
        np.testing.assert_allclose(rates["rate"], expected)
        assert "0 frozen: 3.3, 1 frozen: 2.2, 2 frozen: 1.1, 3 frozen: 0.22" in (
            freezing.caption(chosen)
        )

    def test_panels(self):
        whole, trained, rates = freezing.draw(tables(frozen())).axes
        ratio = drawn(trained, "2 frozen")[:, 1] / drawn(whole, "2 frozen")[:, 1]
        np.testing.assert_allclose(ratio, 0.8)
        assert list(rates.get_xticks()) == [0, 1, 2, 3]

    def test_two_widths_are_two_rows(self):
        runs = frozen()
        both = tables(pd.concat([runs, runs.assign(width=16)]))
        assert len(freezing.groups(both)) == 2
        assert len(freezing.draw(both).axes) == 6

    def test_other_cases_are_refused(self, net):
        with pytest.raises(ValueError, match="frozen_2"):
            freezing.groups(net)


class TestBeyond:
    def test_verdicts_of_known_curves(self, net):
        judged = beyond.verdicts(net)
        assert judged["reached"].all()
        assert judged["batch_end"].isna().all()
        assert (judged["agreement"] > 0.9).all()
        assert not judged["above"].any()
        assert "Λ reaches its threshold in 3 of 3 seeds" in beyond.caption(net)
        percent = 100 * judged["agreement"].median()
        assert f"‖A‖² moves with Λ at {percent:.0f} % of records" in beyond.caption(net)
        assert "batch" not in beyond.caption(net)

    def test_the_title_names_the_experiment(self, net):
        expected = "Two layers: the sharpness over its threshold, and ‖A‖²"
        assert base.title(beyond, net) == expected
        assert base.title(alignment, net) == alignment.TITLE

    def test_the_average_of_the_strong_line_is_drawn(self, net):
        curve = two_layer_linear.run(1)["gauss_newton_sharpness"] * RATE / 2
        shown = drawn(beyond.draw(net).axes[0], "its two-step average")
        np.testing.assert_allclose(shown[:, 1], (curve[1:] + curve[:-1]) / 2)

    def test_a_norm_that_goes_the_other_way_does_not_track(self, net):
        runs = net["net"].runs.copy()
        norm = runs["quantity"] == "output_norm_squared"
        runs.loc[norm, "value"] = 10 - runs.loc[norm, "value"]
        assert (beyond.verdicts(tables(runs))["agreement"] < 0.1).all()

    def test_a_network_that_starts_above_comes_down(self, net):
        runs = net["net"].runs
        curve = runs["quantity"] == "gauss_newton_sharpness"
        falling = runs.assign(value=np.where(curve, 4 / RATE - runs["value"], runs["value"]))
        judged = beyond.verdicts(tables(falling))
        assert judged["above"].all()
        assert judged["reached"].all()
        assert "Λ comes down to its threshold in 3 of 3 seeds" in beyond.caption(tables(falling))
        far = runs.assign(value=np.where(curve, 9 / RATE, runs["value"]))
        assert "Λ comes down to its threshold in 0 of 3" in beyond.caption(tables(far))

    def test_the_batch_sharpness_is_drawn_over_the_same_threshold(self, net):
        runs = net["net"].runs
        batch = runs[(runs["quantity"] == "gauss_newton_sharpness") & (runs["index"] == 0)]
        batch = batch[batch["step"] % 25 == 0].assign(quantity="batch_sharpness", value=3 / RATE)
        chosen = tables(pd.concat([runs, batch]))
        shown = drawn(beyond.draw(chosen).axes[0], "batch sharpness / threshold")
        np.testing.assert_allclose(shown[:, 1], 1.5)
        np.testing.assert_allclose(beyond.verdicts(chosen)["batch_end"], 1.5)
        assert "batch sharpness ends at 1.50 of it" in beyond.caption(chosen)

    def test_an_even_stride_is_owned_up_to(self, net):
        runs = net["net"].runs
        assert "even stride" not in beyond.caption(net)
        assert "even stride" in beyond.caption(tables(runs[runs["step"] % 2 == 0]))
