"""The plan of the sweep, read once; lookups from wildcards to what a job needs."""

import os
import shlex
import sys
from functools import cache
from importlib.metadata import version

sys.path.insert(0, workflow.basedir)

from sharpflow import cluster
from sharpflow.config import gpus, load, make_plan
from sharpflow.config.digest import Code
from sharpflow.cost import around, shipped
from sharpflow.cost.sweep import Sweep
from sharpflow.errors import SharpflowError
from sharpflow.storage.ledger import altered

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
        shipped()  # a wrong file of coefficients is refused here
        return os.path.relpath(files[0]), settings, make_plan(settings)
    except SharpflowError as error:
        refuse(error)


def group_of(name):
    """The group of a stage where the profile lets its jobs share a submission; known when asked."""

    def group(wildcards):
        settings = workflow.group_settings
        if settings.local_groupid != "local":
            workflow.group_settings = settings = cluster.inside(settings)
        return name if name in settings.group_components else None

    return group


def on_slurm(step):
    """Do a step of `sharpflow.cluster` where jobs go to Slurm."""
    if workflow.executor_plugin.name == "slurm":
        try:
            step()
        except SharpflowError as error:
            refuse(error)


onerror:
    on_slurm(cluster.end)


CONFIG_FILE, SETTINGS, PLAN = read_plan()
CONFIGURATION = SETTINGS.configuration
SWEEP = Sweep(SETTINGS, PLAN)
ROOT = CONFIGURATION.results
TORCH = version("torch")
EXPERIMENTS = list(PLAN.settings)
PAPERS = list(PLAN.papers)
CODE = Code(PLAN.folders)
CONFIG_OPTION = "" if CONFIG_FILE == DEFAULT else f" --configfile {shlex.quote(CONFIG_FILE)}"


@cache
def gpus_here():
    """GPUs that jobs on this machine may use; None where they are sent to others."""
    if not workflow.local_exec:
        return None
    return 0 if "+cpu" in TORCH else gpus.count()


def gpus_of_a_job(wildcards):
    """GPUs that a training or an evaluation asks for."""
    return gpus.wanted(CONFIGURATION.device, gpus_here())


onstart:
    on_slurm(lambda: cluster.begin(workflow))
    if (here := gpus_here()) is not None:
        try:
            gpus.check(CONFIGURATION.device, here, TORCH)
        except SharpflowError as error:
            refuse(error)
        if here and "gpu" not in workflow.global_resources:
            slots = here * CONFIGURATION.jobs_per_gpu
            workflow.register_resource("gpu", slots)
            # without this the jobs of one round of scheduling are limited, and not those of all
            workflow.scheduler.global_resources["gpu"] = slots


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
    folder = "runs/{0.experiment}/{0.case}/width={0.width}/lr={0.lr}/seeds={0.seeds}"
    return PLAN.shards[folder.format(wildcards)]


def dataset_files(wildcards):
    """The datasets of a shard."""
    mend()
    return [f"{ROOT}/data/{name}.safetensors" for name in shard_of(wildcards).datasets]


def shard_files(experiment, name):
    """One file of every shard of an experiment."""
    return [f"{ROOT}/{shard.folder}/{name}" for shard in PLAN.shards_of(experiment)]


def figure_of(wildcards):
    """The figure that the wildcards spell."""
    return FIGURES[wildcards.paper, wildcards.figure]


def job_of(stage, wildcards):
    """What decides the cost of a job; None where nobody can tell beforehand."""
    if stage == "generate_data":
        return SWEEP.dataset(wildcards.dataset)
    if stage in ("train", "evaluate_sharpness"):
        return SWEEP.shard(stage, shard_of(wildcards))
    if stage == "plot_figure":
        return SWEEP.table(stage, list(figure_of(wildcards).experiments))
    return SWEEP.table(stage, [wildcards.experiment])


def mem_mb(stage):
    """The memory that a job of a stage asks for, as Snakemake calls it."""

    def asked(wildcards, attempt):
        beside = 0 if workflow.local_exec else around(len(PLAN.shards))
        return shipped().mem_mb(job_of(stage, wildcards), attempt, beside)

    return asked


def runtime(stage):
    """The minutes that a job of a stage asks for, likewise."""
    threads = CONFIGURATION.threads_per_job
    return lambda wildcards, attempt: shipped().runtime(job_of(stage, wildcards), attempt, threads)


def evaluation_code(wildcards):
    """Digests of the measurements that are made, and of what training is replayed with."""
    shard = shard_of(wildcards)
    return [
        code("evaluate_sharpness.py", shard.measuring_code),
        code("train.py", shard.training_code),
    ]


def everything(wildcards):
    """Every file that the manifest vouches for."""
    mend()
    return vouched_files()


def vouched_files():
    """Every file that a job writes, but the manifest."""
    files = [f"{ROOT}/data/{name}.safetensors" for name in PLAN.datasets]
    for name in EXPERIMENTS:
        for file in ("trajectory.parquet", "states.safetensors", "measurements.parquet"):
            files += shard_files(name, file)
        files += [f"{ROOT}/tables/{name}.parquet", f"{ROOT}/tables/{name}.summary.parquet"]
    files += [f"{ROOT}/claims/{name}.parquet" for name in JUDGED]
    files += [figure_path(figure, "json") for figure in PLAN.figures]
    files += [f"{ROOT}/claims{suffix}" for suffix in (".parquet", ".csv", ".csv.sha256")]
    return files + FIGURE_FILES + [f"{ROOT}/report/index.html"]


@cache
def mend():
    """At the start of a run, delete what is not what its job wrote, so that it is made again.

    Called where jobs are looked for, for only then does Snakemake know which kind of run this is.
    """
    if workflow.executor_plugin is None or not workflow.is_main_process:
        return
    only_named = workflow.dryrun or workflow.touch
    names = [os.path.relpath(path, ROOT) for path in [*vouched_files(), f"{ROOT}/manifest.json"]]
    damaged = [f"{ROOT}/{name}" for name in altered(ROOT, names)]
    done = "a run makes it again" if only_named else "deleted, to be made again"
    for path in damaged:
        print(f"{path} was altered since its job wrote it: {done}", file=sys.stderr)
    if damaged and not only_named:
        for path in damaged:
            os.remove(path)
        workflow.iocache.clear()  # it may have seen them


SHARD = "runs/{experiment}/{case}/width={width}/lr={lr}/seeds={seeds}"


wildcard_constraints:
    dataset="[^/]+",
    experiment="[^/]+",
    case="[^/]+",
    width="[0-9]+",
    lr="[^/]+",
    seeds="[0-9]+-[0-9]+",
    paper="[^/]+",
    figure="[^/]+",
