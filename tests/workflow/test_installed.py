"""sharpflow as it is installed, without a clone: from an empty folder to a page."""

import os
import shutil
import subprocess
from pathlib import Path

import installed
import pandas as pd
import pytest
import yaml
from small_run import compare

from sharpflow.cli.skeletons import PART_KINDS


class Shell:
    """An environment with the wheel, and an empty folder to work in."""

    def __init__(self, programs: Path, folder: Path):
        self.programs, self.folder = programs, folder

    def run(self, *words: str) -> subprocess.CompletedProcess:
        foreign = ("SNAKEMAKE", "PYTHONPATH")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        return subprocess.run(
            [self.programs / "sharpflow", *words],
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def said(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory) -> Path:
    return installed.environment(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def shell(programs, tmp_path) -> Shell:
    return Shell(programs, tmp_path)


def test_an_experiment_runs_to_the_bytes_of_a_clone(shell, tree):
    said = shell.said("run", "linear", "--config", "smoke", "--name", "here", "--cores", "2")
    results = shell.folder / "results" / "here"
    assert {path.name for path in shell.folder.iterdir()} == {".snakemake", "results"}
    assert (results / "report" / "index.html").is_file()
    assert "linear: progressive_sharpening" in said
    assert "Page: results/here/report/index.html" in said
    files = [p for p in results.glob("*/**/*") if p.is_file()]
    compare({str(p.relative_to(results)): p.read_bytes() for p in files}, tree.results)
    planned = shell.said("snakemake", "-n", "--configfile", "results/here/config.yaml")
    assert "Nothing to be done" in planned
    assert "every file is as the manifest says" in shell.said("verify", "results/here")
    same = shell.said("compare", "results/here", "results/here")
    assert "the same, 0 not" in same


def test_a_target_that_an_option_would_take_is_explained(shell):
    done = shell.run("snakemake", "-n", "--configfile", "mine.yaml", "report")
    assert done.returncode == 1
    assert (
        done.stdout.endswith("--configfile mine.yaml -n -- report\n") or "-- report" in done.stdout
    )
    assert done.stdout.count("\n") == 1


def test_what_new_writes_runs_to_its_page(shell):
    """A paper with a part of every kind in one experiment, and the experiment of library parts."""
    shell.said("new", "paper", "mine")
    for kind in PART_KINDS:
        shell.said("new", "part", f"own_{kind}", "--kind", kind)
    shell.said("new", "experiment", "plain")
    own = {
        "title": "Every part that was written",
        "seeds": 3,
        "seeds_per_job": 3,
        "data": {"source": "own_data", "samples": 20},
        "model": {"kind": "own_models", "initialisation": "own_initialisations"},
        "loss": "own_losses",
        "optimiser": "own_optimisers",
        "schedule": "own_schedules",
        "widths": [6],
        "learning_rates": [0.5],
        "training": {"steps": 40},
        "measurements": {"own_measurements": {}, "gauss_newton": {}},
        "cases": {"plain": {}},
        "figures": ["own_figures"],
        "claims": ["own_claims"],
    }
    paper = shell.folder / "papers" / "mine"
    (paper / "experiments" / "own.yaml").write_text(yaml.safe_dump(own))
    configuration = yaml.safe_load((paper / "config.yaml").read_text("utf-8")) | {
        "papers": [".", "papers/li2022"],
        "experiments": ["first", "own", "plain"],
        "experiments_folder": "config/experiments",
        "overrides": {"plain": {"data": {"samples": 20}, "training": {"steps": 40}}},
        "seeds": 3,
    }
    (paper / "config.yaml").write_text(yaml.safe_dump(configuration))
    said = shell.said("run", "--config", "papers/mine/config.yaml", "--cores", "2")
    verdicts = {tuple(line.split()[1:3]): line for line in said.splitlines() if ": " in line}
    assert "✓" in verdicts["first:", "loss_falls"]
    assert "✓" in verdicts["own:", "own_claims"]
    assert ("plain:", "edge_of_stability") in verdicts
    results = shell.folder / "results" / "mine"
    drawn = {path.stem for path in (results / "figures" / "mine").glob("*.png")}
    assert drawn == {"first", "own_figures", "output_norm"}
    assert "parameter_length" in shell.said(
        "compare", "results/mine", "results/mine", "--quantity", "parameter_length"
    )


def test_in_a_clone_the_clones_code_is_what_is_shown_and_what_computes(shell, programs):
    """Whatever is installed: digests are taken of the clone, so jobs must load it too."""
    clone = shell.folder / "clone"
    shutil.copytree(programs.parents[1] / "wheel" / "source", clone)
    rule = clone / "sharpflow" / "optimisers" / "sgd" / "__init__.py"
    text = rule.read_text("utf-8")
    moved = "descended(t, gradients[n], learning_rate)"
    assert moved in text
    rule.write_text(text.replace(moved, "t"), "utf-8")
    within = Shell(programs, clone)
    assert str(clone / "papers") in within.said("show", "figure", "output_norm")
    words = (
        "--config smoke --set training.steps=20 --set samples=20 --seeds 3 --name still --cores 2"
    )
    within.said("run", "linear", *words.split())
    found = pd.concat(
        pd.read_parquet(path)
        for path in (clone / "results" / "still" / "runs").glob("**/trajectory.parquet")
    )
    norms = found[found["quantity"] == "norm_squared"].groupby(["seed", "index"])["value"]
    assert norms.count().min() > 2
    assert (norms.nunique() == 1).all()


def test_a_workflow_with_the_package_of_another_copy_is_refused(shell, programs):
    clone = programs.parents[1] / "wheel" / "source"
    (installed_workflow,) = programs.parent.glob("lib/*/site-packages/sharpflow/_workflow")
    done = subprocess.run(
        [
            programs / "python",
            "-m",
            "snakemake",
            "-n",
            "--snakefile",
            installed_workflow / "Snakefile",
        ],
        cwd=shell.folder,
        env=os.environ | {"PYTHONPATH": str(clone)},
        text=True,
        capture_output=True,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert str(installed_workflow) in line
    assert "another copy" in line
    assert "Traceback" not in done.stderr
