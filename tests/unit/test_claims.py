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
from synthetic_runs import Curves, edge, judge, outcome, sharp, table, training

from sharpflow.claims import base
from sharpflow.claims.base import ORIGINS, by_seed, load_claim, measure
from sharpflow.claims.columns import COLUMNS, SEED_COLUMNS, worst
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


def lost(step: int, seeds=(0, 1, 2, 3, 4), kept: int = 600) -> pd.DataFrame:
    """Five runs, some of which diverged at a step; their curves go so far."""

    def make(seed):
        if seed not in seeds:
            return sharp(edge(seed)) | {"loss": np.ones(600)}
        gone = np.where(np.arange(600) < step, 1.0, np.nan)
        return sharp(edge(seed)[:kept]) | {"loss": gone, "diverged_step": np.array([step])}

    return table(make)


class TestDiverged:
    """What became of a run decides, whatever a statistic makes of it."""

    def row(self, frame, statistic=lambda run: 1.0, **more):
        return judged_alone(mine(statistic, **more), frame).iloc[-1]

    def test_a_statistic_is_not_asked_of_it(self):
        def unasked(run):
            assert not run.diverged
            return run.curve("loss")[1][-1]

        row = self.row(lost(46), unasked)
        assert (row["verdict"], row["failed"], row["diverged"]) == ("not supported", 5, 5)
        assert row["reason"] == "5 of 5 failed (it diverged at step 46)"
        assert np.isnan(row["median"])
        one = self.row(lost(46, seeds=(2,)), unasked)
        assert (one["verdict"], one["inside"], one["diverged"]) == ("straddles", 4, 1)

    def test_it_leaves_no_mean(self):
        row = self.row(lost(46, seeds=(2,)), estimand="mean")
        assert (row["verdict"], row["reason"]) == (
            "not supported", "1 of 5 failed (it diverged at step 46)",
        )  # fmt: skip

    def test_a_loss_that_left_the_finite_numbers_is_enough(self):
        frame = lost(46)
        row = self.row(frame[frame["quantity"] != "diverged_step"])
        assert row["reason"] == "5 of 5 failed (it diverged at step 46)"

    def test_several_steps_are_told_as_a_range(self):
        frame = pd.concat([lost(s, (s,), 600).query("seed == @s") for s in range(5)])
        assert self.row(frame)["reason"] == "5 of 5 failed (they diverged at steps 0 to 4)"

    @pytest.mark.parametrize("value", [math.nan, math.inf, Undefined("short"), Failed("gone")])
    def test_one_that_counts_fails_without_a_finite_number(self, value):
        row = self.row(lost(46), lambda run: value, diverged="counts")
        assert row["reason"] == "5 of 5 failed (it diverged at step 46)"

    def test_one_that_counts_counts_as_far_as_it_goes(self):
        row = self.row(lost(46), diverged="counts")
        assert (row["verdict"], row["diverged"]) == ("supported", 0)

    def test_where_it_is_the_topic_nothing_is_changed(self):
        row = self.row(lost(46), lambda run: Undefined("alone"), diverged="topic")
        assert (row["verdict"], row["reason"]) == ("undefined", "5 of 5 undefined (alone)")

    def test_one_run_of_several_is_enough(self):
        frame = pd.concat([table(lambda s: sharp(edge(s)), case="b"), lost(46, seeds=(1,))])
        row = self.row(frame, lambda runs: 1.0, scope="experiment")
        assert (row["failed"], row["diverged"], row["inside"]) == (1, 1, 4)

    def test_values_that_did_not_converge_are_no_excuse(self):
        flags: Curves = {"gauss_newton_sharpness_converged": np.zeros(600)}
        frame = pd.concat([lost(46), table(lambda s: flags)])
        reads = ["gauss_newton_sharpness"]
        assert self.row(frame, reads=reads)["diverged"] == 5
        assert self.row(frame, reads=reads, diverged="counts")["diverged"] == 5

    @pytest.mark.parametrize("name", sorted(EVERY))
    def test_no_claim_lets_a_run_that_was_lost_at_once_count(self, name):
        claim = EVERY[name]
        if claim.diverged != "fails":
            return
        cases = {case.replace("*", "x") for case in claim.cases}
        frame = pd.concat([lost(0).assign(case=case) for case in sorted(cases)])
        judged = base.judge(claim, "p", "f", "e", frame, {c: training() for c in cases})
        assert set(judged["verdict"]) == {"not supported"}
        assert (judged["diverged"] == judged["seeds"]).all()

    def test_a_word_that_is_none(self):
        with pytest.raises(ValueError, match="diverged is 'dies'; it must be fails, counts or"):
            base.claim(
                statement="s.",
                band=(0, 1),
                origin="stated: so",
                method="m",
                reads=["loss"],
                diverged="dies",  # type: ignore[arg-type]
            )


def test_the_page_on_verdicts_explains_every_column():
    page = (ROOT / "docs" / "results" / "verdicts.md").read_text(encoding="utf-8")
    for columns in (COLUMNS, SEED_COLUMNS):
        rows = "\n".join(f"| `{name}` | {holds} |" for name, holds in columns.items())
        assert f"| column | holds |\n|---|---|\n{rows}\n\n" in page


class TestBySeed:
    def values(self, statistic, **more) -> pd.DataFrame:
        claim = mine(statistic, **more)
        frame = table(lambda s: sharp(edge(s)[:20]))
        return by_seed(claim, "p", "e", measure(claim, "e", frame, {}))

    def test_a_row_a_seed_with_its_value_or_why_there_is_none(self):
        made = [0.5, 3.0, Undefined("short"), Failed("gone"), math.inf]
        found = self.values(lambda run: made[run.seed])
        assert list(found.columns) == list(SEED_COLUMNS)
        assert found["seed"].tolist() == [0, 1, 2, 3, 4]
        assert found["value"].tolist()[:2] == [0.5, 3.0]
        assert found["value"].isna().tolist() == [False, False, True, True, True]
        assert found["inside"].tolist() == [True, False, False, False, False]
        assert found["reason"].tolist() == ["", "", "undefined: short", "failed: gone", "failed"]
        assert set(found["experiment"]) == {"e"}

    def test_they_are_what_the_verdict_rests_on(self):
        frame = pd.concat(
            [table(lambda s: sharp(edge(s, 0.8 + 0.1 * s)), width=w) for w in (50, 200)]
        )
        claim = EVERY["edge_of_stability"]
        found = measure(claim, "e", frame, {"tanh": training()})
        seeds = by_seed(claim, "p", "e", found)
        rows = base.verdicts(claim, "p", "f", "e", found)
        assert len(seeds) == 10
        for row in rows.to_dict("records"):
            own = seeds[seeds["case"] == row["case"]]
            assert own["inside"].sum() == row["inside"]
            assert own["value"].median() == row["median"]


class TestJudge:
    def test_rows_and_columns(self):
        frame = pd.concat(
            [
                table(lambda s: sharp(edge(s)), case="elu"),
                table(lambda s: sharp(edge(s, 0.8)), case="relu"),
                table(lambda s: sharp(edge(s, 0.92 + 0.06 * s)), case="tanh"),
            ]
        )
        judged = judge("edge_of_stability", frame, 0.9)
        assert list(judged.columns) == list(COLUMNS)
        assert judged["case"].tolist() == ["elu", "relu", "tanh"]
        assert judged["verdict"].tolist() == ["supported", "not supported", "straddles"]
        assert judged["inside"].tolist() == [5, 0, 3]
        assert judged["reason"].tolist() == [
            "", "5 of 5 outside the band", "2 of 5 outside the band",
        ]  # fmt: skip
        assert set(judged["seeds"]) == {5}
        assert set(judged["confidence"]) == {0.9}
        assert set(judged["estimand"]) == {"runs"}

    def test_a_claim_of_one_case_has_one_row(self):
        judged = judge("edge_of_stability", table(lambda s: sharp(edge(s))))
        assert judged["case"].tolist() == ["tanh"]
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
            (["supported", "supported"], "supported"),
            (["supported", "straddles"], "straddles"),
            (["straddles", "undefined"], "undefined"),
            (["supported", "undefined", "not supported"], "not supported"),
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
        assert judged["verdict"].tolist() == verdicts
        assert worst(verdicts) == expected

    def test_several_widths_are_rows_of_their_own(self):
        frame = pd.concat([table(lambda s: sharp(edge(s)), width=w) for w in (50, 200)])
        judged = judge("edge_of_stability", frame)
        assert judged["case"].tolist() == [
            "tanh (width 50, learning rate 0.005)", "tanh (width 200, learning rate 0.005)",
        ]  # fmt: skip

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
        assert judged["case"].tolist() == ["sgd", "sgd_small"]

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
        assert judged["control"].tolist() == [False, False, True]
        assert judged["verdict"].tolist() == ["supported"] * 3
        told = "its control does not fail: slow supported"
        assert judged["reason"].tolist() == [told, told, ""]

    def test_a_foil_is_another_statistic_of_the_same_runs(self):
        def level(run):
            return {"fast": 1.0, "faster": 1.5}[run.case]

        foils = {"thrice": lambda run: 3.0 * level(run), "half": lambda run: 0.5 * level(run)}
        about = mine(level, foils=foils)
        parts = [table(lambda s: sharp(edge(s)), case=case) for case in ("fast", "faster")]
        judged = judged_alone(about, pd.concat(parts))
        assert judged["case"].tolist() == [
            "fast", "faster", "fast, thrice", "faster, thrice", "fast, half", "faster, half"
        ]  # fmt: skip
        assert judged["control"].tolist() == [False] * 2 + [True] * 4
        assert judged["verdict"].tolist() == [
            *["supported"] * 2, *["not supported"] * 2, *["supported"] * 2,
        ]  # fmt: skip
        told = "its control does not fail: fast, half supported, faster, half supported"
        assert judged["reason"].tolist()[:2] == [told, told]
        assert judged["method"].iloc[2].startswith("thrice; ")

    def test_a_claim_with_nothing_but_its_control_is_refused(self):
        with pytest.raises(ValueError, match="no run for the claim 'mine'"):
            self.controlled("run", slow=3.0)

    def test_the_statistic_sees_the_settings_of_its_case(self):
        both = pd.concat([table(lambda s: sharp(edge(s)), case=c) for c in ("small", "large")])
        sizes = {"small": training(batch=8), "large": training(batch=128)}
        judged = judged_alone(mine(lambda run: float(run.batch)), both, sizes)
        assert judged["case"].tolist() == ["large", "small"]
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
