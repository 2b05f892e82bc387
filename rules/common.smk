"""The plan of the sweep, read once; lookups from wildcards to what a job needs."""

import gc
import os
import sys
from functools import cache
from importlib.metadata import version

sys.path.insert(0, workflow.basedir)

from snakemake.logging import logger

from sharpflow.config import load, make_plan
from sharpflow.config.digest import Code
from sharpflow.config.gaps import gaps
from sharpflow.console import shorten
from sharpflow.errors import SharpflowError

logger.addFilter(shorten)
# a third of the planning of a large sweep is a search for garbage among objects that all stay
gc.set_threshold(20_000, 10, 10)

DEFAULT = "config/config.yaml"


def refuse(message):
    """End with a message: a WorkflowError would come with a traceback of this file."""
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(1)


def read_plan():
    """The settings and plan of the one configuration that was given, or of the default one."""
    files = [str(path) for path in workflow.config_settings.configfiles] or [DEFAULT]
    if len(files) > 1:
        refuse(f"Give one --configfile, not {len(files)}: each is a whole configuration.")
    try:
        settings = load(files[0], dict(workflow.config_settings.config or {}))
        return os.path.relpath(files[0]), settings.configuration, make_plan(settings)
    except SharpflowError as error:
        refuse(error)


CONFIG_FILE, CONFIGURATION, PLAN = read_plan()
ROOT = CONFIGURATION.results
TORCH = version("torch")
EXPERIMENTS = list(PLAN.settings)
PAPERS = list(PLAN.papers)
CODE = Code(PLAN.folders)
CONFIG_OPTION = "" if CONFIG_FILE == DEFAULT else f" --configfile {CONFIG_FILE}"


def figure_path(figure, suffix):
    """Where a figure goes."""
    return f"{ROOT}/figures/{figure.paper}/{figure.name}.{suffix}"


FIGURE_FILES = [figure_path(figure, suffix) for figure in PLAN.figures for suffix in ("png", "pdf")]
SHARPNESS_EXPERIMENTS = [
    name for name in EXPERIMENTS if "gauss_newton" in PLAN.settings[name]["measurements"]
]
JUDGED = [name for name in EXPERIMENTS if PLAN.claims[name]]
FIGURES = {(figure.paper, figure.name): figure for figure in PLAN.figures}


@cache
def digest_once(script, entries):
    """One digest for the many jobs of a sweep."""
    return CODE.digest(f"{workflow.basedir}/scripts/{script}", entries)


def code(script, entries=()):
    """Digest of a script and everything it reaches, with the modules that it loads by name."""
    return digest_once(script, tuple(entries))


def shard_of(wildcards):
    """The shard whose folder the wildcards spell."""
    return PLAN.shards[f"runs/{wildcards.shard}"]


def dataset_files(wildcards):
    """The datasets of a shard."""
    return [f"{ROOT}/data/{name}.safetensors" for name in shard_of(wildcards).datasets]


def shard_files(shards, name):
    """One file of each shard."""
    return [f"{ROOT}/{shard.folder}/{name}" for shard in shards]


def tables(experiments, kind="runs"):
    """The parts of the tables of experiments: `runs`, or `summary`."""
    return [
        f"{ROOT}/tables/{name}/{kind}/{part}.parquet"
        for name in experiments
        for part in PLAN.parts_of(name)
    ]


def part_of(wildcards):
    """The shards of the part of a table that the wildcards spell."""
    return PLAN.parts_of(wildcards.experiment)[wildcards.part]


def parts(experiments):
    """How many parts the table of each experiment has."""
    return {name: len(PLAN.parts_of(name)) for name in experiments}


def figure_of(wildcards):
    """The figure that the wildcards spell."""
    return FIGURES[wildcards.paper, wildcards.figure]


def evaluation_code(wildcards):
    """Digests of the measurements that are made, and of what training is replayed with."""
    shard = shard_of(wildcards)
    return [
        code("evaluate_sharpness.py", shard.measuring_code),
        code("train.py", shard.training_code),
    ]


MANIFEST = f"{ROOT}/manifest.json"
RESULTS = [
    *tables(EXPERIMENTS),
    *tables(EXPERIMENTS, "summary"),
    *(figure_path(figure, "json") for figure in PLAN.figures),
    *FIGURE_FILES,
    f"{ROOT}/claims.csv",
    f"{ROOT}/report/index.html",
]
"""What the manifest is made from directly."""


def steps():
    """Every file before the manifest, with one that a job makes from it."""
    for name in EXPERIMENTS:
        for part, shards in PLAN.parts_of(name).items():
            table = f"{ROOT}/tables/{name}/runs/{part}.parquet"
            for shard in shards:
                made = f"{ROOT}/{shard.folder}"
                trajectory, measurements = (
                    f"{made}/trajectory.parquet",
                    f"{made}/measurements.parquet",
                )
                yield trajectory, table
                yield f"{made}/states.safetensors", measurements
                yield measurements, table
                for dataset in shard.datasets:
                    yield f"{ROOT}/data/{dataset}.safetensors", trajectory
    for name in JUDGED:
        yield f"{ROOT}/claims/{name}.csv", f"{ROOT}/claims.csv"
    for file in RESULTS:
        yield file, MANIFEST


def everything():
    """Every file that the manifest vouches for, below the results root."""
    return sorted({file.removeprefix(f"{ROOT}/") for file, _ in steps()})


SHARD = "runs/{shard}"


wildcard_constraints:
    dataset="[^/]+",
    experiment="[^/]+",
    part="[0-9]+-of-[0-9]+",
    shard="[^/]+/[^/]+/width=[0-9]+/lr=[^/]+/seeds=[0-9]+-[0-9]+",  # one, and cheaper than five
    paper="[^/]+",
    figure="[^/]+",
