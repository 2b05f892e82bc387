import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from synthetic_runs import STEPS, THRESHOLD, edge, judge, outcome, rows, sharp, table

from sharpflow import claims


class TestRegistry:
    def test_names_and_complete_entries(self):
        assert {"cycles", "edge_of_stability"} <= set(claims.available())
        for name in claims.available():
            claim = claims.load(name)
            assert claim.paper
            assert claim.band_low <= claim.band_high
            assert math.isfinite(claim.band_low) or math.isfinite(claim.band_high)
            assert claim.statement.endswith(".")
            assert claim.method

    def test_an_unknown_name_gets_the_nearest(self):
        with pytest.raises(ValueError, match="Did you mean 'edge_of_stability'") as caught:
            claims.load("edge_of_stabilty")
        assert "plateau_slope" in str(caught.value)
        for name in ("base", "_edge"):
            with pytest.raises(ValueError, match="must be one of"):
                claims.load(name)

    def test_loading_is_lazy_and_free_of_torch(self):
        code = (
            "import sys, sharpflow.claims as c; c.available();"
            "assert 'sharpflow.claims.cycles' not in sys.modules;"
            "c.load('cycles'); assert 'sharpflow.claims.cycles' in sys.modules;"
            "assert 'sharpflow.claims.plateau_slope' not in sys.modules;"
            "assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TestRun:
    def test_curves_are_sorted_and_aligned_before_divergence(self):
        frame = pd.concat(
            [
                rows({"loss": np.array([4.0, 3, 2, 1])}).sample(frac=1, random_state=1),
                rows({"h": np.array([7.0, 8, np.nan])}, steps=np.array([1, 3, 5])),
            ]
        )
        (run,) = claims.runs_of(frame)
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
        first, second = claims.runs_of(frame)
        assert first.samples == 100
        assert first.curve("h")[0].size == 0
        with pytest.raises(ValueError, match=r"'sharpness'.*h, loss, samples"):
            first.curve("sharpness")
        with pytest.raises(ValueError, match="samples"):
            _ = second.samples

    @pytest.mark.parametrize("extra", [{"diverged_step": np.array([1])}, {"loss": [1.0, np.nan]}])
    def test_divergence(self, extra):
        (run,) = claims.runs_of(rows({"loss": [1.0, 2.0]} | extra))
        assert run.diverged


class TestJudge:
    def test_rows_columns_and_the_worst_case(self):
        frame = pd.concat(
            [
                table(lambda s: sharp(edge(s)), case="elu"),
                table(lambda s: sharp(edge(s, 0.8)), case="relu"),
                table(lambda s: sharp(edge(s, 0.92 + 0.06 * s)), case="tanh"),
            ]
        )
        judged = judge("edge_of_stability", frame, 0.9)
        assert list(judged.columns) == list(claims.COLUMNS)
        assert judged["case"].tolist() == ["elu", "relu", "tanh", "all"]
        assert judged["verdict"].tolist() == [
            "supported", "not supported", "inconclusive", "not supported",
        ]  # fmt: skip
        assert judged["method"].iloc[-1].endswith("worst case: relu")
        same = ["statistic", "low", "high", "seeds", "confidence"]
        assert judged.iloc[-1][same].equals(judged.iloc[1][same])
        assert set(judged["seeds"]) == {5}
        assert set(judged["confidence"]) == {0.9}

    def test_all_is_supported_only_if_every_case_is(self):
        at = table(lambda s: sharp(edge(s)), case="c1.0")
        near = table(lambda s: sharp(edge(s, 0.96)), case="c0.96")
        judged = judge("edge_of_stability", pd.concat([at, near]))
        assert judged.iloc[-1]["verdict"] == "supported"
        assert judged.iloc[-1]["method"].endswith("worst case: c0.96")

    def test_several_widths_are_rows_of_their_own(self):
        frame = pd.concat([table(lambda s: sharp(edge(s)), width=w) for w in (50, 200)])
        judged = judge("edge_of_stability", frame)
        assert judged["case"].tolist() == [
            "tanh (width 50, learning rate 0.005)", "tanh (width 200, learning rate 0.005)", "all",
        ]  # fmt: skip

    def test_one_seed_settles_nothing(self):
        frame = table(lambda s: sharp(edge(s)), seeds=1)
        assert set(judge("edge_of_stability", frame)["verdict"]) == {"inconclusive"}
        assert outcome("progressive_sharpening", frame) == "inconclusive"

    def test_a_claim_about_other_cases_is_refused(self):
        claim = claims.Claim("p", "f", "s.", lambda run: 1.0, 0, 2, "m", cases=("sgd*",))
        with pytest.raises(ValueError, match=r"'mine'.*sgd"):
            claims.judge("mine", claim, "e", table(lambda s: sharp(edge(s))))
        both = pd.concat(
            [table(lambda s: sharp(edge(s)), case=c) for c in ("sgd", "sgd_small", "gd")]
        )
        judged = claims.judge("mine", claim, "e", both)
        assert judged["case"].tolist() == ["sgd", "sgd_small", "all"]
