"""The plan of the sweep, read once; lookups from wildcards to what a job needs."""

import os
import sys
from importlib.metadata import version

from snakemake.exceptions import WorkflowError

sys.path.insert(0, workflow.basedir)
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(workflow.basedir), os.environ.get("PYTHONPATH")])
)

from sharpflow.config import load, make_plan
from sharpflow.config.digest import digest
from sharpflow.errors import SharpflowError

DEFAULT = "config/config.yaml"


def read_plan():
    """The settings and plan of the one configuration that was given, or of the default one."""
    files = [str(path) for path in workflow.config_settings.configfiles] or [DEFAULT]
    if len(files) > 1:
        raise WorkflowError(
            f"Give one --configfile, not {len(files)}: each is a whole configuration."
        )
    try:
        settings = load(files[0], dict(workflow.config_settings.config or {}))
        return os.path.relpath(files[0]), settings, make_plan(settings)
    except SharpflowError as error:
        raise WorkflowError(str(error)) from None


CONFIG_FILE, SETTINGS, PLAN = read_plan()
ROOT = SETTINGS.configuration.results
TORCH = version("torch")
EXPERIMENTS = list(PLAN.settings)
PAPERS = sorted({options["paper"] for options in PLAN.settings.values()})
CONFIG_OPTION = "" if CONFIG_FILE == DEFAULT else f" --configfile {CONFIG_FILE}"


def figure_path(figure, suffix):
    """Where a figure goes."""
    return f"{ROOT}/figures/{figure.paper}/{figure.name}.{suffix}"


FIGURE_FILES = [figure_path(figure, suffix) for figure in PLAN.figures for suffix in ("png", "pdf")]
JUDGED = [name for name in EXPERIMENTS if PLAN.settings[name]["claims"]]


def code(script, packages=None, names=()):
    """Digest of a script and everything it reaches, with the named modules of a package."""
    entries = [f"sharpflow.{packages}.{name}" for name in names]
    return digest(f"{workflow.basedir}/scripts/{script}", entries)


def shard_of(wildcards):
    """The shard whose folder the wildcards spell."""
    folder = "runs/{0.experiment}/{0.case}/width={0.width}/lr={0.lr}/seeds={0.seeds}"
    return PLAN.shards[folder.format(wildcards)]


def dataset_file(wildcards):
    """The dataset of a shard."""
    return f"{ROOT}/data/{shard_of(wildcards).dataset}.safetensors"


def shard_files(experiment, name):
    """One file of every shard of an experiment."""
    return [f"{ROOT}/{shard.folder}/{name}" for shard in PLAN.shards_of(experiment)]


def figure_of(wildcards):
    """The figure that the wildcards spell."""
    return next(f for f in PLAN.figures if (f.paper, f.name) == (wildcards.paper, wildcards.figure))


SHARD = ROOT + "/runs/{experiment}/{case}/width={width}/lr={lr}/seeds={seeds}"


wildcard_constraints:
    dataset="[^/]+",
    experiment="[^/]+",
    case="[^/]+",
    width="[0-9]+",
    lr="[^/]+",
    seeds="[0-9]+-[0-9]+",
    paper="[^/]+",
    figure="[^/]+",
