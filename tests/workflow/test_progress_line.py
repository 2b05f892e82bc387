"""What a run says while it works and at its end, and a figure that cannot be drawn."""

import json

import pytest
import small_run

FIGURE = "papers/li2022/figures/phases.py"
OLD = '    """Λ and the loss of each network'
BROKEN = "    raise KeyError('a column that nobody has')\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A finished run of one experiment, but for its figure, and what it printed."""
    project = small_run.small_project(tmp_path_factory.mktemp("project"))
    with project.edited(FIGURE, OLD, BROKEN + OLD):
        run = small_run.run(project, "--cores", "2")
    return project, run


def test_a_broken_figure_leaves_the_page_and_a_named_log_and_is_healed(project):
    project, run = project
    results = project.root / "results" / small_run.NAME
    log = f"results/{small_run.NAME}/logs/figures/li2022/phases.log"

    # the run goes to its end, and does not end well
    assert run.returncode != 0
    (failed,) = [line for line in run.stdout.splitlines() if line.startswith("Failed: ")]
    assert failed.startswith("Failed: figure li2022/phases: papers/li2022/figures/phases.py, line ")
    assert failed.endswith(f"KeyError: 'a column that nobody has'. Log: {log}")
    assert "Traceback" in (project.root / log).read_text()
    assert f"Page: results/{small_run.NAME}/report/index.html" in run.stdout
    assert "This figure could not be drawn" in (results / "report" / "index.html").read_text()

    # who checks the tree is told
    manifest = json.loads((results / "manifest.json").read_text())
    assert list(manifest["failed"]) == ["figures/li2022/phases.json"]
    verified = small_run.verify(project)
    assert verified.returncode == 1
    assert "figures/li2022/phases.json: its figure could not be drawn" in verified.stdout

    # a run that would do nothing else tries the figure again, and no training
    with project.edited(FIGURE, OLD, BROKEN + OLD):
        again = small_run.run(project, "--cores", "2", "--", "figures")
    assert again.returncode != 0
    assert project.counted(again.stdout) == {"plot_figure": 1, "figures": 1}
    assert failed in again.stdout.splitlines()

    healed = small_run.run(project, "--cores", "2", "--printshellcmds")
    assert healed.returncode == 0, healed.stdout
    assert "rule plot_figure:\n" in healed.stdout, "asked for all that Snakemake says"
    assert project.counted(healed.stdout) == {"plot_figure": 1, "report": 1, "manifest": 1}
    assert "Failed: " not in healed.stdout
    assert json.loads((results / "manifest.json").read_text())["failed"] == {}
    assert "could not be drawn" not in (results / "report" / "index.html").read_text()
    assert small_run.verify(project).returncode == 0


def test_the_console_tells_a_run_in_few_lines(project):
    project, run = project
    results = f"results/{small_run.NAME}"
    said = run.stdout.splitlines()
    assert "11 of 11 jobs done." in said
    assert any(line.startswith("Claims, ") and f"({results}/claims.csv)" in line for line in said)
    assert max(map(len, said)) <= 300
    assert not [line for line in said if line.startswith(("localrule ", "Finished ", "Select "))]
    (log,) = [
        text
        for path in (project.root / ".snakemake" / "log").iterdir()
        if "11 of 11 jobs done." in (text := path.read_text())
    ]
    assert log.count("rule train:\n") == 1
    assert "Finished jobid" in log
    rest = small_run.run(project, "--cores", "2").stdout.splitlines()
    assert f"Page: {results}/report/index.html" in rest
    assert not list((project.root / results).rglob("*.progress"))
