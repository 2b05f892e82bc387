"""Copies of the project, and Snakemake in them."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
PARTS = (
    "Snakefile", "environment.yml", "rules", "scripts", "sharpflow", "config", "papers", "profiles",
)  # fmt: skip
CONFIG = "config/smoke.yaml"


@dataclass(frozen=True)
class Tree:
    """A working copy, Snakemake in it, and what its first run printed."""

    root: Path
    printed: str = ""

    @property
    def results(self) -> Path:
        return self.root / "results" / "smoke"

    def snakemake(
        self, *arguments: str, config: str = CONFIG, **variables: str
    ) -> subprocess.CompletedProcess:
        """Run Snakemake with some environment variables; errors and output come together."""
        foreign = ("SNAKEMAKE", "AWS", "PYTHONPATH")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        return subprocess.run(
            [sys.executable, "-m", "snakemake", "--configfile", config, *arguments],
            cwd=self.root,
            env=environment | variables,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs that a dry run would start, by rule, without the target rule."""
        run = self.snakemake("-n", *arguments)
        assert run.returncode == 0, run.stdout
        return self.counted(run.stdout)

    @staticmethod
    def counted(printed: str) -> dict[str, int]:
        """Jobs by rule that a dry run printed, without the target rule."""
        stats = printed.partition("Job stats:")[2].partition("total")[0]
        jobs = {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", stats, re.M)}
        jobs.pop("all", None)
        return jobs

    def edited(self, file: str, old: str, new: str):
        """A context in which one text stands in the place of another."""
        return Edit(self.root / file, old, new)


class Edit:
    """A file with one text in the place of another, while the context lasts."""

    def __init__(self, path: Path, old: str, new: str):
        self.path, self.old, self.new = path, old, new

    def __enter__(self):
        self.before = self.path.read_text()
        assert self.old in self.before
        self.path.write_text(self.before.replace(self.old, self.new, 1))

    def __exit__(self, *_):
        self.path.write_text(self.before)


def copy_project(target: Path) -> Tree:
    """The parts of the project that a run needs, without results or caches."""
    target.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        source = PROJECT / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / part)
    return Tree(target)
