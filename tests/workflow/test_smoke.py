"""The smoke configuration from a clean folder: contents of everything that it makes."""

import hashlib
import html
import json
import re
import zipfile

import numpy as np
import pandas as pd
import torch
from matplotlib.image import imread
from report_page import compare_with_claims

from sharpflow.claims.base import COLUMNS, ORIGINS
from sharpflow.config import load, make_plan
from sharpflow.curvature.reference import dense_jacobian
from sharpflow.statistics.verdicts import EVERY
from sharpflow.storage.parts import read_parts
from sharpflow.storage.tables import read_table
from sharpflow.storage.tensors import TensorFile, read_tensors
from sharpflow.training import Problem


def _plan(tree, monkeypatch):
    monkeypatch.chdir(tree.root)
    return make_plan(load("config/smoke.yaml"))


def _table(tree, experiment, kind):
    return read_parts(sorted((tree.results / "tables" / experiment / kind).iterdir()))


def test_no_line_is_long(tree):
    assert max(map(len, tree.printed.splitlines())) <= 300
    assert max(map(len, tree.snakemake("-n", "--forceall").stdout.splitlines())) <= 300


def test_manifest_vouches_for_every_output(tree):
    manifest = json.loads((tree.results / "manifest.json").read_text())
    made = {
        str(path.relative_to(tree.results))
        for path in tree.results.rglob("*")
        if path.is_file() and path.relative_to(tree.results).parts[0] not in ("logs", "benchmarks")
    }
    assert made - {"manifest.json", ".checked.json"} == set(manifest["sha256"])
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((tree.results / name).read_bytes()).hexdigest() == digest
    assert manifest["packages"]["torch"] == torch.__version__
    used = {
        read_tensors(path)[1]["device"] for path in tree.results.glob("runs/**/states.safetensors")
    }
    assert manifest["configuration"]["device"] == "auto"
    assert manifest["devices"] == sorted(used)
    assert "auto" not in used
    assert manifest["configuration"]["results"] == "results/smoke"


def test_no_temporary_file_is_left(tree):
    assert not [path for path in tree.results.rglob("*") if path.name.endswith(".tmp")]


def test_tables_hold_every_run_at_every_step(tree, monkeypatch):
    plan = _plan(tree, monkeypatch)
    for name, settings in plan.settings.items():
        table = _table(tree, name, "runs")
        losses = table[table.quantity == "loss"]
        expected = sum(
            len(shard.training["seeds"]) * (shard.training["training"]["steps"] + 1)
            for shard in plan.shards_of(name)
            if shard.training["training"]["record_every"] == 1
        )
        whole = all(case["training"]["record_every"] == 1 for case in settings["cases"].values())
        assert not whole or len(losses) == expected
        first = settings["first_seed"]
        assert set(table.seed) == set(range(first, first + settings["seeds"]))
        keys = ["case", "width", "learning_rate", "seed", "step", "quantity", "index"]
        assert not table.duplicated(keys).any()


def test_sharpness_in_the_table_is_that_of_the_stored_state(tree, monkeypatch):
    """Λ from the table against λ_max of a Jacobian made by autograd in float64."""
    plan = _plan(tree, monkeypatch)
    shard = next(s for s in plan.shards_of("dense") if s.case == "tanh")
    paths = [tree.results / "data" / f"{name}.safetensors" for name in shard.datasets]
    datasets = [read_tensors(path)[0] for path in paths]
    problem = Problem(shard.training | {"dtype": "float64"}, *datasets)
    states = TensorFile(tree.results / shard.folder / "states.safetensors")
    step = states.metadata["steps"][1]
    table = read_table(tree.results / shard.folder / "measurements.parquet")
    names = [f"{step:08d}/weight{index}" for index in range(3)]
    state = {name[9:]: t[0].double() for name, t in states.read(names).items()}

    def outputs(parameters):
        batched = {name: t.unsqueeze(0) for name, t in parameters.items()}
        return problem.model(batched, problem.batches.of_run(0)[0])[0].reshape(-1)

    jacobian = dense_jacobian(outputs, state)
    spectrum = torch.linalg.eigvalsh(jacobian @ jacobian.T) * 2 / problem.samples
    first = shard.training["seeds"][0]  # noqa: F841 (used in the query)
    measured = table.query(
        "quantity == 'gauss_newton_sharpness' and step == @step and seed == @first"
    )
    np.testing.assert_allclose(measured.value.item(), float(spectrum[-1]), rtol=1e-4)


def test_training_lowers_the_loss_and_summary_is_its_mean(tree):
    table = _table(tree, "dense", "runs")
    summary = _table(tree, "dense", "summary")
    losses = table[(table.quantity == "loss") & (table.case == "tanh")]
    by_step = losses.groupby("step").value.mean()
    assert by_step.iloc[-1] < 0.9 * by_step.iloc[0]
    means = summary[(summary.quantity == "loss") & (summary.case == "tanh")].set_index("step")[
        "mean"
    ]
    np.testing.assert_allclose(means.loc[by_step.index], by_step, rtol=1e-12)


def test_claims_have_every_column_and_a_verdict_from_their_interval(tree, monkeypatch):
    plan = _plan(tree, monkeypatch)
    claims = pd.read_csv(tree.results / "claims.csv")
    assert list(claims.columns) == list(COLUMNS)
    for name, settings in plan.settings.items():
        judged = set(claims[claims.experiment == name].claim)
        assert judged == set(settings["claims"])
    for row in claims.itertuples():
        if row.estimand == "mean" and row.verdict == "supported":
            assert row.low >= row.band_low
            assert row.high <= row.band_high
        elif row.verdict == "supported":
            assert row.inside == row.seeds or row.low >= EVERY
        assert row.origin.split(":")[0] in ORIGINS
    seeds = pd.read_csv(tree.results / "claims_by_seed.csv")
    keys = ["experiment", "claim", "case"]
    found = seeds.groupby(keys)["inside"].agg(["sum", "size"])
    rows = claims.set_index(keys).loc[found.index]
    assert (found["sum"] == rows["inside"]).all()
    assert (found["size"] == rows["seeds"]).all()
    assert len(found) == len(claims)


def test_figures_are_pictures_and_the_page_shows_them(tree, monkeypatch):
    plan = _plan(tree, monkeypatch)
    page = (tree.results / "report" / "index.html").read_text()
    for figure in plan.figures:
        base = tree.results / "figures" / figure.paper / figure.name
        png = base.with_suffix(".png")
        picture = imread(png)
        assert min(picture.shape[:2]) > 300
        assert picture[..., :3].std() > 0.02
        assert base.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        words = json.loads(base.with_suffix(".json").read_text())
        assert f'aria-label="{html.escape(words["alt"], quote=False)}"' in page
        assert f'href="../figures/{figure.paper}/{figure.name}.pdf"' in page
    for link in re.findall(r'href="(\.\./[^"]*)"', page):
        assert (tree.results / "report" / link).exists(), link
    devices = json.loads((tree.results / "manifest.json").read_text())["devices"]
    assert re.search(rf"device</\w+>\s*<\w+>{re.escape(', '.join(devices))}<", page)
    assert "<script src" not in page
    assert "<link" not in page


def test_the_page_is_valid_and_its_numbers_are_those_of_the_claims(tree):
    page = (tree.results / "report" / "index.html").read_text()
    claims = pd.read_csv(tree.results / "claims.csv", keep_default_na=False, na_values=["nan", ""])
    assert compare_with_claims(page, claims) > 4 * len(claims)
    (seal,) = re.findall("sharpflow-sha256:", page)
    assert seal


def test_claims_stand_beside_figures_that_draw_what_they_read(tree, monkeypatch):
    """From what each figure read while it was drawn, and what each claim says that it reads."""
    plan = _plan(tree, monkeypatch)
    page = (tree.results / "report" / "index.html").read_text()
    sections = re.findall(
        r'<section class="figure" aria-labelledby="([^"]+)">(.*?)</section>', page, re.S
    )
    beside = {
        (target, figure)
        for figure, text in sections
        for target in re.findall(r'class="chip[^"]*" href="#([^"]+)"', text)
    }
    drawn = {
        f"figure-{f.paper}-{f.name}": json.loads(
            (tree.results / f"figures/{f.paper}/{f.name}.json").read_text()
        )["drawn"]
        for f in plan.figures
    }
    expected, somewhere = set(), 0
    for experiment, verdicts in plan.claims.items():
        for verdict in verdicts:
            asked = {
                (case, shard.width, float(shard.learning_rate), quantity)
                for shard in plan.shards_of(experiment)
                for case in verdict.cases
                if shard.case == case
                for quantity in verdict.reads
            }
            fits = [
                figure
                for figure, read in drawn.items()
                if asked <= {tuple(each) for each in read.get(experiment, [])}
            ]
            paper = plan.settings[experiment]["paper"]
            somewhere += bool(fits)
            expected |= {(f"claim-{paper}-{experiment}-{verdict.name}", f) for f in fits[:1]}
    assert beside == expected
    assert 0 < somewhere < sum(map(len, plan.claims.values()))


def test_the_run_has_a_page_of_its_own(tree):
    page = (tree.results / "benchmarks" / "run.html").read_text()
    manifest = json.loads((tree.results / "manifest.json").read_text())
    assert manifest["commit"] in page
    for name, digest in manifest["sha256"].items():
        assert name in page
        assert digest in page
    jobs = dict(re.findall(r'<th scope="row">(\w+)</th><td class="n">(\d+)</td>', page))
    planned = {k: str(v) for k, v in tree.planned("--forceall").items() if k != "manifest"}
    assert jobs == planned


def test_snakemakes_own_report_has_captions_categories_and_labels(tree, tmp_path):
    archive = tmp_path / "report.zip"
    run = tree.snakemake("--report", str(archive))
    assert run.returncode == 0, run.stdout[-3000:]
    with zipfile.ZipFile(archive) as content:
        text = "".join(
            content.read(name).decode() for name in content.namelist() if name.endswith(".html")
        )
    for words in ("Verdicts", "Figures", "li2022", "every figure, claim and verdict", "phases"):
        assert f'"{words}"' in text
    for caption in ("drawn from the", "One self-contained page", "experiments of papers on sharp"):
        assert caption in text


def test_nothing_is_done_twice(tree):
    run = tree.snakemake("--cores", "2")
    assert run.returncode == 0
    assert "Nothing to be done" in run.stdout


def test_jobs_load_the_code_of_their_clone_whatever_else_is_installed(tree, tmp_path):
    """Its digest is the clone's; the path of an installed package comes first in a script."""
    (tmp_path / "sharpflow").mkdir()
    (tmp_path / "sharpflow/__init__.py").write_text("raise ImportError('of another release')")
    data = next((tree.results / "data").glob("*.safetensors"))
    target = str(data.relative_to(tree.root))
    run = tree.snakemake("--cores", "1", "--force", target, PYTHONPATH=str(tmp_path))
    assert run.returncode == 0, run.stdout
    assert "1 of 1 jobs done" in run.stdout
    run = tree.snakemake("--cores", "2")  # what follows from it, for the tests after this one
    assert run.returncode == 0, run.stdout


def test_a_script_runs_alone_and_gives_the_same_bytes(tree, monkeypatch, tmp_path):
    import subprocess
    import sys

    plan = _plan(tree, monkeypatch)
    shard = plan.shards_of("dense")[0]
    made = tree.results / shard.folder
    environment = {"PYTHONPATH": str(tree.root), "PATH": ""}
    run = subprocess.run(
        [
            sys.executable, "scripts/train.py",
            "--datasets", *(tree.results / "data" / f"{n}.safetensors" for n in shard.datasets),
            "--trajectory", tmp_path / "trajectory.parquet",
            "--states", tmp_path / "states.safetensors",
            "--spec", json.dumps(shard.training),
        ],
        cwd=tree.root, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    for name in ("trajectory.parquet", "states.safetensors"):
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes()
