"""The commands, tables and YAML of README and docs, on a copy of the project."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from docs_blocks import ROOT, blocks, commands, files, pages, run
from PIL import Image
from snakemake.cli import parse_args
from trees import CONFIG

SHELL = [block for page in pages() for block in blocks(page) if block.language == "sh"]
DEFAULT = "config/config.yaml"


def named_targets() -> dict[str, set[str]]:
    """Every target that a command of the docs names, by the configuration that it is given with."""
    found: dict[str, set[str]] = {}
    for block in SHELL:
        for words in commands(block):
            if words[0] == "snakemake" and "--configfile /path/" not in " ".join(words):
                _, options = parse_args(words[1:])
                (config,) = options.configfile or [DEFAULT]
                found.setdefault(str(config), set()).update(options.targets)
    return found


TARGETS = named_targets()


def test_the_docs_name_every_shipped_configuration():
    shipped = {f"config/{path.name}" for path in ROOT.glob("config/*.yaml")}
    assert set(TARGETS) >= shipped - {"config/demo.yaml"}  # of the command `sharpflow demo`


@pytest.mark.parametrize("config", [name for name in TARGETS if name.startswith("config/")])
def test_what_the_docs_ask_of_snakemake_can_be_planned(tree, config):
    """All targets at once: each must be made by some rule."""
    run = tree.snakemake("-n", "--quiet", "--", *sorted(TARGETS[config]), config=config)
    assert run.returncode == 0, run.stdout[-2000:]


def test_the_page_on_architecture_has_the_graph_that_is_planned(tree):
    graph = tree.snakemake("--rulegraph", config="config/neighbours.yaml").stdout
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', graph))
    planned = {(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", graph)}
    page = (ROOT / "docs" / "background" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| [^|]* \| [^|]* \|$", page, re.M)
    told = {(source, rule) for rule, cell in rows for source in re.findall(r"`(\w+)`", cell)}
    assert told == {edge for edge in planned if edge[1] != "all"}
    assert {rule for rule, _ in rows} == set(names.values()) - {"all"}


def test_the_experiment_of_the_readme_is_planned_by_itself(tree):
    (block,) = [block for block in blocks("README.md") if block.language == "yaml"]
    file = tree.root / block.text.splitlines()[0].removeprefix("# ")
    file.parent.mkdir(exist_ok=True)
    file.write_text(block.text)
    config = tree.root / "config" / "alone.yaml"
    config.write_text(
        "results: results/alone\npapers: [papers/li2022]\nexperiments: [deep_swish]\n"
    )
    run = tree.snakemake("-n", config="config/alone.yaml")
    shutil.rmtree(file.parent)
    config.unlink()
    assert run.returncode == 0, run.stdout[-2000:]
    jobs = tree.counted(run.stdout)
    assert (jobs["train"], jobs["plot_figure"], jobs["judge_claims"]) == (6, 1, 1)


def test_the_tables_are_read_as_the_page_says(tree, tmp_path, monkeypatch):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "paper").symlink_to(tree.results)
    monkeypatch.chdir(tmp_path)
    names = run("docs/results/cifar10.md")
    assert set(names["losses"]["quantity"]) == {"loss"}
    assert isinstance(names["table"], pd.DataFrame)
    assert len(names["losses"]) < len(names["table"])
    assert Path(names["folder"]).is_dir()


def test_a_workflow_has_this_one_as_a_module(tree, tmp_path):
    """A plan, in a folder that has nothing of the project."""
    for name, text in files("docs/how-to/module.md").items():
        (tmp_path / name).write_text(text)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SNAKEMAKE")}
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "supported.txt", "results/study/manifest.json"],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": str(tree.root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    jobs = tree.counted(done.stdout + done.stderr)
    assert (jobs["sharpflow_train"], jobs["sharpflow_report"], jobs["supported"]) == (1, 1, 1)


def test_the_catalogue_of_workflows_finds_what_it_needs(tree):
    settings = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())
    usage = settings["usage"]
    deployment = usage["software-stack-deployment"]
    assert usage.keys() == {"mandatory-flags", "software-stack-deployment", "report"}
    assert deployment == {"conda": True, "apptainer": False, "apptainer+conda": False}
    rules = "".join(path.read_text() for path in ROOT.glob("rules/*.smk"))
    assert usage["report"] is ("report(" in rules)
    assert deployment["conda"] is ("conda:" in rules)
    readme = (ROOT / "README.md").read_text().lower()
    assert "snakemake" in readme
    assert "workflow" in readme
    assert (ROOT / "config" / "README.md").is_file()
    shutil.copytree(ROOT / "workflow", tree.root / "workflow")
    run = tree.snakemake("-n", "--snakefile", "workflow/Snakefile")
    shutil.rmtree(tree.root / "workflow")
    assert run.returncode == 0, run.stdout[-2000:]
    assert "Nothing to be done" in run.stdout


def test_the_gallery_is_made_from_tables(tree, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    monkeypatch.chdir(tree.root)
    import gallery

    gallery.make(CONFIG, tree.results, tmp_path)
    page = (tmp_path / "gallery.md").read_text(encoding="utf-8")
    pictures = re.findall(r"\(images/gallery/([^)]+)\)", page)
    assert "li2022_output_norm.png" in pictures
    for name in pictures:
        with Image.open(tmp_path / "images" / "gallery" / name) as picture:
            assert picture.width == gallery.WIDTH
