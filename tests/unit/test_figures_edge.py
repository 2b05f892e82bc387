"""The figures of li2022's mechanism and of what goes beyond it, drawn from a two-layer net."""

import numpy as np
import pandas as pd
import pytest
import two_layer_linear
from two_layer_linear import SAMPLES

from papers.beyond.figures import beyond
from papers.li2022.claims.freezing import freezing_slows
from papers.li2022.figures import alignment, freezing, two_layer_theory
from sharpflow.figures import base, edge
from sharpflow.results import tables as results
from sharpflow.results.crossings import first_crossing
from sharpflow.results.curves import kendall_tau
from sharpflow.results.runs import runs_by_network, runs_of
from sharpflow.results.summaries import summarise
from sharpflow.results.tables import ExperimentTable, Network

MODULES = {
    "alignment": alignment,
    "beyond": beyond,
    "freezing": freezing,
    "two_layer_theory": two_layer_theory,
}
NAMES = list(MODULES)
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
                ("stability_threshold", np.full(steps, 400.0)),
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


def freezing_cases(*names: str) -> dict[str, dict]:
    """Settings in which the number of frozen layers is the place in the list."""
    return {name: {"training": {"frozen": place}} for place, name in enumerate(names)}


FROZEN = freezing_cases("frozen_0", "frozen_1", "frozen_2", "frozen_3")


def given(name, net):
    return tables(frozen(), cases=FROZEN) if name == "freezing" else net


def diverging(given: dict[str, ExperimentTable], step: int) -> dict[str, ExperimentTable]:
    runs = given["net"].runs.copy()
    seed = runs["seed"].min()
    lost = (runs["seed"] == seed) & (runs["step"] >= step) & (runs["quantity"] != "samples")
    runs.loc[lost, "value"] = np.nan
    keys = runs.loc[runs["seed"] == seed, ["case", "width", "learning_rate", "seed"]]
    marks = keys.drop_duplicates().assign(
        step=step, quantity="diverged_step", index=0, value=float(step)
    )
    settings = {"cases": given["net"].settings.get("cases", {})}
    return tables(pd.concat([runs, marks], ignore_index=True), **settings)


def drawn(axes, label: str) -> np.ndarray:
    """The line of that label, an array (points, 2)."""
    return next(line.get_xydata() for line in axes.lines if line.get_label() == label)


def column(module, given: dict[str, ExperimentTable], heading: str) -> list[str]:
    """A column of a figure's table of numbers."""
    said = module.numbers(given)
    return [row[said["columns"].index(heading)] for row in said["rows"]]


def cell(module, given: dict[str, ExperimentTable], heading: str) -> str:
    """The only number of a column."""
    (only,) = column(module, given, heading)
    return only


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_draws_without_a_warning_and_says_the_scale(name, net):
    module, chosen = MODULES[name], given(name, net)
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
    module, chosen = MODULES[name], diverging(given(name, net), step)
    module.draw(chosen).draw_without_rendering()
    assert "runs diverged" in module.caption(chosen)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_draws_a_single_seed_of_few_steps(name, net):
    runs = given(name, net)["net"].runs
    runs = runs[(runs["seed"] == runs["seed"].min()) & (runs["step"] < 6)]
    module = MODULES[name]
    module.draw(tables(runs)).draw_without_rendering()
    assert "1 seed." in module.caption(tables(runs))


@pytest.mark.parametrize("name", NAMES)
def test_without_the_quantity_is_an_error(name, net):
    runs = net["net"].runs
    with pytest.raises(ValueError, match=r"no run|no quantity"):
        MODULES[name].draw(tables(runs[runs["quantity"].isin(["loss", "samples"])]))


class TestCrossings:
    def test_first_and_later_crossings_of_a_known_curve(self):
        step = np.arange(400)
        values = 100 + 20 * np.sin(2 * np.pi * (step - 50) / 100)
        runs = pd.DataFrame({"step": step, "value": values}).assign(
            case="a", width=1, learning_rate=0.02, seed=0, quantity=edge.SHARPNESS, index=0
        )
        stated = runs.assign(quantity="stability_threshold", value=100.0)
        runs = pd.concat([runs, stated], ignore_index=True)
        chosen = tables(runs)
        (network,) = results.networks(chosen)
        # Starts at the threshold, falls below at once, and comes up at 50 + 100 k.
        assert edge.crossing_step(chosen, network, 0) == 0
        assert edge.later_crossings(chosen, network, 0) == [50, 150, 250, 350]
        late = tables(runs[runs["step"] > 10])
        assert edge.crossing_step(late, network, 0) == 50
        assert edge.later_crossings(late, network, 0) == [150, 250, 350]

    def test_none_for_a_run_that_never_reaches_it(self, net):
        runs = net["net"].runs
        far = runs["quantity"] == "stability_threshold"
        above = tables(runs.assign(value=np.where(far, 1e6, runs["value"])))
        (network,) = results.networks(above)
        assert network.threshold == 1e6
        assert edge.crossing_step(above, network, 1) is None
        assert edge.later_crossings(above, network, 1) == []


class TestStatedThreshold:
    def test_momentum_replaces_two_over_eta_everywhere(self):
        runs = two_layer_linear.table()
        stated = runs["quantity"] == "stability_threshold"
        runs = runs.assign(value=np.where(stated, 7.5, runs["value"]))
        optimiser = {"kind": "heavy_ball", "momentum": 0.5}
        case = {"optimiser": optimiser, "threshold_symbol": "(2 + 2β)/η"}
        chosen = tables(runs, cases={"linear": case})
        (network,) = results.networks(chosen, "gauss_newton_sharpness")
        assert network.threshold == 7.5
        assert base.label(network, [network]) == "linear, β = 0.5, (2 + 2β)/η = 7.5"
        assert "(2 + 2β)/η = 7.5" in base.scale_sentence(chosen)
        figure = beyond.draw(chosen)
        ratio = drawn(figure.axes[0], "sharpness Λ / threshold")[:, 1]
        curve = two_layer_linear.run(1)["gauss_newton_sharpness"]
        np.testing.assert_allclose(ratio, curve / 7.5)
        assert "over the threshold (2 + 2β)/η (dashed" in beyond.caption(chosen)
        assert figure.axes[0].get_ylabel() == "Λ / threshold"


class TestTwoLayerTheory:
    def test_increment_obeys_the_identity_to_rounding(self, net):
        (network,) = results.networks(net, "residual_dot_outputs")
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
        wrong = Network("net", "linear", 12, RATE)
        moves = two_layer_theory.increments(net, wrong, 1)
        curve = two_layer_linear.run(1)
        off = moves["measured"] + 4 * 1.5 * RATE / SAMPLES * curve["residual_dot_outputs"][:-1]
        error = np.abs(off - curve["second_order"][:-1]).max()
        assert error > 0.1 * np.abs(moves["measured"]).max()

    def test_only_neighbouring_steps_make_an_increment(self, net):
        runs = net["net"].runs
        dot = runs["quantity"] == "residual_dot_outputs"
        chosen = tables(runs[~dot | (runs["step"] % 5 == 0)])
        (network,) = results.networks(chosen, "residual_dot_outputs")
        moves = two_layer_theory.increments(chosen, network, 1)
        assert set(moves.index % 5) == {0}
        thinned = tables(runs[runs["step"] % 2 == 0])
        assert two_layer_theory.increments(thinned, network, 1).empty

    def test_return_is_marked_and_told(self, net):
        (network,) = results.networks(net, "residual_dot_outputs")
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
        assert (
            cell(two_layer_theory, net, "seeds that return below 0.98 of the threshold") == "3 of 3"
        )
        assert cell(two_layer_theory, net, "negative difference") == "never"

    def test_a_run_that_does_not_return(self):
        slow = tables(two_layer_linear.table(learning_rates=(0.1,)))
        (network,) = results.networks(slow, "residual_dot_outputs")
        assert two_layer_theory.return_step(slow, network, 1) is None
        heading = "seeds that return below 0.98 of the threshold"
        assert cell(two_layer_theory, slow, heading) == "0 of 3"

    def test_a_mixed_scale_says_so_in_the_panel(self, net):
        *_, dots, moves = two_layer_theory.draw(net).axes
        for axes in (dots, moves):
            assert axes.get_yscale() == "symlog"
            assert "log beyond the grey band" in [text.get_text() for text in axes.texts]
            (band,) = axes.patches
            linear = axes.yaxis.get_transform().linthresh
            assert (band.get_y(), band.get_height()) == (-linear, 2 * linear)


class TestAlignment:
    def test_panels_hold_the_quantities(self, net):
        top, parts, turns, along, dot = alignment.draw(net).axes
        curves = two_layer_linear.run(1)
        second = drawn(top, "second eigenvalue Λ₂")[:, 1]
        np.testing.assert_allclose(second, curves["second_eigenvalue"] * RATE / 2)
        part = drawn(parts, "output layer's λₘₐₓ / Λ")[:, 1]
        expected = curves["output_layer_sharpness"] / curves["gauss_newton_sharpness"]
        np.testing.assert_allclose(part, expected)
        assert np.all(part <= 1 + 1e-12)
        turn = 1 - curves["eigenvector_alignment"][1:]
        # Of the lines longer than a mark, the strong one is the widest.
        curves_drawn = [line for line in turns.lines if len(line.get_xdata()) > 2]
        shown = max(curves_drawn, key=lambda line: line.get_linewidth()).get_ydata()
        np.testing.assert_allclose(shown, turn[turn > 0])
        assert (along.get_ylabel(), dot.get_ylabel()) == ("Dᵀv₁", "DᵀF")
        for axes in (along, dot):
            low, high = axes.get_ylim()
            assert low == -high

    def test_what_alternates_is_drawn_as_two_branches(self, net):
        *_, along, _ = alignment.draw(net).axes
        values = two_layer_linear.run(1)["residual_along_v1"]
        even = drawn(along, "Dᵀv₁, even and odd steps")
        assert set(even[:, 0] % 2) == {0}
        np.testing.assert_allclose(even[:, 1], values[::2])
        branches = {
            frozenset(line.get_xdata() % 2) for line in along.lines if len(line.get_xdata()) > 2
        }
        assert branches == {frozenset({0}), frozenset({1})}

    def test_every_curve_is_in_the_legend(self, net):
        figure = alignment.draw(net)
        named = {text.get_text() for text in figure.legends[0].get_texts()}
        assert {"Λ, even and odd steps", "turn of v₁ in a step", "threshold 2/η"} <= named
        assert {"Dᵀv₁, even and odd steps", "DᵀF, even and odd steps"} <= named
        assert not [text for text in named if "_" in text]

    def test_table_gives_the_extremes_and_the_percentile(self, net):
        curves = [two_layer_linear.run(seed) for seed in (1, 2, 3)]
        largest = max(own["second_eigenvalue"].max() for own in curves)
        assert cell(alignment, net, "largest Λ₂ / threshold") == f"{largest * RATE / 2:.2f}"
        turns = [np.percentile(1 - own["eigenvector_alignment"][1:], 95) for own in curves]
        heading = "95th percentile of the turn (mean over seeds)"
        assert cell(alignment, net, heading) == f"{np.mean(turns):.2g}"

    def test_without_a_second_eigenvalue_or_the_output_part(self, net):
        runs = net["net"].runs
        plain = tables(runs[(runs["index"] == 0) & (runs["quantity"] != "output_layer_sharpness")])
        alignment.draw(plain).draw_without_rendering()
        headings = alignment.numbers(plain)["columns"]
        assert not [text for text in headings if "Λ₂" in text or "M_A" in text]


class TestFreezing:
    def test_growth_rates_are_the_slopes_over_the_threshold(self):
        chosen = tables(frozen(), cases=FROZEN)
        rates = growth_of(chosen)
        expected = [s * (1 + 0.1 * seed) for seed in range(3) for s in (3.0, 2.0, 1.0, 0.2)]
        np.testing.assert_allclose(rates["rate"], np.divide(expected, 400))
        heading = "mean growth of Λ / threshold a step"
        assert column(freezing, chosen, heading) == ["0.00825", "0.0055", "0.00275", "0.00055"]
        heading = "trained layers' part of Λ at the end"
        assert column(freezing, chosen, heading) == ["0.80"] * 4

    def test_the_claim_orders_the_rates_that_are_drawn(self):
        chosen = tables(frozen(slopes=(3.0, 1.0, 2.0, 0.2)), cases=FROZEN)
        rates = growth_of(chosen)
        for seed, own in rates.groupby("seed"):
            runs = [r for r in runs_of(chosen["net"].runs, FROZEN) if r.seed == seed]
            expected = kendall_tau(own["frozen"], own["rate"])
            assert freezing_slows.statistic(runs) == expected == pytest.approx(-2 / 3)

    def test_the_number_is_that_of_the_settings_and_not_of_the_name(self):
        named = {"frozen_0": "all", "frozen_1": "head", "frozen_2": "top_7", "frozen_3": "b"}
        runs = frozen()
        renamed = tables(
            runs.assign(case=runs["case"].map(named)), cases=freezing_cases(*named.values())
        )
        (members,) = freezing.groups(renamed)
        assert [(frozen, n.case) for frozen, n in members] == list(enumerate(named.values()))
        assert column(freezing, renamed, "frozen layers") == ["0", "1", "2", "3"]
        assert column(freezing, renamed, "mean growth of Λ / threshold a step")[3] == "0.00055"

    def test_panels(self):
        whole, trained, rates = freezing.draw(tables(frozen(), cases=FROZEN)).axes
        ratio = drawn(trained, "2 frozen")[:, 1] / drawn(whole, "2 frozen")[:, 1]
        np.testing.assert_allclose(ratio, 0.8)
        assert list(rates.get_xticks()) == [0, 1, 2, 3]

    def test_what_differs_otherwise_is_another_row(self):
        runs = frozen()
        both = tables(pd.concat([runs, runs.assign(width=16)]), cases=FROZEN)
        assert len(freezing.groups(both)) == 2
        assert len(freezing.draw(both).axes) == 6
        apart = {name: {**case, "model": {"activation": name[-1]}} for name, case in FROZEN.items()}
        assert len(freezing.groups(tables(runs, cases=apart))) == 4

    def test_without_the_trained_layers_the_others_are_drawn(self):
        runs = frozen()
        bare = tables(runs[runs["quantity"] != "trained_sharpness"], cases=FROZEN)
        whole, *_ = freezing.draw(bare).axes
        assert len(drawn(whole, "3 frozen")) == 200


def growth_of(chosen: dict[str, ExperimentTable]) -> pd.DataFrame:
    (members,) = freezing.groups(chosen)
    return freezing.growth(members, runs_by_network(chosen, *freezing.READS))


class TestBeyond:
    def test_verdicts_of_known_curves(self, net):
        judged = beyond.verdicts(net)
        assert judged["reached"].all()
        assert judged[["ratios_end", "means_end"]].isna().all(axis=None)
        assert (judged["agreement"] > 0.9).all()
        assert not judged["above"].any()
        assert cell(beyond, net, "Λ to its threshold") == "comes up in 3 of 3"
        percent = f"{100 * judged['agreement'].median():.0f} %"
        assert cell(beyond, net, "records at which ‖A‖² moves with Λ") == percent
        assert "batch" not in beyond.caption(net)

    def test_the_title_names_the_experiment(self, net):
        expected = "Two layers: the sharpness over its threshold, and ‖A‖²"
        assert base.words(beyond, net)["title"] == expected
        assert base.words(alignment, net)["title"] == alignment.TITLE

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
        heading = "Λ to its threshold"
        assert cell(beyond, tables(falling), heading) == "comes down in 3 of 3"
        far = runs.assign(value=np.where(curve, 9 / RATE, runs["value"]))
        assert cell(beyond, tables(far), heading) == "comes down in 0 of 3"

    def test_both_means_of_batch_sharpness_are_drawn_over_the_same_threshold(self, net):
        runs = net["net"].runs
        batch = runs[(runs["quantity"] == "gauss_newton_sharpness") & (runs["index"] == 0)]
        batch = batch[batch["step"] % 15 == 0]
        ratios = batch.assign(quantity="batch_sharpness_mean_of_ratios", value=2 / RATE)
        means = batch.assign(quantity="batch_sharpness_ratio_of_means", value=3 / RATE)
        sgd = {case: {"training": {"batch": 8}} for case in runs["case"].unique()}
        chosen = tables(pd.concat([runs, ratios, means]), cases=sgd)
        axes = beyond.draw(chosen).axes[0]
        judged = beyond.verdicts(chosen)
        for words, level, column in (
            ("batch sharpness, mean of ratios / threshold", 1.0, "ratios_end"),
            ("ratio of means / threshold", 1.5, "means_end"),
        ):
            np.testing.assert_allclose(drawn(axes, words)[:, 1], level)
            np.testing.assert_allclose(judged[column], level)
            assert cell(beyond, chosen, words.rpartition(", ")[2]) == f"{level:.2f}"
        for marker in "os":
            batches = [own for own in axes.lines if own.get_marker() == marker]
            assert {own.get_linestyle() for own in batches} == {"None"}

    def test_an_even_stride_is_owned_up_to(self, net):
        runs = net["net"].runs
        assert "even stride" not in beyond.caption(net)
        assert "even stride" in beyond.caption(tables(runs[runs["step"] % 2 == 0]))
