"""What is done before the first job of a run and after its last."""

import sys
from concurrent.futures import ThreadPoolExecutor

from sharpflow import cluster, console, forkserver
from sharpflow.config import gpus
from sharpflow.config.writable import check_writable_results
from sharpflow.progress import Failure

FORKED_FROM = 6
"""Jobs of a run from which on to load PyTorch once for all of them is worth it."""


def on_slurm(step):
    """Do a step of `sharpflow.cluster` where jobs go to Slurm."""
    if workflow.executor_plugin.name == "slurm":
        refused(step)


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
    if workflow.local_exec:
        # a limit is for submissions; for it each finished job starts a timer that looks for jobs
        # again and again, for as long as the run lasts, and hundreds of them keep a core busy
        workflow.scheduler.job_rate_limiter = None
        if len(list(workflow.dag.needrun_jobs())) >= FORKED_FROM:
            forkserver.start(CONFIGURATION.threads_per_job)
        pool = getattr(workflow.scheduler._executor, "pool", None)
        if isinstance(pool, ThreadPoolExecutor):
            # of the threads that jobs are started from
            pool._initializer = forkserver.block_sigint
    console.watch(workflow, logger, foretold)


onsuccess:
    if tell_the_end():
        sys.exit(1)


onerror:
    on_slurm(cluster.end)
    tell_the_end()


def tell_the_end():
    """Print what a run did, and where to look; the figures that could not be drawn."""
    if workflow.dryrun:
        return []
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
    return failed


if workflow.is_main_process:
    logger.addHandler(console.AtRest(tell_the_end))
