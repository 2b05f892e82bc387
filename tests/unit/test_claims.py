import ast
import math
import re
import subprocess
import sys
from inspect import getsourcelines

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from specs import PAPERS, ROOT, TYPES
from synthetic_runs import edge, judge, outcome, sharp, table, training

from sharpflow.claims import base
from sharpflow.claims.base import COLUMNS, ORIGINS, load_claim
from sharpflow.errors import ConfigError, PartError
from sharpflow.statistics.verdicts import REAL, Failed, Undefined

REGISTRY = TYPES.registry
DECLARED = [c for home in ("", *PAPERS) for c in REGISTRY.declared("claims", home).values()]
EVERY = {declared.name: load_claim(declared.part.module, declared.name) for declared in DECLARED}
MEANS = [claim for claim in EVERY.values() if claim.estimand == "mean"]


def mine(statistic=lambda run: 1.0, cases=("*",), reads=(), **more):
    """A claim of this file."""
    about = {"cases": tuple(cases), **more}
    return base.Claim("mine", statistic, "s.", (0, 2), "chosen: so", "m", tuple(reads), **about)


def given_values(values, **more):
    """The row of a claim whose statistic gives these values, one a seed."""
    claim = mine(lambda run: values[run.seed], **more)
    frame = table(lambda s: sharp(edge(s)[:20]), seeds=len(values))
    return judged_alone(claim, frame).iloc[-1]


def judged_alone(claim, frame, cases=None):
    """The rows of a claim that is in no registry."""
    return base.judge(claim, "p", "f", "e", frame, cases or {})


class TestRegistry:
    def test_names(self):
        assert len(EVERY) == len(DECLARED)
        assert {"cycles", "edge_of_stability"} <= set(EVERY)
        assert all(claim.name == name for name, claim in EVERY.items())

    @pytest.mark.parametrize("claim", EVERY.values(), ids=EVERY)
    def test_an_entry_is_complete(self, claim):
        low, high = claim.band
        assert low <= high
        assert math.isfinite(low) or math.isfinite(high)
        assert claim.statement.endswith(".")
        assert not claim.statement.endswith("..")
        assert claim.method
        assert not claim.method.endswith(".")
        assert claim.statistic.__doc__

    @pytest.mark.parametrize("claim", EVERY.values(), ids=EVERY)
    def test_the_origin_of_a_band_is_said_with_its_reason(self, claim):
        kind, colon, reason = claim.origin.partition(": ")
        assert (kind in ORIGINS, colon) == (True, ": ")
        assert len(reason.split()) >= 2
        assert not reason.endswith(".")

    def test_only_a_mean_has_a_support(self):
        assert len(MEANS) > 5
        assert {claim.estimand for claim in EVERY.values()} == {"runs", "mean"}
        for claim in EVERY.values():
            assert claim.estimand == "mean" or claim.support == REAL

    @pytest.mark.parametrize("claim", MEANS, ids=lambda claim: claim.name)
    def test_the_interval_of_a_mean_stays_among_the_values_that_are_possible(self, claim):
        least, largest = claim.support
        assert least <= claim.band[0] <= claim.band[1] <= largest
        inside = (
            st.floats(least, largest, exclude_min=True, allow_infinity=False)
            if math.isfinite(largest)
            else st.floats(max(least, -1e6), 1e6, exclude_min=True)
        )

        @given(st.lists(inside, min_size=2, max_size=6))
        def check(values):
            interval = claim.judged(values, 0.95).interval
            assert least <= interval.low <= interval.high <= largest

        check()

    @pytest.mark.parametrize("declared", DECLARED, ids=lambda declared: declared.name)
    def test_what_is_read_without_running_is_what_the_claim_has(self, declared):
        claim = load_claim(declared.part.module, declared.name)
        assert (declared.reads, declared.cases) == (claim.reads, claim.cases)
        assert declared.controls == claim.controls
        assert declared.scope == claim.scope
        assert claim.reads

    def test_an_unknown_name_gets_the_nearest(self):
        with pytest.raises(ConfigError, match="Did you mean 'edge_of_stability'") as caught:
            REGISTRY.claim("edge_of_stabilty", "li2022")
        assert "plateau_slope" in str(caught.value)
        for name in ("base", "edge", "INF"):
            with pytest.raises(ConfigError, match=f"no claim '{name}'"):
                REGISTRY.claim(name, "li2022")

    def test_what_is_no_claim_is_refused(self):
        with pytest.raises(PartError, match="'plateau_level' is no claim"):
            load_claim("sharpflow.claims.edge", "plateau_level")
        with pytest.raises(PartError, match="the claim 'absent'"):
            load_claim("sharpflow.claims.edge", "absent")

    @pytest.mark.parametrize("module", sorted({declared.part.module for declared in DECLARED}))
    def test_no_claim_imports_torch_or_another_claim(self, module):
        (file,) = {c.part.file for c in DECLARED if c.part.module == module}
        tree = ast.parse(file.read_text(encoding="utf-8"))
        found = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        modules = {node.module for node in found} | {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert not any(node.level for node in found)
        assert not any(name.split(".")[0] in ("torch", "papers") for name in modules)
        assert "sharpflow.claims.edge" not in modules

    def test_loading_is_lazy_and_free_of_torch(self):
        code = (
            "import sys; from sharpflow.claims.base import load_claim;"
            "from sharpflow.config.papers import shipped_papers;"
            "from sharpflow.parts.registry import Registry;"
            "papers = shipped_papers();"
            "registry = Registry({key: paper.folder for key, paper in papers.items()});"
            "found = registry.claim('cycles', 'li2022');"
            "assert found.part.module == 'papers.li2022.claims.phases';"
            "assert found.part.module not in sys.modules;"
            "load_claim(found.part.module, found.name);"
            "assert found.part.module in sys.modules;"
            "assert 'papers.li2022.claims.freezing' not in sys.modules;"
            "assert 'sharpflow.claims.edge' not in sys.modules;"
            "assert 'torch' not in sys.modules"
        )
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


class TestDecorator:
    @pytest.mark.parametrize(
        ("origin", "message"),
        [
            ("", "must begin with stated: , derived: , chosen: "),
            ("guessed: so", "must begin with"),
            ("stated", "must begin with"),
            ("stated: ", "must begin with"),
            ("derived:theory", "must begin with"),
        ],
    )
    def test_an_origin_that_is_none(self, origin, message):
        with pytest.raises(ValueError, match=message):
            base.claim(statement="s.", band=(0, 1), origin=origin, method="m", reads=["loss"])

    @pytest.mark.parametrize("band", [(1.0, 0.0), (-math.inf, math.inf), (0.0, math.nan)])
    def test_a_band_that_is_none(self, band):
        with pytest.raises(ValueError, match="The band is"):
            base.claim(statement="s.", band=band, origin="stated: so", method="m", reads=["loss"])

    def test_an_estimand_that_is_none(self):
        with pytest.raises(ValueError, match="estimand is 'median'; it must be runs or mean"):
            base.claim(
                statement="s.",
                band=(0, 1),
                origin="stated: so",
                method="m",
                reads=["loss"],
                estimand="median",  # type: ignore[arg-type]
            )

    def test_what_is_said_is_what_the_claim_has(self):
        @base.claim(
            statement="s.",
            band=(0, 1),
            origin="stated: there",
            method="m",
            reads=["loss"],
            estimand="mean",
            cases=["a_*"],
            scope="case",
            support=(0, 1),
        )
        def named(runs):
            return 0.5

        assert (named.name, named.statistic([])) == ("named", 0.5)
        assert (named.reads, named.cases, named.scope) == (("loss",), ("a_*",), "case")
        assert (named.estimand, named.support, named.origin) == ("mean", (0, 1), "stated: there")


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
        assert list(judged.columns) == list(COLUMNS)
        assert judged["case"].tolist() == ["elu", "relu", "tanh", "all"]
        assert judged["summary"].tolist() == [False, False, False, True]
        assert judged["verdict"].tolist() == [
            "supported", "not supported", "straddles", "not supported",
        ]  # fmt: skip
        assert judged["inside"].tolist() == [5, 0, 3, 0]
        assert judged["reason"].tolist() == [
            "", "5 of 5 outside the band", "2 of 5 outside the band",
            "worst case: relu; 5 of 5 outside the band",
        ]  # fmt: skip
        same = [name for name in COLUMNS if name not in ("case", "summary", "reason")]
        assert judged.iloc[-1][same].equals(judged.iloc[1][same])
        assert set(judged["seeds"]) == {5}
        assert set(judged["confidence"]) == {0.9}
        assert set(judged["estimand"]) == {"runs"}

    def test_a_claim_with_one_row_has_no_summary(self):
        judged = judge("edge_of_stability", table(lambda s: sharp(edge(s))))
        assert judged["case"].tolist() == ["tanh"]
        assert judged["summary"].tolist() == [False]
        assert (judged.iloc[0]["verdict"], judged.iloc[0]["reason"]) == ("supported", "")

    def test_a_row_says_what_it_rests_on(self):
        row = given_values([0.5, 1.5, 3.0, Undefined("short"), Failed("gone")])
        assert (row["seeds"], row["inside"], row["undefined"], row["failed"]) == (5, 2, 1, 1)
        assert (row["statistic"], row["estimand"]) == (0.4, "runs")
        assert (row["median"], row["least"], row["largest"]) == (1.5, 0.5, 3.0)
        assert (row["band_low"], row["band_high"], row["origin"]) == (0, 2, "chosen: so")
        assert row["reason"] == (
            "1 of 5 outside the band; 1 of 5 failed (gone); 1 of 5 undefined (short)"
        )
        assert row["method"] == "m; exact binomial interval over 5 seeds"
        assert row["noticed"] == "a failure in 28 % of runs"
        assert 0 < row["size"] < 0.025
        assert 0.05 < row["p_value"] <= 1

    def test_the_estimand_decides_what_is_judged(self):
        values = [0.5, 1.9, 2.1, 0.4]
        assert given_values(values)["verdict"] == "straddles"
        mean = given_values(values, estimand="mean", support=(0, 4))
        assert (mean["verdict"], mean["statistic"]) == ("straddles", pytest.approx(1.225))
        assert mean["method"] == "m; bounded mean (Gaffke) over 4 seeds"
        many = given_values(values * 10, estimand="mean")
        assert many["verdict"] == "supported"
        assert given_values(values * 10)["verdict"] == "not supported"

    def test_no_finite_value_leaves_the_median_empty(self):
        row = given_values([Undefined("short")] * 3)
        assert np.isnan([row["median"], row["least"], row["largest"]]).all()
        assert (row["verdict"], row["reason"]) == ("undefined", "3 of 3 undefined (short)")

    @pytest.mark.parametrize(
        ("verdicts", "expected"),
        [
            (("supported", "supported"), "supported"),
            (("supported", "straddles"), "straddles"),
            (("straddles", "undefined"), "undefined"),
            (("supported", "undefined", "not supported"), "not supported"),
        ],
    )
    def test_the_worst_of_the_cases_decides(self, verdicts, expected):
        made = {
            "supported": [1.0] * 3,
            "straddles": [1.0, 1.0, 3.0],
            "undefined": [1.0, 1.0, Undefined("short")],
            "not supported": [3.0] * 3,
        }
        claim = mine(lambda run: made[verdicts[int(run.case)]][run.seed])
        frame = pd.concat(
            [
                table(lambda s: sharp(edge(s)[:20]), seeds=3, case=str(place))
                for place in range(len(verdicts))
            ]
        )
        judged = judged_alone(claim, frame)
        assert tuple(judged["verdict"][:-1]) == verdicts
        assert judged.iloc[-1]["verdict"] == expected
        worst = verdicts.index(expected)
        assert judged.iloc[-1]["reason"].startswith(f"worst case: {worst}")

    def test_among_equals_the_smallest_p_value_and_then_the_least_share(self):
        made = {"a": [3.0] * 3 + [1.0], "b": [3.0] * 4, "c": [1.0] * 4}
        claim = mine(lambda run: made[run.case][run.seed])

        def worst(*cases):
            frame = pd.concat(
                [table(lambda s: sharp(edge(s)[:20]), seeds=4, case=c) for c in cases]
            )
            return judged_alone(claim, frame).iloc[-1]["reason"].split("; ")[0]

        assert worst("a", "b", "c") == "worst case: b"
        assert worst("a", "c") == "worst case: a"

    def test_of_supported_means_the_one_nearest_to_its_band_is_shown(self):
        made = {"far": [1.0, 1.1, 1.0], "near": [1.8, 1.81, 1.8]}
        claim = mine(lambda run: made[run.case][run.seed], estimand="mean")
        frame = pd.concat([table(lambda s: sharp(edge(s)[:20]), seeds=3, case=c) for c in made])
        assert judged_alone(claim, frame).iloc[-1]["reason"] == "worst case: near"

    def test_several_widths_are_rows_of_their_own(self):
        frame = pd.concat([table(lambda s: sharp(edge(s)), width=w) for w in (50, 200)])
        judged = judge("edge_of_stability", frame)
        assert judged["case"].tolist() == [
            "tanh (width 50, learning rate 0.005)", "tanh (width 200, learning rate 0.005)", "all",
        ]  # fmt: skip
        assert judged["summary"].tolist() == [False, False, True]

    @pytest.mark.parametrize(("seeds", "expected"), [(1, "straddles"), (2, "straddles")])
    def test_fewer_than_three_seeds_cannot_support(self, seeds, expected):
        frame = table(lambda s: sharp(edge(s)), seeds=seeds)
        assert outcome("edge_of_stability", frame) == expected
        assert outcome("progressive_sharpening", frame) == expected
        bad = table(lambda s: sharp(edge(s, 0.8)), seeds=2)
        assert outcome("edge_of_stability", bad) == "not supported"

    def test_a_claim_about_other_cases_is_refused(self):
        about = mine(cases=("sgd*",))
        with pytest.raises(ValueError, match=r"'mine'.*sgd"):
            judged_alone(about, table(lambda s: sharp(edge(s))))
        both = pd.concat(
            [table(lambda s: sharp(edge(s)), case=c) for c in ("sgd", "sgd_small", "gd")]
        )
        judged = judged_alone(about, both)
        assert judged["case"].tolist() == ["sgd", "sgd_small", "all"]

    @staticmethod
    def controlled(scope: base.Scope, **levels: float) -> pd.DataFrame:
        """A claim that a level lies in [0, 2], judged with the control `slow` on given levels."""

        def level(runs):
            return levels[(runs if scope == "run" else runs[0]).case]

        about = mine(level, controls=("slow*",), scope=scope)
        parts = [table(lambda s: sharp(edge(s)), case=case) for case in levels]
        return judged_alone(about, pd.concat(parts))

    @pytest.mark.parametrize(("scope", "named"), [("run", "slow"), ("experiment", "control")])
    def test_a_control_is_judged_and_not_summed_up(self, scope, named):
        judged = self.controlled(scope, fast=1.0, slow=3.0)
        assert judged["case"].tolist() == ["fast" if scope == "run" else "all", named]
        assert judged["control"].tolist() == [False, True]
        assert judged["verdict"].tolist() == ["supported", "not supported"]
        assert judged["reason"].tolist() == ["", "5 of 5 outside the band"]

    def test_a_control_that_does_not_fail_is_said_of_every_row(self):
        judged = self.controlled("run", fast=1.0, faster=1.5, slow=1.2)
        assert judged["control"].tolist() == [False, False, False, True]
        assert judged["verdict"].tolist() == ["supported"] * 4
        told = "its control does not fail: slow supported"
        assert judged["reason"].tolist() == [told, told, f"worst case: fast; {told}", ""]

    def test_a_claim_with_nothing_but_its_control_is_refused(self):
        with pytest.raises(ValueError, match="no run for the claim 'mine'"):
            self.controlled("run", slow=3.0)

    def test_the_statistic_sees_the_settings_of_its_case(self):
        both = pd.concat([table(lambda s: sharp(edge(s)), case=c) for c in ("small", "large")])
        sizes = {"small": training(batch=8), "large": training(batch=128)}
        judged = judged_alone(mine(lambda run: float(run.batch)), both, sizes)
        assert judged["case"].tolist() == ["large", "small", "all"]
        assert judged["median"].tolist()[:2] == [128.0, 8.0]

    @staticmethod
    def unconverged(share: float, size: float = 1e9):
        """Every seed's curve, with a share of its values wrong and flagged."""
        flags = np.ones(600)
        flags[: round(share * 600)] = 0

        def make(seed):
            return sharp(np.where(flags, edge(seed), size)) | {
                "gauss_newton_sharpness_converged": flags
            }

        return table(make)

    def test_values_that_did_not_converge_are_not_judged(self):
        largest = mine(lambda run: run.curve("gauss_newton_sharpness")[1].max(), reads=())
        assert judged_alone(largest, self.unconverged(0.05)).iloc[-1]["largest"] < 1e3

    @pytest.mark.parametrize(("share", "undefined"), [(0.1, 0), (0.11, 5)])
    def test_a_run_with_over_a_tenth_of_them_says_nothing(self, share, undefined):
        claim = mine(reads=["gauss_newton_sharpness"])
        (row,) = judged_alone(claim, self.unconverged(share)).to_dict("records")
        assert row["undefined"] == undefined
        if undefined:
            why = "66 of 600 values of gauss_newton_sharpness did not converge"
            assert (row["verdict"], row["reason"]) == ("undefined", f"5 of 5 undefined ({why})")
        unread = mine(reads=["loss"])
        assert judged_alone(unread, self.unconverged(share)).iloc[-1]["undefined"] == 0

    def test_one_such_run_of_a_seed_says_nothing_of_the_seed(self):
        bad = self.unconverged(0.5).query("seed == 3").assign(case="relu")
        frame = pd.concat([table(lambda s: sharp(edge(s))), bad])
        claim = mine(lambda runs: 1.0, reads=["gauss_newton_sharpness"], scope="experiment")
        (row,) = judged_alone(claim, frame).to_dict("records")
        assert (row["case"], row["seeds"], row["undefined"]) == ("all", 5, 1)

    def test_an_error_of_a_statistic_names_its_file_and_line(self):
        def broken(run):
            return run.setup["nothing"]

        line = getsourcelines(broken)[1] + 1
        where = re.escape(f"the claim 'mine': {__file__}, line {line}: KeyError: 'nothing'")
        with pytest.raises(PartError, match=where):
            judged_alone(mine(broken), table(lambda s: sharp(edge(s))))

    @pytest.mark.parametrize("value", [None, "much", [1.0, 2.0]])
    def test_a_statistic_that_is_no_number_is_an_error(self, value):
        with pytest.raises(PartError, match=r"the claim 'mine': .*Error"):
            judged_alone(mine(lambda run: value), table(lambda s: sharp(edge(s))))
