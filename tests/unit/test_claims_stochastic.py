"""Claims on SGD's edge and on the catapult: where they hold, where they fail, on their controls."""

import numpy as np
import pandas as pd
import pytest
from synthetic_runs import STEPS, THRESHOLD, judge, outcome, rows, table, training, undefined

RATIOS, SHARPNESS = "batch_sharpness_mean_of_ratios", "hessian_sharpness"
DIVERGED = {"diverged_step": np.array([300.0])}


def settling(level, seed=0, every=17):
    noise = np.random.default_rng(seed).normal(0, 5, STEPS.size)
    return (THRESHOLD * level * (1 - np.exp(-STEPS / 60)) + noise)[::every]


def whole(every=17):
    """The loss, whose last record says how long a run is."""
    return np.ones(STEPS[::every].size)


@pytest.mark.parametrize(
    ("name", "quantity", "inside", "outside"),
    [
        ("batch_sharpness_level", RATIOS, (1.0, 0.94), (0.8, 1.2)),
        ("sharpness_far_below", SHARPNESS, (0.4, 0.1), (0.6, 1.0)),
    ],
)
class TestLevels:
    @staticmethod
    def frame(quantity, level, every=17, case="batch_8", **extra):
        return table(
            lambda s: {quantity: settling(level, s, every), "loss": whole(every), **extra},
            steps=STEPS[::every],
            case=case,
        )

    def test_verdicts(self, name, quantity, inside, outside):
        for level in inside:
            assert outcome(name, self.frame(quantity, level)) == "supported"
        for level in outside:
            assert outcome(name, self.frame(quantity, level)) == "not supported"

    def test_only_the_end_counts(self, name, quantity, inside, outside):
        turned = table(
            lambda s: {
                quantity: np.r_[settling(inside[0], s)[:9], settling(outside[1], s)[9:]],
                "loss": whole(),
            },
            steps=STEPS[::17],
            case="batch_8",
        )
        assert outcome(name, turned) == "not supported"

    def test_undefined_and_diverged(self, name, quantity, inside, outside):
        few = self.frame(quantity, inside[0], every=150)
        assert undefined(name, few) == "it has fewer than 3 records in its last third"
        gone = self.frame(quantity, inside[0], **DIVERGED)
        assert outcome(name, gone) == "not supported"


def test_the_controls_of_the_levels():
    """A run that ends on the way; gradient descent, whose sharpness comes to 2/η itself."""
    held = TestLevels.frame(RATIOS, 1.0)
    found = judge(
        "batch_sharpness_level",
        pd.concat([held, TestLevels.frame(RATIOS, 0.6, case="too_short")]),
    )
    control = found[found["control"]]
    assert control["verdict"].tolist() == ["not supported"]
    assert found[~found["control"]]["verdict"].tolist() == ["supported"]
    below = TestLevels.frame(SHARPNESS, 0.3)
    full = TestLevels.frame(SHARPNESS, 0.99, case="full")
    found = judge("sharpness_far_below", pd.concat([below, full]))
    assert found[found["control"]]["verdict"].tolist() == ["not supported"]


SIZES = {f"batch_{size}": training(batch=size) for size in (4, 8, 16)}


class TestFlatterWithSmallerBatches:
    name = "flatter_with_smaller_batches"

    @staticmethod
    def frame(**levels):
        return pd.concat(
            rows({SHARPNESS: settling(level, seed), "loss": whole()}, case=case,
                 seed=seed, steps=STEPS[::17])
            for seed in range(5)
            for case, level in levels.items()
        )  # fmt: skip

    def test_verdicts(self):
        ordered = self.frame(batch_4=0.2, batch_8=0.3, batch_16=0.5)
        assert outcome(self.name, ordered, SIZES) == "supported"
        turned = self.frame(batch_4=0.5, batch_8=0.3, batch_16=0.2)
        assert outcome(self.name, turned, SIZES) == "not supported"

    def test_undefined_with_one_size(self):
        why = "it needs two runs, each with a batch size of its own"
        assert undefined(self.name, self.frame(batch_4=0.2), SIZES) == why
        alike = dict.fromkeys(SIZES, training(batch=8))
        assert undefined(self.name, self.frame(batch_4=0.2, batch_8=0.3), alike) == why


def bursting(peak, end):
    """A loss that grows to `peak` times its start and ends at `end` times it."""
    rise = np.linspace(1.0, peak, 5)
    return 0.7 * np.r_[rise, end + (peak - end) * np.exp(-np.arange(1, STEPS.size - 4) / 20)]


class TestCatapult:
    @staticmethod
    def frame(case="catapult", peak=6.0, end=0.3, least=0.4, **extra):
        falls = 500 * (least + (1 - least) * np.exp(-STEPS / 5))
        return table(
            lambda s: {"loss": bursting(peak + 0.1 * s, end), SHARPNESS: falls, **extra}, case=case
        )

    @pytest.mark.parametrize(
        ("name", "fails"),
        [
            ("loss_grows_first", {"peak": 1.0}),
            ("curvature_falls", {"least": 0.9}),
            ("training_converges", {"end": 0.8}),
        ],
    )
    def test_verdicts(self, name, fails):
        assert outcome(name, self.frame()) == "supported"
        assert outcome(name, self.frame(**fails)) == "not supported"
        assert outcome(name, self.frame(**DIVERGED)) == "not supported"

    def test_a_lazy_run_is_the_control(self):
        lazy = self.frame("below", peak=1.0, least=0.97)
        for name in ("loss_grows_first", "curvature_falls"):
            found = judge(name, pd.concat([self.frame(), lazy]))
            assert found[found["control"]]["verdict"].tolist() == ["not supported"]
        found = judge("no_growth_below", pd.concat([self.frame(), self.frame("below", peak=0.6)]))
        assert found[found["control"]]["verdict"].tolist() == ["not supported"]
        assert found[~found["control"]]["verdict"].tolist() == ["supported"]

    def test_no_growth_below(self):
        assert outcome("no_growth_below", self.frame("below", peak=0.6)) == "supported"
        assert outcome("no_growth_below", self.frame("below", peak=1.1)) == "not supported"

    def test_a_run_that_diverged_does_not_come_back(self):
        gone = self.frame("out_of_reach", **DIVERGED)
        found = judge("training_converges", pd.concat([self.frame(), gone]))
        assert found[found["control"]]["verdict"].tolist() == ["not supported"]
