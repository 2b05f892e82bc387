"""Full and read-only disks, bad data and runs that diverge: a message or a result, no damage."""

import csv
import os
import shlex
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest
import yaml
from config_folder import EXPERIMENT
from trees import PROJECT, Tree, copy_project, starts

from sharpflow.storage.files import sha256_of
from sharpflow.verify import differences

SMALL = """\
results: results/faults
papers: [papers/li2022]
experiments: [linear]
overrides:
  linear:
    seeds: 2
    data: {DATA}
    widths: WIDTHS
    learning_rates: RATES
    seeds_per_job: 2
    training: {steps: 40, states_megabytes: 0.2}
"""
BAD = """\
results: results/faults
papers: [papers/li2022]
experiments_folder: experiments
experiments: NAMES
"""
RECORD = 3073


@pytest.fixture
def project(tmp_path):
    return copy_project(tmp_path / "project")


def configured(tree: Tree, data="samples: 60", widths="[20]", rates="[0.005]", more="") -> str:
    """Write a configuration of one small experiment, and one more with its keys; its name."""
    text = SMALL.replace("DATA", data).replace("WIDTHS", widths).replace("RATES", rates)
    if more:
        one = text.partition("  linear:\n")[2]
        text = f"{text.replace('[linear]', f'[linear, {more}]')}  {more}:\n{one}"
    name = f"faults{len(list(tree.root.glob('faults*.yaml')))}.yaml"
    (tree.root / name).write_text(text)
    return name


def results(tree: Tree):
    """The results root of `configured`."""
    return tree.root / "results" / "faults"


def launched(tree: Tree, config: str) -> subprocess.CompletedProcess:
    """`make run`, without its installation."""
    command = [sys.executable, "-m", "sharpflow.launch", "--cores", "2", "--configfile", config]
    return subprocess.run(
        command,
        cwd=tree.root,
        env=starts().environment(PYTHONPATH=str(tree.root)),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def refusal(run: subprocess.CompletedProcess) -> str:
    """The one paragraph that a failed run says, without a traceback."""
    assert run.returncode != 0, run.stdout
    assert "Traceback" not in run.stdout, run.stdout
    messages = {line for line in run.stdout.splitlines() if line.startswith("Error: ")}
    assert len(messages) == 1, messages
    return messages.pop()


def outputs(tree: Tree) -> dict[str, str]:
    """Checksums of all below the results root but logs, benchmarks, times and the filler."""
    aside = {"logs", "benchmarks", "filler", ".checked.json"}
    files = [p for p in results(tree).rglob("*") if p.is_file() and not aside & set(p.parts)]
    return {str(p.relative_to(tree.root)): sha256_of(p) for p in files}


def assert_intact(tree: Tree, before: dict[str, str]) -> None:
    """What was there is unchanged, and no half-written file was added."""
    after = outputs(tree)
    assert {name: after.get(name) for name in before} == before
    assert not [name for name in after if name.endswith(".tmp")]


@contextmanager
def mounted(folder, size: str):
    """A file system of its own for a folder; skips where this user cannot mount one."""
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def filled(folder, room: int) -> None:
    """Leave `room` bytes of a file system, in a file named `filler`."""
    filler = folder / "filler"
    with open(filler, "wb", buffering=0) as handle:
        try:
            while True:
                handle.write(bytes(4096))
        except OSError:
            os.truncate(filler, max(0, filler.stat().st_size - room))


@pytest.mark.parametrize("room", [0, 16_384])
def test_a_full_disk_is_a_message_and_the_rerun_goes_on(project, room):
    config = configured(project)
    with mounted(results(project), "16m"):
        table = "results/faults/tables/linear/runs/1-of-1.parquet"
        run = project.snakemake("--cores", "2", table, config=config)
        assert run.returncode == 0, run.stdout[-3000:]
        wider = configured(project, widths="[20, 30]")
        before = outputs(project)
        filled(results(project), room)
        message = refusal(project.snakemake("--cores", "2", table, config=wider))
        assert "could not be written" in message
        assert "No space left on device" in message
        assert_intact(project, before)
        (results(project) / "filler").unlink()
        run = project.snakemake("--cores", "2", config=wider)
        assert run.returncode == 0, run.stdout[-3000:]
        assert differences(results(project)) == []


def test_a_full_disk_at_the_last_stages(project):
    config = configured(project)
    with mounted(results(project), "16m"):
        run = project.snakemake("--cores", "2", config=config)
        assert run.returncode == 0, run.stdout[-3000:]
        whole = outputs(project)
        for made in ("figures", "claims", "tables", "report"):
            shutil.rmtree(results(project) / made)
        before = outputs(project)
        filled(results(project), 0)
        run = project.snakemake("--cores", "2", "--keep-going", config=config)
        assert run.returncode != 0
        assert "Traceback" not in run.stdout, run.stdout
        assert "No space left on device" in run.stdout
        assert_intact(project, before)
        (results(project) / "filler").unlink()
        run = project.snakemake("--cores", "2", config=config)
        assert run.returncode == 0, run.stdout[-3000:]
        changed = {name for name, digest in outputs(project).items() if whole.get(name) != digest}
        assert not changed


def test_a_read_only_results_root_is_a_message(project):
    config = configured(project)
    with mounted(results(project), "16m"):
        table = "results/faults/tables/linear/runs/1-of-1.parquet"
        run = project.snakemake("--cores", "2", table, config=config)
        assert run.returncode == 0, run.stdout[-3000:]
        before = outputs(project)
        subprocess.run(
            ["mount", "-o", "remount,ro", str(results(project))], check=True, capture_output=True
        )
        message = refusal(launched(project, config))
        assert config in message
        assert "results = 'results/faults' cannot be made or written" in message
        assert refusal(project.snakemake("--cores", "2", config=config)) == message
        assert_intact(project, before)


def test_a_file_in_the_way_of_the_results_is_a_message(project):
    config = configured(project)
    (project.root / "results").write_text("a file")
    assert "is read-only to you or not a folder" in refusal(launched(project, config))


BATCHES = {
    "cut": (
        bytes(RECORD * 30)[:-5],
        {"samples": 10},
        ["is not a whole number of CIFAR-10 records"],
    ),
    "empty": (b"", {"samples": 10}, ["has 0 bytes"]),
    "labels": (b"\x63" + bytes(RECORD - 1), {"samples": 10}, ["has label 99"]),
    "folder": (None, {"samples": 10}, ["cannot be read: Is a directory"]),
    "few": (
        bytes(RECORD * 30),
        {"samples": 10},
        ["needs 5 images of classes 5, 6, 7, 8, 9", "has 0"],
    ),
    "few of a class": (
        (bytes(RECORD * 4) + b"\x01" + bytes(RECORD - 1)) * 2,
        {"samples": 10, "classes": [0, 1]},
        ["data.samples = 10 needs 5 images of class 1", "has 2; ask for at most 4"],
    ),
}


def test_bad_data_are_named(project):
    folder = project.root / "experiments"
    folder.mkdir()
    for place, (content, data, _) in enumerate(BATCHES.values()):
        batch = project.root / f"cifar{place}" / "data_batch_1.bin"
        batch.parent.mkdir()
        batch.mkdir() if content is None else batch.write_bytes(content)
        data = {"source": "cifar10", "path": batch.parent.name, **data}
        (folder / f"bad{place}.yaml").write_text(yaml.safe_dump(EXPERIMENT | {"data": data}))
    names = [f"bad{place}" for place in range(len(BATCHES))]
    (project.root / "bad.yaml").write_text(BAD.replace("NAMES", str(names)))
    run = project.snakemake("--cores", "2", "--keep-going", config="bad.yaml")
    assert run.returncode != 0
    assert "Traceback" not in run.stdout, run.stdout
    messages = {line for line in run.stdout.splitlines() if line.startswith("Error: ")}
    assert len(messages) == len(BATCHES), messages
    for place, (_, _, words) in enumerate(BATCHES.values()):
        said = {line for line in messages if f"cifar{place}" in line}
        assert len(said) == 1, messages
        for word in words:
            assert word in min(said)
    assert outputs(project) == {}


def test_a_failing_download_says_how_to_get_the_data(project, monkeypatch):
    config = configured(project, "source: cifar10, samples: 10")
    monkeypatch.setenv("SHARPFLOW_CACHE", str(project.root / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/x.tar.gz"
        monkeypatch.setenv("SHARPFLOW_CIFAR10_URL", address)
        message = refusal(project.snakemake("--cores", "1", config=config))
    for word in (address, "Connection refused", "data.path", "by hand", "photos"):
        assert word in message
    assert outputs(project) == {}
    assert [p.name for p in (project.root / "cache").iterdir()] == [".lock"]


def test_runs_that_all_diverge_end_in_claims_and_figures(project):
    config = configured(project, rates="[100.0]", more="dense")
    run = project.snakemake("--cores", "2", config=config)
    assert run.returncode == 0, run.stdout[-3000:]
    assert "Traceback" not in run.stdout
    assert differences(results(project)) == []
    with open(results(project) / "claims.csv", encoding="utf-8", newline="") as handle:
        verdicts = {row["claim"]: row["verdict"] for row in csv.DictReader(handle)}
    assert verdicts
    assert "supported" not in verdicts.values()
    figures = list(results(project).glob("figures/li2022/*.png"))
    assert figures
    assert all(path.stat().st_size > 1000 for path in figures)
    page = (results(project) / "report" / "index.html").read_text()
    assert all(claim in page for claim in verdicts)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"widths": "[]"}, ["widths = []", "at least 1"]),
        ({"rates": "[]"}, ["learning_rates = []", "at least 1"]),
        ({"data": "samples: 4000"}, ["data.samples = 4000", "1950"]),
        ({"widths": "[1000000000]"}, ["widths[0] = 1000000000", "20000"]),
    ],
)
def test_a_sweep_of_nothing_or_too_much_is_refused(project, changes, words):
    config = configured(project, **changes)
    for run in (project.snakemake("--cores", "1", config=config), launched(project, config)):
        message = refusal(run)
        for word in (config, *words):
            assert word in message
    assert not results(project).exists()


LAUGHS = "a0: &a0 [x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
)
HOSTILE = {
    "100 MB": ("a: " + "x" * 10**8, "larger than 1 MiB"),
    "exploding": (LAUGHS, "alias"),
    "deep": ("a: " + "[" * 100_000, "nested too deeply"),
    "tab": ("results:\n\tx\n", "tab"),
    "twice": ("results: a\nresults: b\n", "twice"),
    "root": ("results: /\n", "results = '/'"),
    "here": ("results: ./\n", "results = './'"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_configuration_is_refused_before_snakemake_reads_it(project, kind):
    text, words = HOSTILE[kind]
    (project.root / "hostile.yaml").write_text(text)
    message = refusal(launched(project, "hostile.yaml"))
    assert "hostile.yaml" in message
    assert words in message
    assert not (project.root / "results").exists()
    assert not (project.root / ".snakemake").exists()


def test_make_run_checks_the_configuration_first():
    recipe = (PROJECT / "Makefile").read_text().partition("\nrun:")[2].split("\n\n")[0]
    assert "sharpflow.launch" in recipe
    assert "-m snakemake" not in recipe


def test_make_hands_on_names_with_spaces_and_quotes():
    names = {"CONFIG": "my o'wn.yaml", "CORES": "2 3", "RESULTS": "a $$(b) c"}
    command = ["make", "-n", *(f"{k}={v}" for k, v in names.items()), "run", "check", "verify"]
    printed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    words = [word for line in printed.stdout.splitlines() for word in shlex.split(line)]
    assert words.count("my o'wn.yaml") == 3
    assert words.count("2 3") == 1
    assert words.count("a $(b) c") == 1
