"""The plan of the sweep, read once; lookups from wildcards to what a job needs."""

import os
import sys
from functools import cache
from importlib.metadata import version

sys.path.insert(0, workflow.basedir)

from sharpflow.config import load, make_plan
from sharpflow.config.digest import Code
from sharpflow.config.places import check_bucket, check_image
from sharpflow.errors import SharpflowError

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
        settings = load(files[0], OPTIONS)
        return os.path.relpath(files[0]), settings.configuration, make_plan(settings)
    except SharpflowError as error:
        refuse(error)


def check_places():
    """Refuse a store or an image that cannot be used; its address, where jobs run in an image."""
    named = workflow.storage_settings
    provider = workflow.storage_registry.default_storage_provider
    methods = [method.name for method in workflow.deployment_settings.deployment_method]
    try:
        if workflow.is_main_process and named.default_storage_provider == "s3":
            check_bucket(provider.s3c.meta.client, named.default_storage_prefix)
        return check_image(OPTIONS.pop("container", None), "APPTAINER" in methods)
    except SharpflowError as error:
        refuse(error)


OPTIONS = dict(workflow.config_settings.config or {})


# None: jobs run in the environment that Snakemake itself runs in
container: check_places()


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
    folder = "runs/{0.experiment}/{0.case}/width={0.width}/lr={0.lr}/seeds={0.seeds}"
    return PLAN.shards[folder.format(wildcards)]


def dataset_files(wildcards):
    """The datasets of a shard."""
    return [f"{ROOT}/data/{name}.safetensors" for name in shard_of(wildcards).datasets]


def shard_files(experiment, name):
    """One file of every shard of an experiment."""
    return [f"{ROOT}/{shard.folder}/{name}" for shard in PLAN.shards_of(experiment)]


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


def everything(wildcards):
    """Every file that the manifest vouches for."""
    files = [f"{ROOT}/data/{name}.safetensors" for name in PLAN.datasets]
    for name in EXPERIMENTS:
        for file in ("trajectory.parquet", "states.safetensors", "measurements.parquet"):
            files += shard_files(name, file)
        files += [f"{ROOT}/tables/{name}.parquet", f"{ROOT}/tables/{name}.summary.parquet"]
    files += [f"{ROOT}/claims/{name}.csv" for name in JUDGED]
    files += [figure_path(figure, "json") for figure in PLAN.figures]
    return files + FIGURE_FILES + [f"{ROOT}/claims.csv", f"{ROOT}/report/index.html"]


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
