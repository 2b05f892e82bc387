"""The short studies: their parts against closed forms, their claims on data of either kind."""

from importlib import import_module
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from shards import found, shard, trained
from specs import PAPERS, TYPES
from synthetic_runs import judge, outcome, rows, training, undefined

from sharpflow.figures import base
from sharpflow.parts.options import Form
from sharpflow.results.summaries import summarise
from sharpflow.results.tables import ExperimentTable

PAPER = "short_studies"
ONE = {"inputs": torch.ones(1, 1), "targets": torch.ones(1, 1)}
TIMES = np.arange(0, 1200, 15)
SHARPNESS = "hessian_sharpness"


def product(steps=3, rate=0.01, optimiser=None, rule="normalised", **options):
    """Two runs of a product of scalars, and every step of `flat_drift` and the Hessian."""
    problem = shard(
        ONE,
        {"kind": "product", **options},
        {"steps": steps, "states_megabytes": 10},
        learning_rate=rate,
        optimiser=optimiser,
    )
    every = {"every": max(1, steps // 40)}
    return trained(problem, flat_drift=every | {"rule": rule}, hessian=every | {"tol": 1e-8})


class TestParts:
    def test_a_start_without_jitter_is_a_minimiser_of_known_sharpness(self):
        trajectory, table = product(large=2.0, jitter=0.0)
        start = trajectory.states[0]["scalars"]
        assert start.tolist() == [[2.0, 2.0, 0.5, 0.5]] * 2
        assert found(table, SHARPNESS, 0, 0).item() == pytest.approx(2 * (2 / 4 + 2 * 4), rel=1e-6)
        torch.testing.assert_close(trajectory.states[3]["scalars"], start)

    def test_a_step_is_that_of_the_written_out_gradient(self):
        trajectory, _ = product(steps=1, rate=0.02, scalars=2)
        before, after = (trajectory.states[step]["scalars"] for step in (0, 1))
        whole = before.prod(1, keepdim=True)
        slope = -2 * (1 - whole) * whole / before
        torch.testing.assert_close(after, before - 0.02 * slope)

    def test_the_drift_is_the_closed_form_at_the_minimiser_nearby(self):
        trajectory, table = product(rate=0.03, large=1.5, jitter=0.02)
        point = trajectory.states[0]["scalars"][1]
        for _ in range(50):  # across the manifold, along the gradient of the product
            normal = point.prod() / point
            point = point + (1 - point.prod()) * normal / normal.square().sum()
        level = 2 * (1 / point**2).sum()
        normal = (1 / point) / (1 / point).norm()
        slope = -2 / point**3 / (1 / point**2).sum()
        along = slope - normal * (normal @ slope)
        rate = -(0.03**2) / 4 * along.square().sum()
        torch.testing.assert_close(
            found(table, "minimiser_sharpness", 1, 0)[0], level, rtol=1e-3, atol=0.0
        )
        torch.testing.assert_close(
            found(table, "predicted_log_sharpness_rate", 1, 0)[0], rate, rtol=1e-2, atol=0.0
        )

    def test_normalised_gd_follows_the_drift_and_gd_does_not(self):
        settings = {"steps": 1200, "rate": 0.02, "large": 2.0, "jitter": 0.02}
        for optimiser, followed in (({"kind": "normalised_gd"}, 1.0), (None, 0.0)):
            _, table = product(optimiser=optimiser, **settings)
            names = ("minimiser_sharpness", "predicted_log_sharpness_rate")
            run = (
                table[table["seed"] == 0]
                .pivot_table(index="step", columns="quantity", values="value")[list(names)]
                .iloc[5:]
            )
            change = np.log(run[names[0]].iloc[-1] / run[names[0]].iloc[0])
            predicted = np.trapezoid(run[names[1]], run.index)
            assert change / predicted == pytest.approx(followed, abs=0.1)

    def test_a_step_on_the_root_is_along_the_gradient_of_the_distance(self):
        trajectory, _ = product(steps=1, rate=0.02, scalars=2, descended="root")
        before, after = (trajectory.states[step]["scalars"] for step in (0, 1))
        whole = before.prod(1, keepdim=True)
        torch.testing.assert_close(after, before - 0.02 * (whole - 1).sign() * whole / before)

    def test_a_minimiser_stays_where_it_is_under_descent_on_the_root(self):
        trajectory, _ = product(large=2.0, jitter=0.0, descended="root")
        assert trajectory.states[3]["scalars"].tolist() == [[2.0, 2.0, 0.5, 0.5]] * 2

    def test_descent_on_the_root_follows_its_own_flow_and_not_that_of_normalised_gd(self):
        settings = {"steps": 1200, "rate": 0.005, "large": 2.5, "jitter": 0.05}
        names = ["minimiser_sharpness", "predicted_log_sharpness_rate"]
        for rule, followed in (("root", True), ("normalised", False)):
            _, table = product(rule=rule, descended="root", **settings)
            run = (
                table[table["seed"] == 0]
                .pivot_table(index="step", columns="quantity", values="value")[names]
                .iloc[5:]
            )
            change = np.log(run[names[0]].iloc[-1] / run[names[0]].iloc[0])
            ratio = change / np.trapezoid(run[names[1]], run.index)
            assert change < -0.02
            assert (abs(ratio - 1) < 0.05) == followed

    def test_what_it_cannot_be_given_is_refused(self):

        options = TYPES.options("models")["product"].model_validate({"kind": "product"})
        with pytest.raises(ValueError, match="1 input and 1 output, not 4 and 1"):
            options.check(Form("vectors", (4,), 1, "real", 2), 1)


def curves(make, cases, rates=(0.05,), seeds=5, steps=TIMES) -> pd.DataFrame:
    """Rows of runs whose curves a function of case, rate and seed gives."""
    return pd.concat(
        rows(make(case, rate, seed), case=case, rate=rate, seed=seed, steps=steps)
        for case in cases
        for rate in rates
        for seed in range(seeds)
    )


def controls(name: str, frame: pd.DataFrame, cases=None) -> list[str]:
    judged = judge(name, frame, cases=cases)
    return judged[judged["control"]]["verdict"].tolist()


class TestFourScalars:
    name = "four_scalars_end"

    @staticmethod
    def ending(four: float, two: float, start: float = 1.3) -> pd.DataFrame:
        ends = {"four_scalars": four, "two_scalars": two}

        def make(case, rate, seed):
            return {SHARPNESS: 2 / rate * np.linspace(start, ends[case], TIMES.size)}

        return curves(make, ends)

    def test_an_end_just_below(self):
        frame = self.ending(0.997, 0.5)
        assert outcome(self.name, frame[frame["case"] == "four_scalars"]) == "supported"
        assert controls(self.name, frame) == ["not supported"]

    def test_an_end_above_or_far_below(self):
        assert judge(self.name, self.ending(1.01, 0.5))["verdict"][0] == "not supported"
        assert judge(self.name, self.ending(0.9, 0.5))["verdict"][0] == "not supported"

    def test_a_start_below_says_nothing(self):
        frame = self.ending(0.997, 0.5, start=0.9)
        only = frame[frame["case"] == "four_scalars"]
        assert undefined(self.name, only) == "it does not start above the threshold"


@pytest.mark.parametrize(
    ("name", "rule"), [("normalised_gd_flow", "normalised_gd"), ("root_gd_flow", "descent_on_root")]
)
def test_a_flow_along_the_minimisers_holds_where_the_sharpness_falls_as_predicted(name, rule):
    def make(case, rate, seed):
        share = 1.0 if case == rule else 0.0
        level = 40 * np.exp(-1e-4 * share * TIMES)
        names = ("minimiser_sharpness", "predicted_log_sharpness_rate")
        return dict(zip(names, (level, np.full(TIMES.size, -1e-4)), strict=True))

    judged = judge(name, curves(make, [rule, "gradient_descent"]))
    assert set(judged["verdict"][~judged["control"]]) == {"supported"}
    assert set(judged["verdict"][judged["control"]]) == {"not supported"}


class TestBreakEven:
    rates = (0.002, 0.005, 0.0125)
    cases: ClassVar = {
        "batch_10": training(batch=10),
        "batch_40": training(batch=40),
        "slow_10": training(batch=10),
    }

    def frame(self, slope: float) -> pd.DataFrame:
        def make(case, rate, seed):
            ratio = rate / (40 if case == "batch_40" else 10)
            power = -slope if case == "slow_10" else slope
            rise = np.minimum(TIMES / (600 * (ratio / 1e-4) ** power), 1)
            return {SHARPNESS: 100 * (ratio / 1e-4) ** power * rise}

        return curves(make, self.cases, self.rates)

    @pytest.mark.parametrize("name", ["break_even_lower", "break_even_earlier"])
    def test_lower_and_earlier_with_the_ratio(self, name):
        judged = judge(name, self.frame(-0.3), cases=self.cases)
        assert judged["verdict"].tolist() == ["supported", "not supported"]
        assert judge(name, self.frame(0.3), cases=self.cases)["verdict"][0] == "not supported"

    def test_two_settings_say_nothing(self):
        frame = self.frame(-0.3)
        few = frame[(frame["case"] == "batch_10") & (frame["learning_rate"] < 0.01)]
        assert undefined("break_even_lower", few, self.cases).startswith("fewer than 3 values")


class TestWarmup:
    rates = (0.1, 0.2, 0.4, 0.8)
    cases: ClassVar = {
        case: training() | {"schedule": {"kind": case.removeprefix("short_")}}
        for case in ("constant", "warmup", "short_constant", "short_warmup")
    }

    def frame(self, gain: float) -> pd.DataFrame:
        def make(case, rate, seed):
            largest = 0.2 * (gain if case == "warmup" else 1)
            return {"loss": np.linspace(1, 0.1 if rate <= largest else 0.9, TIMES.size)}

        return curves(make, self.cases, self.rates)

    def test_a_factor_of_two(self):
        judged = judge("warmup_gain", self.frame(2), cases=self.cases)
        assert judged["verdict"].tolist() == ["supported", "not supported"]
        assert judged["median"].tolist() == [2.0, 1.0]
        none = judge("warmup_gain", self.frame(1), cases=self.cases)
        assert none["verdict"].tolist() == ["not supported", "not supported"]

    def test_a_rate_that_trains_beyond_one_that_does_not_is_not_counted(self):
        def make(case, rate, seed):
            return {"loss": np.linspace(1, 0.9 if rate == 0.4 else 0.1, TIMES.size)}

        judged = judge("warmup_gain", curves(make, self.cases, self.rates), cases=self.cases)
        assert judged["median"].tolist() == [1.0, 1.0]

    def test_nothing_trains(self):
        def make(case, rate, seed):
            return {"loss": np.ones(TIMES.size)}

        frame = curves(make, ["constant", "warmup"], self.rates)
        assert undefined("warmup_gain", frame, self.cases) == "no learning rate of the sweep trains"


class TestDifficulty:
    cases: ClassVar = {
        case: training() | {"data": {"label_noise": share}}
        for case, share in (("wrong_0", 0.0), ("wrong_30", 0.3), ("edge_0", 0.0), ("edge_30", 0.3))
    }

    def frame(self, hard: float) -> pd.DataFrame:
        ends = {"wrong_0": 100, "wrong_30": 100 * hard, "edge_0": 50, "edge_30": 51}

        def make(case, rate, seed):
            return {SHARPNESS: np.full(TIMES.size, float(ends[case]))}

        return curves(make, ends)

    def test_the_hardest_against_the_easiest(self):
        judged = judge("harder_is_sharper", self.frame(2.0), cases=self.cases)
        assert judged["verdict"].tolist() == ["supported", "not supported"]
        flat = judge("harder_is_sharper", self.frame(1.1), cases=self.cases)
        assert flat["verdict"].tolist() == ["not supported", "not supported"]

    def test_one_kind_of_data_says_nothing(self):
        frame = self.frame(2.0)
        easy = frame[frame["case"] == "wrong_0"]
        told = undefined("harder_is_sharper", easy, self.cases)
        assert told == "it needs two shares of wrong labels"


def drawn_from(name: str) -> dict[str, ExperimentTable]:
    """Synthetic results that a figure can be drawn from."""
    if name == "four_scalars":
        frame, cases = TestFourScalars.ending(0.997, 0.4), {}
    elif name == "break_even":
        frame, cases = TestBreakEven().frame(-0.3), TestBreakEven.cases
    elif name == "largest_rate":
        frame, cases = TestWarmup().frame(2), TestWarmup.cases
    elif name == "difficulty":
        frame, cases = TestDifficulty().frame(2.0), TestDifficulty.cases
    else:

        def make(case, rate, seed):
            names = ("minimiser_sharpness", "predicted_log_sharpness_rate")
            values = (40 * np.exp(-1e-4 * TIMES), np.full(TIMES.size, -1e-4))
            return dict(zip(names, values, strict=True))

        frame, cases = curves(make, ["normalised_gd", "gradient_descent"]), {}
    return {name: table_of(frame, cases)}


def table_of(frame: pd.DataFrame, cases) -> ExperimentTable:
    losses = frame.drop_duplicates(["case", "width", "learning_rate", "seed", "step"])
    losses = losses.assign(quantity="loss", value=1.0)
    whole = frame if (frame["quantity"] == "loss").any() else pd.concat([frame, losses])
    named = {case: cases.get(case) or training() for case in frame["case"].unique()}
    return ExperimentTable(whole, summarise(whole), {"title": "t", "cases": named})


@pytest.mark.parametrize(
    "file", sorted((PAPERS[PAPER] / "figures").glob("*.py")), ids=lambda file: file.stem
)
def test_a_figure_is_drawn_with_its_words(file):
    tables = drawn_from(file.stem)
    module = import_module(f"papers.{PAPER}.figures.{file.stem}")
    figure = base.checked(module.draw(tables), module.__name__)
    for axes in figure.axes:
        assert axes.get_xlabel()
        assert axes.lines or axes.collections
    words = base.words(module, tables)
    assert 20 < len(words["caption"].split()) < 90
    assert 15 < len(words["alt"].split()) < 90
    assert "nan" not in words["caption"] + words["alt"]
    assert words["numbers"]["rows"]
