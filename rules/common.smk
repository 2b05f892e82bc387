"""The plan of the sweep, read once; lookups from wildcards to what a job needs."""

import gc
import os
import shlex
import sys
from functools import cache
from importlib.metadata import version

# also where another workflow has this one as a module
PROJECT = os.path.dirname(str(workflow.current_basedir))
sys.path.insert(0, PROJECT)

from snakemake.logging import logger

from sharpflow import cluster, console, forkserver, planning
from sharpflow.clone import lead
from sharpflow.config import gpus, load, make_plan
from sharpflow.config.digest import Code
from sharpflow.config.home import HOME, default
from sharpflow.config.places import check_bucket, check_image
from sharpflow.config.plan import differences
from sharpflow.config.scale import shortfalls
from sharpflow.config.writable import STATE, check_writable_state
from sharpflow.cost import around, shipped
from sharpflow.cost.sweep import Sweep
from sharpflow.cost.work import TIME
from sharpflow.errors import SharpflowError
from sharpflow.planning import signed

logger.addFilter(console.shorten)
logger.addFilter(console.Interrupted(lambda: console.told_to_end(workflow)))
# a third of the planning of a large sweep is a search for garbage among objects that all stay
gc.set_threshold(20_000, 10, 10)
planning.prepare()

DEFAULT = str(default())


def refuse(message):
    """End with a message: a WorkflowError would come with a traceback of this file."""
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(1)


def refused(step):
    """What a step gives; a mistake that it finds ends all with its message."""
    try:
        return step()
    except SharpflowError as error:
        refuse(error)


# digests are of the package that is loaded here, and jobs load the one that leads
if not os.path.isdir(PROJECT) or not HOME.samefile(PROJECT):
    refuse(
        f"the workflow in {PROJECT} was started with the sharpflow of another copy, {HOME}: start "
        f"it there with `python -m sharpflow.launch`, or that copy's with `sharpflow snakemake`."
    )
lead(PROJECT)


def read_plan():
    """The settings and plan of the one configuration that was given, or of the default one."""
    given = [str(path) for path in workflow.config_settings.configfiles]
    if workflow.modifier.is_module and "configuration" in config:
        given = [config["configuration"]]  # the other files are of the workflow around this one
    files = given or [DEFAULT]
    if len(files) > 1:
        refuse(f"Give one --configfile, not {len(files)}: each is a whole configuration.")
    settings = load(files[0], OPTIONS)
    shipped()  # a wrong file of coefficients is refused here
    # in the C locale a name outside of ASCII is bytes in disguise, which no page can hold
    named = os.fsencode(os.path.relpath(files[0])).decode(errors="replace")
    return named, settings, make_plan(settings)


def group_of(name):
    """The group of a stage where the profile lets its jobs share a submission; known when asked."""

    def group(wildcards):
        settings = workflow.group_settings
        if settings.local_groupid != "local":
            workflow.group_settings = settings = cluster.inside(settings)
        return name if name in settings.group_components else None

    return signed(group)


def check_places():
    """Refuse a store or an image that cannot be used; its address, where jobs run in an image."""
    named = workflow.storage_settings
    provider = workflow.storage_registry.default_storage_provider
    methods = [method.name for method in workflow.deployment_settings.deployment_method]
    if workflow.is_main_process and named.default_storage_provider == "s3":
        check_bucket(provider.s3c.meta.client, named.default_storage_prefix)
    return check_image(OPTIONS.pop("container", None), "APPTAINER" in methods)


OPTIONS = dict(workflow.config_settings.config or {})


# None: jobs run in the environment that Snakemake itself runs in
container: refused(check_places)


CONFIG_FILE, SETTINGS, PLAN = refused(read_plan)
if workflow.is_main_process:
    refused(check_writable_state)
CONFIGURATION = SETTINGS.configuration
SWEEP = Sweep(SETTINGS, PLAN)
ROOT = CONFIGURATION.results
TORCH = version("torch")
EXPERIMENTS = list(PLAN.settings)
PAPERS = list(PLAN.papers)
CODE = Code(PLAN.folders, kept=STATE / "sharpflow.outlines.json")
START = "snakemake" if HOME.samefile(".") else "sharpflow snakemake"
CONFIG_OPTION = "" if CONFIG_FILE == DEFAULT else f" --configfile {shlex.quote(CONFIG_FILE)}"


@cache
def gpus_here():
    """GPUs that jobs on this machine may use; None where they are sent to others."""
    return gpus.count(TORCH) if workflow.local_exec else None


@signed
def gpus_of_a_job(wildcards):
    """GPUs that a training or an evaluation asks for."""
    return gpus.wanted(CONFIGURATION.device, gpus_here())


SHARPNESS_EXPERIMENTS = [
    name for name in EXPERIMENTS if "gauss_newton" in PLAN.settings[name]["measurements"]
]
JUDGED = [name for name in EXPERIMENTS if PLAN.claims[name]]
FIGURES = {(figure.paper, figure.name): figure for figure in PLAN.figures}


@cache
def digest_once(script, entries):
    """One digest for the many jobs of a sweep."""
    return CODE.digest(f"{PROJECT}/scripts/{script}", entries)


def code(script, entries=()):
    """Digest of a script and everything it reaches, with the modules that it loads by name."""
    return digest_once(script, tuple(entries))


def shard_of(wildcards):
    """The shard whose folder the wildcards spell."""
    return PLAN.shards[f"runs/{wildcards.shard}"]


def process_of(wildcards):
    """The shard, or what runs beside it, whose folder the wildcards spell."""
    if "process" in wildcards.keys():
        return PLAN.processes[f"runs/{wildcards.process}"]
    shard = shard_of(wildcards)
    if "flow" in wildcards.keys():
        return PLAN.flows[f"{shard.folder}/flow={wildcards.flow}"]
    return shard


@signed
def dataset_files(wildcards):
    """The datasets of a shard."""
    mend()
    return [f"{ROOT}/data/{name}.safetensors" for name in process_of(wildcards).datasets]


def process_files(shards, name):
    """One file of each shard, and of what runs beside it."""
    return [f"{ROOT}/{each.folder}/{name}" for each in PLAN.with_flows(shards)]


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


def source_of(experiment, claim):
    """Where a claim of an experiment comes from, as its paper says; empty where it does not."""
    paper = PLAN.papers[PLAN.settings[experiment]["paper"]]
    return paper.get("sources", {}).get(claim, "")


def parts(experiments):
    """How many parts the table of each experiment has."""
    return {name: len(PLAN.parts_of(name)) for name in experiments}


def figure_of(wildcards):
    """The figure that the wildcards spell."""
    return FIGURES[wildcards.paper, wildcards.figure]


def job_of(stage, wildcards):
    """What decides the cost of a job; None where nobody can tell beforehand."""
    if stage == "generate_data":
        return SWEEP.dataset(wildcards.dataset)
    if stage in ("train", "integrate_flow", "evaluate_sharpness"):
        process = process_of(wildcards)
        beside = process.folder in PLAN.flows
        return SWEEP.flow(stage, process) if beside else SWEEP.shard(stage, process)
    if stage == "plot_figure":
        return SWEEP.table(stage, list(figure_of(wildcards).experiments))
    if stage == "aggregate":
        return SWEEP.part(wildcards.experiment, wildcards.part)
    return SWEEP.table(stage, [wildcards.experiment])


def mem_mb(stage):
    """The memory that a job of a stage asks for, as Snakemake calls it."""

    def asked(wildcards, attempt):
        beside = 0 if workflow.local_exec else around(len(PLAN.shards))
        return shipped().mem_mb(job_of(stage, wildcards), attempt, beside)

    return signed(asked)


def runtime(stage):
    """The minutes that a job of a stage asks for, likewise."""
    threads = CONFIGURATION.threads_per_job

    def asked(wildcards, attempt):
        return shipped().runtime(job_of(stage, wildcards), attempt, threads)

    return signed(asked)


def foretold(stage, wildcards, threads):
    """The seconds that a job takes, and those of them to begin, for the line that says how far."""
    if stage not in TIME:
        return console.LIGHT
    job, forked = job_of(stage, wildcards), bool(os.environ.get(forkserver.ADDRESS))
    if job is None:
        return None, 0.0
    return shipped().wall(job, threads, forked), shipped().begin(job, threads, forked)


@signed
def evaluation_code(wildcards):
    """Digests of the measurements that are made, and of what training is replayed with."""
    process = process_of(wildcards)
    return [
        code("evaluate_sharpness.py", process.measuring_code),
        code("train.py", shard_in(process).training_code),
    ]


def shard_in(process):
    """The shard of a process: itself, or the one beside which it runs."""
    return getattr(process, "shard", process)


SHARD = "runs/{shard}"
FLOW = f"{SHARD}/flow={{flow}}"
PROCESS = "runs/{process}"
NAMED = "[^/]+/[^/]+/width=[0-9]+/lr=[^/]+/seeds=[0-9]+-[0-9]+"


wildcard_constraints:
    dataset="[^/]+",
    experiment="[^/]+",
    part="[0-9]+-of-[0-9]+",
    shard=NAMED,  # one, and cheaper than five
    flow="[^/]+",
    process=f"{NAMED}(/flow=[^/]+)?",
    paper="[^/]+",
    figure="[^/]+",
