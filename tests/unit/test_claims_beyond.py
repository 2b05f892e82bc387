"""Claims about what goes beyond the papers, on data on which they hold and on which they fail."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from config_folder import ConfigFolder
from specs import PAPERS, ROOT, TYPES
from synthetic_runs import (
    STEPS,
    THRESHOLD,
    claim,
    decisive,
    edge,
    judge,
    outcome,
    rows,
    sharp,
    table,
    training,
    undefined,
)

from sharpflow.claims import base
from sharpflow.config import load, make_plan
from sharpflow.storage.tables import read_table, write_table

NAMES = {
    "reaches_threshold": "",
    "sgd_stays_below": "beyond",
    "smaller_batch_flatter": "beyond",
}
DIVERGED = {"diverged_step": np.array([300.0])}
EVEN = "an even stride shows one branch of the alternation only"


def settling(level: float) -> np.ndarray:
    return THRESHOLD * (level - (level - 0.3) * np.exp(-STEPS / 60))


def test_no_claim_beyond_the_papers_is_one_of_theirs():
    assert {name: TYPES.registry.claim(name, "beyond").part.paper for name in NAMES} == NAMES


class TestReachesThreshold:
    name = "reaches_threshold"

    def test_from_below(self):
        assert outcome(self.name, table(lambda s: sharp(edge(s)))) == "supported"
        below = table(lambda s: sharp(settling(0.97) + 0.1 * s))
        assert outcome(self.name, below) == "not supported"
        mixed = table(lambda s: sharp(settling(1.001 if s > 1 else 0.9)))
        assert outcome(self.name, mixed) == "straddles"

    def test_from_above(self):
        falling = THRESHOLD * (0.9 + 9 * np.exp(-STEPS / 60))
        assert outcome(self.name, table(lambda s: sharp(falling - s))) == "supported"
        assert outcome(self.name, table(lambda s: sharp(2 * falling - s))) == "not supported"

    def test_the_threshold_is_the_stated_one(self):
        stated = {"stability_threshold": np.array([1.5 * THRESHOLD])}
        frame = table(lambda s: sharp(settling(1.2) + s) | stated)
        assert outcome(self.name, frame) == "not supported"

    def test_a_short_run_says_nothing(self):
        short = table(lambda s: sharp(edge(s)[:9]))
        assert undefined(self.name, short) == "it has fewer than 10 records"

    def test_getting_there_before_divergence_counts(self):
        up = np.where(STEPS < 200, 100 + 3.0 * STEPS, np.nan)
        assert outcome(self.name, table(lambda s: sharp(up) | DIVERGED)) == "supported"


BATCHES = {f"batch_{size}": training(batch=size) for size in (8, 32, 128)}
TURNED = {
    "batch_8": training(batch=128),
    "batch_32": training(batch=32),
    "batch_128": training(batch=8),
}


class TestSgd:
    @staticmethod
    def frame(**levels: float) -> pd.DataFrame:
        parts = []
        for seed in range(5):
            for case, level in levels.items():
                curves = sharp(settling(level) + 0.5 * seed) | {"samples": np.array([400.0])}
                parts.append(rows(curves, case=case, seed=seed))
        return pd.concat(parts)

    def test_stays_below(self):
        name = "sgd_stays_below"
        assert outcome(name, self.frame(batch_8=0.6, batch_32=0.9, full=1.0)) == "supported"
        assert outcome(name, self.frame(batch_8=0.6, batch_32=1.0, full=0.5)) == "not supported"
        gone = table(lambda s: sharp(settling(0.5)) | DIVERGED, case="batch_8")
        assert outcome(name, gone) == "not supported"
        one = table(lambda s: sharp(settling(0.5)) | (DIVERGED if s == 1 else {}), case="batch_8")
        assert outcome(name, one) == "straddles"

    def test_staying_below_is_undefined_where_the_end_is_not_seen(self):
        name, frame = "sgd_stays_below", self.frame(batch_8=0.6, batch_32=0.9)
        assert undefined(name, frame[frame["step"] % 2 == 0]) == EVEN
        assert undefined(name, frame[frame["step"] < 9]) == "it has fewer than 12 records"

    def test_smaller_is_flatter(self):
        name = "smaller_batch_flatter"
        ordered = self.frame(batch_8=0.6, batch_32=0.8, batch_128=0.9, full=1.0)
        assert outcome(name, ordered, BATCHES) == "supported"
        turned = self.frame(batch_8=1.0, batch_32=0.9, batch_128=0.8, full=0.6)
        assert outcome(name, turned, BATCHES) == "not supported"
        alike = self.frame(batch_8=0.9, batch_32=0.9, batch_128=0.9, full=0.9)
        assert outcome(name, alike, BATCHES) == "not supported"

    def test_flatness_is_undefined_without_three_sizes_and_their_ends(self):
        name = "smaller_batch_flatter"
        why = "it needs three cases, each with its own batch size"
        assert undefined(name, self.frame(batch_8=0.6, full=1.0), BATCHES) == why
        levels = self.frame(batch_8=0.6, batch_32=0.8, batch_128=0.9)
        alike = dict.fromkeys(BATCHES, training(batch=8))
        assert undefined(name, levels, alike) == why
        short = levels[(levels["step"] < 9) | (levels["case"] != "batch_8")]
        assert undefined(name, short, BATCHES) == "it has fewer than 12 records"

    def test_a_diverged_run_fails_its_seed(self):
        name = "smaller_batch_flatter"
        levels = self.frame(batch_8=0.6, batch_32=0.8, batch_128=0.9)
        mark = rows(dict(DIVERGED), case="batch_8", seed=2)
        gone = pd.concat([levels, mark[mark["quantity"] == "diverged_step"]])
        row = decisive(judge(name, gone, cases=BATCHES))
        assert (row["verdict"], row["failed"]) == ("straddles", 1)
        assert row["reason"] == "1 of 5 failed (it diverged at step 300)"

    def test_all_samples_are_the_largest_batch(self):
        name, levels = "smaller_batch_flatter", {"batch_8": 0.6, "batch_32": 0.8}
        assert outcome(name, self.frame(full=1.0, **levels), BATCHES) == "supported"
        assert outcome(name, self.frame(full=0.5, **levels), BATCHES) == "not supported"

    def test_the_batch_is_the_setting_and_not_the_name(self):
        name = "smaller_batch_flatter"
        levels = self.frame(batch_8=0.9, batch_32=0.8, batch_128=0.6, full=1.0)
        assert outcome(name, levels, TURNED) == "supported"
        assert outcome(name, levels, BATCHES) == "not supported"


class TestWhereAVerdictStands:
    @pytest.mark.parametrize("paper", ["li2022", "mine"])
    @pytest.mark.parametrize(
        ("name", "figures", "expected"),
        [
            ("surrogate_factor", {"first": "residual", "second": "surrogate"}, "second"),
            ("surrogate_factor", {"first": "residual"}, ""),
            ("edge_of_stability", {"first": "surrogate", "second": "residual"}, "first"),
            ("edge_of_stability", {}, ""),
        ],
    )
    def test_at_the_first_figure_that_draws_what_it_reads(
        self, tmp_path, paper, name, figures, expected
    ):
        folder = ConfigFolder(tmp_path)
        folder.write({"paper": paper, "claims": [name], "figures": figures})
        (verdict,) = make_plan(load(folder.file)).claims["dense_here"]
        assert (verdict.name, verdict.figure) == (name, expected)
        assert verdict.module == TYPES.registry.claim(name, "li2022").part.module

    def test_a_row_stands_under_the_experiments_paper(self):
        asked = claim("edge_of_stability")
        judged = base.judge(asked, "beyond", "momentum", "e", table(lambda s: sharp(edge(s))), {})
        assert set(judged["paper"]) == {"beyond"}
        assert set(judged["figure"]) == {"momentum"}
        assert set(judged["statement"]) == {asked.statement}

    def test_the_script_lists_them_there(self, tmp_path):
        names = ["edge_of_stability", "reaches_threshold", "output_norm_tracks"]
        asked = [TYPES.registry.claim(name, "beyond") for name in names]
        curves = table(lambda s: sharp(edge(s)) | {"output_norm_squared": edge(s)})
        write_table(tmp_path / "table.parquet", curves)
        spec = {
            "experiment": "momentum",
            "paper": "beyond",
            "cases": {"tanh": training()},
            "claims": [
                {
                    "name": found.name,
                    "module": found.part.module,
                    "figure": "momentum",
                    "source": "drawn here: from it",
                }
                for found in asked
            ],
            "confidence": 0.95,
            "papers": {"li2022": str(PAPERS["li2022"])},
        }
        names_of = ("table", "verdicts", "seeds")
        files = [x for name in names_of for x in (f"--{name}", tmp_path / f"{name}.parquet")]
        subprocess.run(
            [sys.executable, "scripts/judge_claims.py", *files, "--spec", json.dumps(spec)],
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            check=True,
        )
        verdicts = read_table(tmp_path / "verdicts.parquet")
        assert set(verdicts["claim"]) == set(names)
        assert set(verdicts["paper"]) == {"beyond"}
        assert set(verdicts["source"]) == {"drawn here: from it"}
        seeds = read_table(tmp_path / "seeds.parquet")
        assert len(seeds) == 5 * len(names)
        assert seeds.groupby("claim")["inside"].sum().to_dict() == dict(
            zip(verdicts["claim"], verdicts["inside"], strict=True)
        )
        assert set(verdicts["figure"]) == {"momentum"}
