"""How much a configuration asks for, refused before any of it is taken."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sharpflow.config.feasible import flows
from sharpflow.cost import Job, beside, shipped, size
from sharpflow.errors import ConfigError

MEMORY_VARIABLE = "SHARPFLOW_MEMORY_GIB"
JOBS = 100_000
_GIB = 2**30


def memory() -> float:
    """Bytes that a job may take: `$SHARPFLOW_MEMORY_GIB`, or this machine's memory.

    Raises:
        ConfigError: the variable is not a number above 0.
    """
    named = os.environ.get(MEMORY_VARIABLE)
    if not named:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        size = float(named)
    except ValueError:
        size = 0.0
    if not size > 0:
        raise ConfigError(f"{MEMORY_VARIABLE} = {named!r} is not a number of GiB above 0.")
    return size * _GIB


def check_memory(setup: Any, runs: int, file_of: Callable[[list[str]], str]) -> None:
    """Refuse networks whose training or evaluation fits no memory, by `sharpflow.cost`.

    The tensors of the step, the optimiser's state and the stored states are counted. Networks whose
    size their part cannot tell beforehand are let through.

    Args:
        setup: a case's whole set-up.
        runs: trained together in one job.
        file_of: function of a list of keys that names the file in which they stand.

    Raises:
        ConfigError: it names the width, and what the limit is.
    """
    limit = memory()
    for index, width in enumerate(setup.widths):
        sizes = size(setup, width, runs)
        if sizes is None:
            continue
        jobs = [Job(stage, **sizes) for stage in ("train", "evaluate_sharpness")]
        jobs += [Job("integrate_flow", **beside(sizes, *flow)) for flow in flows(setup)]
        job = max(jobs, key=shipped().memory)
        needed = shipped().memory(job) * 2**20
        if needed > limit:
            raise ConfigError(
                f"{file_of(['widths'])}: widths[{index}] = {width} gives networks of "
                f"{job.parameters:.3g} parameters; a job {job.stage} of seeds_per_job = {runs} "
                f"takes up to {needed / _GIB:.3g} GiB in {setup.dtype}, and {limit / _GIB:.3g} GiB "
                "are there. Use smaller widths, fewer layers, samples or seeds a job, or set "
                f"{MEMORY_VARIABLE} to the memory of the machine that will run it."
            )


_PROJECT = Path(__file__).resolve().parents[2]
OWN = frozenset(
    {
        "benchmarks",
        "config",
        "containers",
        "docs",
        "papers",
        "profiles",
        "rules",
        "scripts",
        "sharpflow",
        "tests",
        "workflow",
    }
)
"""Folders of the project; hidden ones are its own too."""
SYSTEM = ("/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/sbin", "/sys", "/usr")


def check_results(results: str, where: str) -> None:
    """Refuse a results root that would mix what is made with files of another kind.

    Args:
        results: the folder, relative to the working directory; links are followed.
        where: names the file.

    Raises:
        ConfigError: it is a folder of the project or the system, a home, or holds one of them.
    """
    try:
        folder = Path(results).resolve()
    except (OSError, RuntimeError):  # a link that leads to itself
        raise ConfigError(f"{where}: results = {results!r} is a link to itself.") from None
    home = Path.home().resolve()
    inner = folder.relative_to(_PROJECT).parts if folder.is_relative_to(_PROJECT) else None
    if any(place.is_relative_to(folder) for place in (_PROJECT, Path.cwd(), home)):
        reason = "holds the project, the working directory or your home"
    elif inner is not None and (inner[0] in OWN or inner[0].startswith(".")):
        reason = f"belongs to the project's own folder {inner[0]!r}"
    elif ".git" in folder.parts:
        reason = "belongs to a git repository's records"
    elif inner is None and any(folder.is_relative_to(system) for system in SYSTEM):
        reason = "belongs to the system"
    else:
        return
    raise ConfigError(
        f"{where}: results = {results!r} is {folder}, which {reason}; give a folder of its own, "
        "'results/mine' say."
    )


def check_jobs(experiment: Any, cases: Mapping[str, Any], where: str) -> None:
    """Refuse a sweep of more shards than can be planned.

    Args:
        experiment: gives the number of seeds, and of seeds a job.
        cases: the whole set-up of each case, with its widths and learning rates.
        where: names the file and the experiment.

    Raises:
        ConfigError: it gives the number of jobs and the limit.
    """
    blocks = experiment.seeds // experiment.seeds_per_job
    count = blocks * sum(
        len(s.widths) * len(s.learning_rates) * (1 + len([*flows(s)])) for s in cases.values()
    )
    if count > JOBS:
        raise ConfigError(
            f"{where}: cases × widths × learning_rates × seeds / seeds_per_job is {count:,} "
            f"training jobs, flows beside them included, where at most {JOBS:,} are allowed; raise "
            f"seeds_per_job = {experiment.seeds_per_job}, or shorten the lists."
        )
