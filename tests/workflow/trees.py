"""Copies of the project, and Snakemake in them."""

import atexit
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path

from sharpflow import forkserver

PROJECT = Path(__file__).resolve().parents[2]
PARTS = (
    "Snakefile", "environment.yml", "rules", "scripts", "sharpflow", "config", "papers", "profiles",
)  # fmt: skip
CONFIG = "config/smoke.yaml"
PLANNING = (
    "snakemake.cli",
    "snakemake.report.html_reporter",
    "boto3",
    "nbformat",
    "pydantic",
    "yaml",
)
"""What a start of Snakemake loads, but for this project."""


def _environment() -> dict[str, str]:
    foreign = ("SNAKEMAKE", "AWS", "PYTHONPATH")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


class Starts:
    """Snakemake as its command, forked from a process that has loaded it and what jobs load.

    A start need not import them, which is most of it, and the jobs of all runs are forked from the
    same process. Where one cannot be forked, it is started.
    """

    def __init__(self):
        self.server = forkserver.Server(1, (*forkserver.PRELOADED, *PLANNING), _environment())
        atexit.register(self.server.stop)

    def environment(self, **variables: str) -> dict[str, str]:
        """This process's, for a start of Snakemake, with some variables of its own."""
        threads = dict.fromkeys(forkserver.THREADS, "1")
        server = {forkserver.ADDRESS: self.server.address}
        return _environment() | threads | server | variables

    @cached_property
    def path(self) -> list[str]:
        """Where an interpreter looks for modules, beside the folder that it is started in."""
        command = [sys.executable, "-P", "-c", "import json, sys; print(json.dumps(sys.path))"]
        return json.loads(subprocess.check_output(command, env=self.environment()))

    def snakemake(
        self, folder: Path, arguments: Sequence[str], variables: Mapping[str, str]
    ) -> subprocess.CompletedProcess:
        """Run it in a folder; errors and output come together."""
        environment = self.environment(**variables)
        command = [sys.executable, "-m", "snakemake", *arguments]
        with tempfile.TemporaryFile("w+", encoding="utf-8") as printed:
            process = forkserver.submit(
                self.server.address,
                [find_spec("snakemake.__main__").origin, *arguments],
                environment,
                [str(folder), *self.path],
                folder,
                [0, printed.fileno(), printed.fileno()],
            )
            if process is None:
                code = subprocess.run(
                    command, cwd=folder, env=environment, stdout=printed, stderr=printed
                ).returncode
            else:
                with process:
                    code = forkserver.ended(process)
            assert code is not None, "the process that Snakemake is forked from was killed"
            printed.seek(0)
            return subprocess.CompletedProcess(command, code, printed.read())


@cache
def starts() -> Starts:
    """The one of this process."""
    return Starts()


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
        return starts().snakemake(self.root, ["--configfile", config, *arguments], variables)

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
