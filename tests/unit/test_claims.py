import ast
import math
import re
import subprocess
import sys
from inspect import getsourcelines

import numpy as np
import pandas as pd
import pytest
from specs import PAPERS, ROOT, TYPES
from synthetic_runs import edge, judge, outcome, sharp, table, training

from sharpflow.claims import base
from sharpflow.claims.base import COLUMNS, load_claim
from sharpflow.errors import ConfigError, PartError

REGISTRY = TYPES.registry
DECLARED = [c for home in ("", *PAPERS) for c in REGISTRY.declared("claims", home).values()]


def mine(statistic=lambda run: 1.0, cases=("*",)):
    """A claim of this file."""
    return base.Claim("mine", statistic, "s.", (0, 2), "m", (), tuple(cases))


def judged_alone(claim, frame, cases=None):
    """The rows of a claim that is in no registry."""
    return base.judge(claim, "p", "f", "e", frame, cases or {})


class TestRegistry:
    def test_names_and_complete_entries(self):
        assert {"cycles", "edge_of_stability"} <= {declared.name for declared in DECLARED}
        for declared in DECLARED:
            claim = load_claim(declared.part.module, declared.name)
            low, high = claim.band
            assert claim.name == declared.name
            assert low <= high
            assert math.isfinite(low) or math.isfinite(high)
            assert claim.statement.endswith(".")
            assert claim.method

    @pytest.mark.parametrize("declared", DECLARED, ids=lambda declared: declared.name)
    def test_what_is_read_without_running_is_what_the_claim_has(self, declared):
        claim = load_claim(declared.part.module, declared.name)
        assert (declared.reads, declared.cases) == (claim.reads, claim.cases)
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
            "from sharpflow.config.papers import papers_in;"
            "from sharpflow.parts.registry import Registry;"
            "papers = papers_in('papers');"
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
        about = mine(cases=("sgd*",))
        with pytest.raises(ValueError, match=r"'mine'.*sgd"):
            judged_alone(about, table(lambda s: sharp(edge(s))))
        both = pd.concat(
            [table(lambda s: sharp(edge(s)), case=c) for c in ("sgd", "sgd_small", "gd")]
        )
        judged = judged_alone(about, both)
        assert judged["case"].tolist() == ["sgd", "sgd_small", "all"]

    def test_the_statistic_sees_the_settings_of_its_case(self):
        both = pd.concat([table(lambda s: sharp(edge(s)), case=c) for c in ("small", "large")])
        sizes = {"small": training(batch=8), "large": training(batch=128)}
        judged = judged_alone(mine(lambda run: float(run.batch)), both, sizes)
        assert judged["case"].tolist() == ["large", "small", "all"]
        assert judged["statistic"].tolist()[:2] == [128.0, 8.0]

    def test_values_that_did_not_converge_are_not_judged(self):
        def some(seed):
            values = np.where(np.arange(600) == 100, 1e9, edge(seed))
            flags = np.where(np.arange(600) == 100, 0.0, 1.0)
            return sharp(values) | {"gauss_newton_sharpness_converged": flags}

        largest = mine(lambda run: run.curve("gauss_newton_sharpness")[1].max())
        assert judged_alone(largest, table(some)).iloc[-1]["high"] < 1e3

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
