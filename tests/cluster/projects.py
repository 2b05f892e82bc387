"""Copies of the project with a small configuration, and their jobs on a cluster."""

import importlib.util
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import slurm


def _load(path: Path, name: str):
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


copies = _load(Path(__file__).parent.parent / "workflow" / "trees.py", "project_copies")

SMALL = """\
results: results/small
papers: [papers/li2022]
experiments: [dense]
overrides:
  dense:
    seeds: 2
    data: {samples: 60}
    widths: [20]
    seeds_per_job: 2
    training: {steps: 40, states_megabytes: 0.2}
    measurements: {hessian: {every: 20}}
    figures: [output_norm]
    claims: [edge_of_stability, surrogate_factor]
"""
PATIENCE = 600
PROFILE = ("--workflow-profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "3")
APART = ("--group-components", "data=100", "evaluate=4", "tables=8")
"""Trainings apart, so that something else can happen to each."""
ONE = "results/small/runs/dense/tanh/width=20/lr=0.005/seeds=100-101/trajectory.parquet"


@dataclass
class Project:
    """A copy of the project with the small configuration."""

    root: Path
    heads: list[subprocess.Popen] = field(default_factory=list)

    def snakemake(
        self, *arguments: str, module: str = "snakemake", path: str = "", **options
    ) -> subprocess.Popen:
        """Start Snakemake; what it says goes to `said`."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SNAKEMAKE")}
        environment |= {"PYTHONPATH": str(self.root), "SHARPFLOW_CHECKPOINT_SECONDS": "0.05"}
        if path:
            environment["PATH"] = path
        command = [sys.executable, "-m", module, *arguments, "--configfile", "small.yaml"]
        with open(self.root / "said", "w", encoding="utf-8") as said:
            head = subprocess.Popen(
                command, cwd=self.root, env=environment, stdout=said, stderr=subprocess.STDOUT,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **options,
            )  # fmt: skip
        self.heads.append(head)
        return head

    def run(self, *arguments: str, **options) -> int:
        """Run Snakemake to its end; its exit status."""
        return self.snakemake(*arguments, **options).wait(PATIENCE)

    @property
    def said(self) -> str:
        return (self.root / "said").read_text()

    def results(self) -> dict[str, bytes]:
        """Contents of all that was made, by name, without logs, times and what is remembered."""
        root = self.root / "results" / "small"
        files = (path for path in root.rglob("*") if path.is_file())
        named = ((path.relative_to(root).as_posix(), path) for path in files)
        apart = ("logs/", "benchmarks/", ".checked.json")
        return {name: path.read_bytes() for name, path in named if not name.startswith(apart)}


def copy_of_project(folder: Path) -> Project:
    copies.copy_project(folder)
    (folder / "small.yaml").write_text(SMALL)
    return Project(folder)


def jobs_of(cluster, project: Project, *states: str) -> list[dict[str, str]]:
    """Slurm's jobs that were submitted from a copy of the project."""
    found = cluster.jobs(*states).values()
    return [job for job in found if job["folder"] == str(project.root)]


def running(cluster, project: Project, head, name: str) -> list[str]:
    """Numbers of the running jobs that have something of a name in theirs."""
    assert head.poll() is None, project.said[-3000:]
    jobs = jobs_of(cluster, project, "RUNNING")
    return [job["id"] for job in jobs if name in job["comment"]]


def wait_for_job(cluster, project: Project, head, name: str) -> str:
    """Wait until a job of this name runs; its number."""
    found = slurm.wait_for(
        lambda: running(cluster, project, head, name), f"a running job {name}", PATIENCE
    )
    return found[0]
