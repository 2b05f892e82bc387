"""The plan of the sweep, read once; lookups from wildcards to what a job needs."""

import gc
import os
import shlex
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import version

# also where another workflow has this one as a module
PROJECT = os.path.dirname(str(workflow.current_basedir))
sys.path.insert(0, PROJECT)

from snakemake.iocontainers import Wildcards
from snakemake.logging import logger

from sharpflow import cluster, console
from sharpflow.config import gpus, load, make_plan
from sharpflow.config.digest import Code
from sharpflow.config.gaps import gaps
from sharpflow.config.home import HOME, default
from sharpflow.config.places import check_bucket, check_image
from sharpflow.config.plan import differences
from sharpflow.config.scale import shortfalls
from sharpflow.config.writable import check_writable_results, check_writable_state
from sharpflow.cost import around, shipped
from sharpflow.cost.sweep import Sweep
from sharpflow.cost.work import TIME
from sharpflow.errors import IntegrityError, SharpflowError
from sharpflow.progress import Failure
from sharpflow.storage.ledger import altered
from sharpflow.storage.seal import read_json

logger.addFilter(console.shorten)
# a third of the planning of a large sweep is a search for garbage among objects that all stay
gc.set_threshold(20_000, 10, 10)

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

    return group


def on_slurm(step):
    """Do a step of `sharpflow.cluster` where jobs go to Slurm."""
    if workflow.executor_plugin.name == "slurm":
        refused(step)


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
CODE = Code(PLAN.folders)
START = "snakemake" if HOME.samefile(".") else "sharpflow snakemake"
CONFIG_OPTION = "" if CONFIG_FILE == DEFAULT else f" --configfile {shlex.quote(CONFIG_FILE)}"


@cache
def gpus_here():
    """GPUs that jobs on this machine may use; None where they are sent to others."""
    return gpus.count(TORCH) if workflow.local_exec else None


def gpus_of_a_job(wildcards):
    """GPUs that a training or an evaluation asks for."""
    return gpus.wanted(CONFIGURATION.device, gpus_here())


onstart:
    refused(lambda: check_writable_results(ROOT, CONFIG_FILE))
    on_slurm(lambda: cluster.begin(workflow))
    if (here := gpus_here()) is not None:
        refused(lambda: gpus.check(CONFIGURATION.device, here, TORCH))
        if here and "gpu" not in workflow.global_resources:
            slots = here * CONFIGURATION.jobs_per_gpu
            workflow.register_resource("gpu", slots)
            # without this the jobs of one round of scheduling are limited, and not those of all
            workflow.scheduler.global_resources["gpu"] = slots
    console.watch(workflow, logger, foretold)


onsuccess:
    tell_the_end()
    if failed_figures():
        sys.exit(1)


onerror:
    on_slurm(cluster.end)
    tell_the_end()


def tell_the_end():
    """Print what a run did, and where to look."""
    if workflow.dryrun:
        return
    prefix = f"{workflow.storage_settings.default_storage_prefix}/" if stored() else ""
    failed = [
        Failure(
            f"figure {figure.paper}/{figure.name}",
            f"{ROOT}/logs/figures/{figure.paper}/{figure.name}.log",
            reason,
        )
        for figure, reason in failed_figures().items()
    ]
    console.tell(logger, console.outcome(workflow, f"{prefix}{ROOT}", failed))


if workflow.is_main_process:
    logger.addHandler(console.AtRest(tell_the_end))


def figure_path(figure, suffix):
    """Where a figure goes."""
    return f"{ROOT}/figures/{figure.paper}/{figure.name}.{suffix}"


DRAWN = ("png", "pdf", "svg")
FIGURE_FILES = [figure_path(figure, suffix) for figure in PLAN.figures for suffix in DRAWN]
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


def dataset_files(wildcards):
    """The datasets of a shard."""
    mend()
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


def kept_page(wildcards):
    """That a figure which cannot be drawn says so on the page, in place of ending the run.

    Not in an object store, where a run could not see at its end that it was one.
    """
    return {} if stored() else {"log": f"logs/figures/{wildcards.paper}/{wildcards.figure}.log"}


def failed_figures():
    """Why which figure could not be drawn, of those that are there."""
    found = {}
    for figure in [] if stored() else PLAN.figures:
        with suppress(IntegrityError):
            found[figure] = read_json(figure_path(figure, "json")).get("failed")
    return {figure: reason for figure, reason in found.items() if reason}


def job_of(stage, wildcards):
    """What decides the cost of a job; None where nobody can tell beforehand."""
    if stage == "generate_data":
        return SWEEP.dataset(wildcards.dataset)
    if stage in ("train", "evaluate_sharpness"):
        return SWEEP.shard(stage, shard_of(wildcards))
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

    return asked


def runtime(stage):
    """The minutes that a job of a stage asks for, likewise."""
    threads = CONFIGURATION.threads_per_job
    return lambda wildcards, attempt: shipped().runtime(job_of(stage, wildcards), attempt, threads)


def foretold(stage, wildcards, threads):
    """The seconds that a job takes, for the line that says how far a run is."""
    if stage not in TIME:
        return console.LIGHT
    job = job_of(stage, wildcards)
    return None if job is None else shipped().wall(job, threads)


def evaluation_code(wildcards):
    """Digests of the measurements that are made, and of what training is replayed with."""
    shard = shard_of(wildcards)
    return [
        code("evaluate_sharpness.py", shard.measuring_code),
        code("train.py", shard.training_code),
    ]


MANIFEST = f"{ROOT}/manifest.json"
PAGE, RUN_PAGE = f"{ROOT}/report/index.html", f"{ROOT}/benchmarks/run.html"
RESULTS = [
    *tables(EXPERIMENTS),
    *tables(EXPERIMENTS, "summary"),
    *(figure_path(figure, "json") for figure in PLAN.figures),
    *FIGURE_FILES,
    *(f"{ROOT}/claims{suffix}" for suffix in (".parquet", ".csv", ".csv.sha256")),
    PAGE,
]
"""What the manifest is made from directly."""


def steps():
    """Every file before the manifest, with one that a job makes from it."""
    for name in EXPERIMENTS:
        for part, shards in PLAN.parts_of(name).items():
            table = f"{ROOT}/tables/{name}/runs/{part}.parquet"
            for shard in shards:
                made = f"{ROOT}/{shard.folder}"
                trajectory = f"{made}/trajectory.parquet"
                measurements = f"{made}/measurements.parquet"
                yield trajectory, table
                yield f"{made}/states.safetensors", measurements
                yield measurements, table
                for dataset in shard.datasets:
                    yield f"{ROOT}/data/{dataset}.safetensors", trajectory
    for name in JUDGED:
        yield f"{ROOT}/claims/{name}.parquet", f"{ROOT}/claims.parquet"
    for file in RESULTS:
        yield file, MANIFEST


def everything():
    """Every file that the manifest vouches for, below the results root."""
    return sorted({file.removeprefix(f"{ROOT}/") for file, _ in steps()})


def states():
    """The states of every shard, below the results root."""
    return [f"{shard.folder}/states.safetensors" for shard in PLAN.shards.values()]


def links(figure):
    """Addresses of what belongs to a figure, relative to the page."""
    found = {suffix.upper(): figure_path(figure, suffix) for suffix in ("svg", "pdf", "png")}
    found |= {f"table {name}": f"{ROOT}/tables/{name}/runs" for name in figure.experiments}
    found["module"] = str(CODE.file(figure.module))
    return {what: os.path.relpath(path, os.path.dirname(PAGE)) for what, path in found.items()}


def rule_graph():
    """Pairs of rules, the second of which reads what the first writes, found from the last one on.

    Of the files that a rule reads, one of each folder and kind is looked at.
    """
    rules_by_name = {rule.name: rule for rule in workflow.rules}
    last = next(rule.name for rule in workflow.rules if rule.is_producer(MANIFEST))
    waiting, known, edges = [(last, Wildcards())], {last}, {}
    while waiting:
        name, wildcards = waiting.pop(0)
        files = rules_by_name[name].expand_input(wildcards)[0]
        kinds = {(*f.removeprefix(ROOT).split("/")[:2], os.path.basename(f)): f for f in files}
        for file in kinds.values():
            maker = next((rule for rule in workflow.rules if rule.is_producer(file)), None)
            if maker is None:
                continue
            edges[maker.name, name] = None
            if maker.name not in known:
                known.add(maker.name)
                waiting.append((maker.name, Wildcards(fromdict=maker.get_wildcards(file))))
    return [list(pair) for pair in edges][::-1]


def benchmarks():
    """The record that each job leaves of its time and memory, below the results root, by rule."""
    found = {"generate_data": [f"data/{name}.tsv" for name in PLAN.datasets]}
    for rule in ("train", "evaluate_sharpness"):
        found[rule] = [f"{shard.folder}/{rule}.tsv" for shard in PLAN.shards.values()]
    found["aggregate"] = [f"aggregate/{e}/{p}.tsv" for e in EXPERIMENTS for p in PLAN.parts_of(e)]
    found["plot_figure"] = [f"figures/{f.paper}/{f.name}.tsv" for f in PLAN.figures]
    found["judge_claims"] = [f"claims/{name}.tsv" for name in JUDGED]
    found |= {rule: [f"{rule}.tsv"] for rule in ("collect_claims", "report")}
    return {rule: [f"benchmarks/{name}" for name in names] for rule, names in found.items()}


def stored():
    """Whether results are in an object store."""
    return workflow.storage_settings.default_storage_provider is not None


def fetched(names, instead):
    """What a job that reads all these files waits for.

    The files themselves, where inputs have to be fetched; what was made from them, where it finds
    them: thousands of inputs are slow to plan.
    """
    return [f"{ROOT}/{name}" for name in names] if stored() else instead


@cache
def mend():
    """At the start of a run, delete what its job did not write, or failed at: it is made again.

    Called where jobs are looked for, for only then does Snakemake know which kind of run this is.
    """
    if workflow.executor_plugin is None or not workflow.is_main_process or stored():
        return
    only_named = workflow.dryrun or workflow.touch
    names = [*everything(), *(os.path.relpath(path, ROOT) for path in (MANIFEST, RUN_PAGE))]
    wrong = [f"{ROOT}/{name}" for name in altered(ROOT, names)]
    said = [f"{path} was altered since its job wrote it" for path in wrong]
    for figure in failed_figures():
        files = [figure_path(figure, suffix) for suffix in (*DRAWN, "json")]
        wrong += [path for path in files if os.path.exists(path) and path not in wrong]
        said.append(f"{files[0]} is of a figure that could not be drawn")
    done = "a run makes it again" if only_named else "deleted, to be made again"
    for reason in said:
        print(f"{reason}: {done}", file=sys.stderr)
    if wrong and not only_named:
        for path in wrong:
            os.remove(path)
        workflow.iocache.clear()  # it may have seen them


def missing_in_between(wildcards):
    """What Snakemake would not make again: it remakes a missing target, not a file before it."""
    mend()
    return sorted(set(gaps(steps(), os.path.exists)))


SHARD = "runs/{shard}"


wildcard_constraints:
    dataset="[^/]+",
    experiment="[^/]+",
    part="[0-9]+-of-[0-9]+",
    shard="[^/]+/[^/]+/width=[0-9]+/lr=[^/]+/seeds=[0-9]+-[0-9]+",  # one, and cheaper than five
    paper="[^/]+",
    figure="[^/]+",
