"""Run tables as runs with their settings, and what did not converge left out of them."""

import numpy as np
import pandas as pd
import pytest
from synthetic_runs import RATE, STEPS, THRESHOLD, rows

from sharpflow.results.runs import runs_of
from sharpflow.results.tables import ExperimentTable, usable

NAMES = ["sharpness", "sharpness_converged"]


class TestRun:
    def test_curves_are_sorted_and_aligned_before_divergence(self):
        frame = pd.concat(
            [
                rows({"loss": np.array([4.0, 3, 2, 1])}).sample(frac=1, random_state=1),
                rows({"h": np.array([7.0, 8, np.nan])}, steps=np.array([1, 3, 5])),
            ]
        )
        (run,) = runs_of(frame, {})
        np.testing.assert_array_equal(run.curve("loss")[1], [4, 3, 2, 1])
        steps, loss, other = run.together("loss", "h")
        np.testing.assert_array_equal(steps, [1, 3])
        np.testing.assert_array_equal(loss, [3, 1])
        np.testing.assert_array_equal(other, [7, 8])
        assert run.threshold == THRESHOLD
        assert run.indices("loss") == [0]
        assert not run.diverged

    def test_unknown_and_missing_quantities(self):
        frame = pd.concat(
            [rows({"loss": STEPS, "samples": np.array([100])}), rows({"h": STEPS}, seed=1)]
        )
        first, second = runs_of(frame, {})
        assert first.samples == 100
        assert first.curve("h")[0].size == 0
        with pytest.raises(ValueError, match=r"'sharpness'.*h, loss, samples"):
            first.curve("sharpness")
        with pytest.raises(ValueError, match="samples"):
            _ = second.samples

    @pytest.mark.parametrize("extra", [{"diverged_step": np.array([1])}, {"loss": [1.0, np.nan]}])
    def test_divergence(self, extra):
        (run,) = runs_of(rows({"loss": [1.0, 2.0]} | extra), {})
        assert run.diverged


class TestSettings:
    def runs(self):
        cases = {"sgd": {"training": {"batch": 8}, "loss": {"kind": "mse"}}, "gd": {"training": {}}}
        frame = pd.concat([rows({"loss": STEPS}, case=case) for case in ("sgd", "gd", "other")])
        return {run.case: run for run in runs_of(frame, cases)}

    def test_they_are_those_of_the_case(self):
        run = self.runs()["sgd"]
        assert run.batch == run.setting("training.batch") == 8
        assert run.setting("loss.kind") == "mse"
        assert run.setting("loss") == {"kind": "mse"}

    @pytest.mark.parametrize(
        ("case", "key"),
        [
            ("gd", "training.batch"),
            ("sgd", "training.batch.size"),
            ("sgd", "optimiser.momentum"),
            ("other", "training"),
        ],
    )
    def test_one_that_is_not_there_is_an_error_with_its_key(self, case, key):
        with pytest.raises(ValueError, match=f"case '{case}' has no setting '{key}'"):
            self.runs()[case].setting(key)

    def test_a_batch_that_is_not_there_is_an_error(self):
        with pytest.raises(ValueError, match=r"'gd' has no setting 'training\.batch'"):
            _ = self.runs()["gd"].batch


class TestThreshold:
    def test_a_curvature_is_over_the_threshold_of_its_own_step(self):
        moving = np.where(STEPS < 300, 100.0, 400.0)
        (run,) = runs_of(rows({"stability_threshold": moving, "h": np.full(600, 200.0)}), {})
        steps, ratio = run.relative("h")
        np.testing.assert_array_equal(steps, STEPS)
        np.testing.assert_array_equal(ratio, np.where(STEPS < 300, 2.0, 0.5))
        assert run.threshold == 400.0

    def test_between_records_it_is_the_last_recorded_one(self):
        recorded = rows({"stability_threshold": [100.0, 200.0, 400.0]}, steps=np.array([2, 6, 10]))
        curve = rows({"h": np.full(7, 400.0)}, steps=np.arange(0, 14, 2))
        frame = pd.concat([recorded, curve[curve["quantity"] == "h"]])
        (run,) = runs_of(frame, {})
        steps, ratio = run.relative("h")
        np.testing.assert_array_equal(steps, [0, 2, 4, 6, 8, 10, 12])
        np.testing.assert_array_equal(ratio, [4, 4, 4, 2, 2, 1, 1])

    def test_of_a_run_that_diverged_the_last_finite_one_counts(self):
        moving = np.where(STEPS < 300, 100.0, np.nan)
        (run,) = runs_of(rows({"stability_threshold": moving, "h": STEPS + 1.0}), {})
        assert run.threshold == 100.0
        assert np.isnan(run.relative("h")[1][300:]).all()

    def test_without_one_there_is_none(self):
        nothing = {"stability_threshold": np.full(600, np.nan), "h": np.ones(600)}
        (run,) = runs_of(rows(nothing), {})
        with pytest.raises(ValueError, match="no finite stability threshold"):
            _ = run.threshold


class TestUnconverged:
    """Of seed 0 the second value of index 1 did not converge, of seed 1 nothing failed."""

    def frame(self):
        curves = {(name, index): np.ones(5) for name in NAMES for index in (0, 1)}
        failed = curves | {("sharpness_converged", 1): np.array([1.0, 0, 1, 1, 1])}
        both = [
            rows(failed | {"loss": np.ones(5)}, steps=np.arange(0, 10, 2)),
            rows(curves | {"loss": np.ones(5)}, steps=np.arange(0, 10, 2), seed=1),
        ]
        return pd.concat(both)

    def test_its_row_alone_is_left_out(self):
        frame = self.frame()
        kept = usable(frame)
        assert len(kept) == len(frame) - 1
        merged = frame.merge(kept, how="left", indicator=True)
        gone = merged[merged["_merge"] == "left_only"]
        columns = ["seed", "step", "quantity", "index"]
        assert gone[columns].to_numpy().tolist() == [[0, 2, "sharpness", 1]]

    def test_whatever_the_rows_are_called_and_however_they_lie(self):
        frame = self.frame()
        shuffled = frame.sample(frac=1, random_state=3)
        numbered = frame.reset_index(drop=True)
        categories = numbered.astype({"quantity": "category"})
        for given in (shuffled, numbered, categories):
            assert len(usable(given)) == len(frame) - 1

    def test_a_table_in_which_all_converged_is_as_it_was(self):
        frame = self.frame()
        whole = frame[frame["seed"] == 1]
        assert usable(whole).equals(whole)
        assert usable(whole.iloc[:0]).empty

    def test_a_run_does_not_have_it_and_counts_it(self):
        first, second = runs_of(self.frame(), {})
        np.testing.assert_array_equal(first.curve("sharpness", 1)[0], [0, 4, 6, 8])
        np.testing.assert_array_equal(first.curve("sharpness", 0)[0], [0, 2, 4, 6, 8])
        np.testing.assert_array_equal(second.curve("sharpness", 1)[0], [0, 2, 4, 6, 8])
        np.testing.assert_array_equal(first.together("loss", ("sharpness", 1))[0], [0, 4, 6, 8])
        np.testing.assert_array_equal(first.relative("sharpness", 1)[0], [0, 4, 6, 8])
        assert first.unconverged("sharpness") == (1, 10)
        assert second.unconverged("sharpness") == (0, 10)
        assert first.unconverged("loss") == (0, 0)

    def test_tables_of_figures_do_not_have_it(self):
        table = ExperimentTable(self.frame(), pd.DataFrame(), {})
        assert len(table.runs) == len(self.frame()) - 1

    def test_other_runs_of_other_rates_and_widths_keep_theirs(self):
        failed = {"sharpness": np.ones(3), "sharpness_converged": np.zeros(3)}
        fine = {"sharpness": np.ones(3), "sharpness_converged": np.ones(3)}
        for change in ({"width": 7}, {"rate": 2 * RATE}, {"case": "relu"}, {"seed": 4}):
            kept = usable(pd.concat([rows(failed), rows(fine, **change)]))
            assert (kept["quantity"] == "sharpness").sum() == 3
