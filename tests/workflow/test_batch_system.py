"""profiles/pbs as it ships, on a real queue: task-spooler behind the commands of PBS."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import small_run

PLUGIN = "snakemake_executor_plugin_cluster_generic"
pytest.importorskip(PLUGIN, reason="tests/storage.txt is not installed")
SPOOLER = shutil.which("tsp")
needs_spooler = pytest.mark.skipif(SPOOLER is None, reason="needs task-spooler (of Debian)")

QSUB = """
echo "$@" >> "$QUEUE/submitted"
while getopts 'VN:j:o:l:' option; do
    case $option in N) name=$OPTARG ;; esac
done
shift $((OPTIND - 1))
cd / && echo "$(TMPDIR=$QUEUE tsp -L "$name" sh "$1").head"
"""
QSTAT = """
for id; do :; done
case $(tsp -s "${id%.head}" 2>/dev/null) in
    queued) echo "    job_state = Q" ;;
    running) echo "    job_state = R" ;;
    finished | skipped)
        code=$(tsp -i "${id%.head}" | sed -n 's/^Exit status: died with exit code //p')
        printf '    job_state = F\\n    Exit_status = %s\\n' "${code:-271}" ;;
    *) echo "qstat: Unknown Job Id $id" >&2; exit 153 ;;
esac
"""
QDEL = """
for id; do
    echo "$id" >> "$QUEUE/cancelled"
    tsp -k "${id%.head}" 2>/dev/null || tsp -r "${id%.head}"
done
"""


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """A queue with two places, and a folder that records what was submitted and cancelled."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("qsub", QSUB), ("qstat", QSTAT), ("qdel", QDEL)):
        (commands / name).write_text(f"#!/bin/sh\n{text}")
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("QUEUE", str(tmp_path))
    monkeypatch.setenv("TS_SOCKET", str(tmp_path / "socket"))
    monkeypatch.setenv("TS_SLOTS", "2")
    yield tmp_path
    subprocess.run(["tsp", "-K"], check=False)


def lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


@needs_spooler
def test_a_run_through_the_queue_gives_the_bytes_of_a_local_one(queue, tree, tmp_path):
    project = small_run.small_project(tmp_path / "project")
    profile = ("--workflow-profile", "profiles/pbs", "--latency-wait", "10")
    done = small_run.run(project, *profile, "--seconds-between-status-checks", "1", "--", "li2022")
    assert done.returncode == 0, done.stdout[-3000:]
    results = project.root / "results" / small_run.NAME
    files = [path for path in results.rglob("*") if path.is_file()]
    small_run.compare({str(p.relative_to(results)): p.read_bytes() for p in files}, tree.results)
    submitted = lines(queue / "submitted")
    rules = {re.search(r"-N sharpflow-(\w+)", line)[1] for line in submitted}
    assert rules == {
        "generate_data", "train", "evaluate_sharpness", "aggregate", "judge_claims", "plot_figure",
    }  # fmt: skip
    for line in submitted:
        assert re.search(r"select=1:ncpus=\d+:mem=\d+mb -l walltime=\d+00 ", line), line
    assert not (queue / "cancelled").exists()


@needs_spooler
@pytest.mark.parametrize(
    ("command", "said"), [("true", "success"), ("false", "failed"), ("sleep 60", "running")]
)
def test_the_status_of_a_job(queue, command, said):
    script = queue / "job.sh"
    script.write_text(f"{command}\n")
    submit = ["qsub", "-V", "-N", "x", "-j", "oe", "-l", "walltime=60", script]
    job = subprocess.check_output(submit, text=True).strip()
    if said != "running":
        subprocess.run(["tsp", "-w", job.removesuffix(".head")], check=False)
    status = small_run.PROJECT / "profiles" / "pbs" / "status"
    assert subprocess.check_output([status, job], text=True) == f"{said}\n"
    if said == "running":
        subprocess.run(["qdel", job], check=True)
        subprocess.run(["tsp", "-w", job.removesuffix(".head")], check=False)
        assert subprocess.check_output([status, job], text=True) == "failed\n"
    assert subprocess.check_output([status, "99.head"], text=True) == "failed\n"
