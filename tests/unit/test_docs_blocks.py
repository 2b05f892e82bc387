"""No code block of README and docs is left unrun without a reason that stands here."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
import yaml
from docs_blocks import ROOT, Block, blocks, commands, files, inline, pages, run
from snakemake.cli import parse_args

from sharpflow.cli.app import cli
from sharpflow.config import load, make_plan

EVERY = [block for page in pages() for block in blocks(page)]
NOT_CODE = ("text", "{toctree}", "{eval-rst}", "{paper}")
"""Pictures and printed lines, and what the documentation site itself carries out."""

PYTHON = {
    "README.md": "test_the_block_of_the_readme_runs_pasted_alone",
    "docs/how-to/sharpness.md": "tests/unit/test_docs_sharpness.py",
    "docs/how-to/training_loops.md": "tests/unit/test_docs_training_loops.py",
    "docs/how-to/flows.md": "tests/unit/test_docs_flows.py",
    "docs/how-to/symmetry.md": "tests/unit/test_docs_symmetry.py",
    "docs/results/cifar10.md": "tests/workflow/test_docs.py, on the tables of the smoke run",
}
FILES = {
    "docs/how-to/extending.md": "tests/workflow/test_own_folder.py",
    "docs/how-to/module.md": "tests/workflow/test_docs.py",
    **{
        f"docs/tutorial/{page}.md": "tests/workflow/test_tutorial.py"
        for page in ("1_activation", "2_data", "3_model", "4_claim", "5_paper")
    },
}
"""Pages whose titled blocks are the files of a folder that a test writes and runs."""
YAML = {
    "README.md": "tests/workflow/test_docs.py, as config/experiments/deep_swish.yaml",
    "docs/how-to/gpu.md": "test_the_lines_for_a_profile_are_read_by_snakemake",
    "docs/how-to/scaling.md": "test_the_sweep_of_the_page_on_scaling_is_as_large_as_it_says",
}

NOT_RUN = {
    "git": "there is no published address to clone from",
    "$EDITOR": "an editor waits for a person",
    "cd": "changes the shell's folder and nothing else",
    "source": "changes the shell's environment and nothing else",
    "export": "secrets of a store that the reader has",
    "pip": "installs packages; `make test` itself installs these files",
    "apptainer": "no Apptainer is at hand; tests/unit/test_places.py reads the recipe",
    "docker": "no Docker is at hand; tests/unit/test_places.py reads the recipe",
}
"""Programs whose commands are read by nobody but the reader, and why."""
MODULES = {
    "benchmarks": "minutes each; `make bench`",
    "sharpflow.config": "tests/workflow/test_own_folder.py and tests/unit/test_config_errors.py",
    "sharpflow.cost": "tests/unit/test_cost.py",
    "sharpflow.fidelity": "tables of hours; tests/unit/test_fidelity.py on made ones",
    "sharpflow.launch": "tests/unit/test_launch.py",
    "sharpflow.verify": "tests/unit/test_verify.py",
    "sharpflow.report.markdown": "tests/unit/test_report_claims.py, on made verdicts",
    "sharpflow.recorded": "tests/unit/test_report_claims.py, on made verdicts",
}
"""Modules started with `python -m`: the test that does so, or why none does as it stands here."""


def of(language: str) -> list[Block]:
    return [block for block in EVERY if block.language == language and not block.title]


def test_every_block_has_a_language_that_is_run():
    for block in EVERY:
        if block.title:
            assert block.page in FILES, block
        elif block.language == "python":
            assert block.page in PYTHON, block
        elif block.language == "yaml":
            assert block.page in YAML, block
        else:
            assert block.language in ("sh", *NOT_CODE), f"{block}: {block.language!r}"


def test_nothing_is_listed_that_is_not_there():
    for listed, found in (
        (PYTHON, {block.page for block in of("python")}),
        (YAML, {block.page for block in of("yaml")}),
        (FILES, {block.page for block in EVERY if block.title}),
    ):
        assert listed.keys() == found
    started = {words[0] for block in of("sh") for words in commands(block)}
    assert NOT_RUN.keys() <= started
    for text in [*PYTHON.values(), *FILES.values(), *YAML.values(), *MODULES.values()]:
        for word in text.replace(",", " ").split():
            if word.startswith("tests/"):
                assert (ROOT / word).is_file(), word
            elif word.startswith("test_"):
                assert word in globals(), word


def module_of(name: str) -> str:
    """The source of a module that `python -m` starts."""
    path = ROOT / name.replace(".", "/")
    file = path.with_suffix(".py")
    return (file if file.is_file() else path / "__main__.py").read_text(encoding="utf-8")


def check(words: list[str], page: str) -> None:
    """A command is one that there is: make's target, Snakemake's options, a module's, ours."""
    if words[:2] == ["python", "-m"] and words[2] in ("pytest", "sharpflow"):
        words = words[2:]
    program, *rest = words
    if program == "make":
        done = subprocess.run(["make", "-n", *rest], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    elif program == "snakemake":
        _, options = parse_args(rest)
        assert (ROOT / (options.workflow_profile or "profiles/default")).is_dir()
    elif program == "sharpflow":
        command: click.Command = cli
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            command = command.commands[rest.pop(0)]
        if not isinstance(command, click.Group):
            command.make_context(program, rest)
    elif words[:2] == ["python", "-m"]:
        name = words[2]
        if name in sys.stdlib_module_names:
            return
        assert name in MODULES or name.partition(".")[0] in MODULES, name
        source = module_of(name)
        for word in words[3:]:
            if word.startswith("-"):
                assert f'"{word}"' in source, f"{name} has no {word}"
    elif program in ("python", "pytest"):
        own = FILES.get(page) and Path(rest[0]).name in files(page)
        assert own or (ROOT / rest[0]).exists(), rest[0]
    else:
        assert program in NOT_RUN, words


@pytest.mark.parametrize("block", of("sh"), ids=str)
def test_commands_are_ones_that_there_are(block):
    for words in commands(block):
        check(words, block.page)


@pytest.mark.parametrize("page", [page for page in pages() if page != "CHANGELOG.md"])
def test_commands_in_the_text_are_ones_that_there_are(page):
    for words in inline(page):
        check(words, page)


def test_the_lines_for_a_profile_are_read_by_snakemake(tmp_path):
    (block,) = [block for block in of("yaml") if block.page == "docs/how-to/gpu.md"]
    shipped = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    lines = yaml.safe_load(block.text)
    assert not lines.keys() & shipped.keys()
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(shipped | lines))
    _, options = parse_args(["--workflow-profile", str(tmp_path)])
    asked = {rule: set(resources) for rule, resources in options.set_resources.items()}
    assert asked == {rule: set(given) for rule, given in lines["set-resources"].items()}


def test_the_sweep_of_the_page_on_scaling_is_as_large_as_it_says(tmp_path, monkeypatch):
    (block,) = [block for block in of("yaml") if block.page == "docs/how-to/scaling.md"]
    (tmp_path / "config" / "experiments").mkdir(parents=True)
    (tmp_path / "config" / "experiments" / "sweep.yaml").write_text(block.text)
    (tmp_path / "config" / "sweep.yaml").write_text(
        "results: results/sweep\nexperiments: [sweep]\n"
    )
    monkeypatch.chdir(tmp_path)
    plan = make_plan(load("config/sweep.yaml"))
    seeds = sum(len(shard.training["seeds"]) for shard in plan.shards.values())
    assert (len(plan.shards), seeds) == (10_000, 100_000)
    jobs = 2 * len(plan.shards) + len(plan.parts_of("sweep")) + len(plan.datasets)
    assert f"| jobs | {jobs:,}: " in (ROOT / block.page).read_text(encoding="utf-8")


def test_the_block_of_the_readme_runs_pasted_alone(capsys):
    (block,) = [block for block in of("python") if block.page == "README.md"]
    names = run("README.md")
    assert names["top"].converged
    assert names["value"] == pytest.approx(names["streamed"], rel=0.01)
    assert torch.isfinite(names["top"].values).all()
    assert len(capsys.readouterr().out.splitlines()) >= 10, block
