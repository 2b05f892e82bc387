"""Which files there are and what is made from what; what was damaged or failed is made again."""

import os
import sys
from functools import cache

from snakemake.iocontainers import Wildcards

from sharpflow.config.gaps import gaps
from sharpflow.storage import files
from sharpflow.storage.captions import failures
from sharpflow.storage.ledger import altered


def figure_path(figure, suffix):
    """Where a figure goes."""
    return f"{ROOT}/figures/{figure.paper}/{figure.name}.{suffix}"


DRAWN = ("png", "pdf", "svg")
FIGURE_FILES = [figure_path(figure, suffix) for figure in PLAN.figures for suffix in DRAWN]


def kept_page(wildcards):
    """That a figure which cannot be drawn says so on the page, in place of ending the run.

    Not in an object store, where a run could not see at its end that it was one.
    """
    return {} if stored() else {"log": f"logs/figures/{wildcards.paper}/{wildcards.figure}.log"}


def failed_figures():
    """Why which figure could not be drawn, of those that are there."""
    names = {figure_path(figure, "json"): figure for figure in PLAN.figures}
    found = {} if stored() else failures(".", names)
    return {names[name]: reason for name, reason in found.items()}


MANIFEST = f"{ROOT}/manifest.json"
PAGE, RUN_PAGE = f"{ROOT}/{files.PAGE}", f"{ROOT}/benchmarks/run.html"
BY_SEED = f"{ROOT}/{files.BY_SEED}"
RESULTS = [
    *tables(EXPERIMENTS),
    *tables(EXPERIMENTS, "summary"),
    *(figure_path(figure, "json") for figure in PLAN.figures),
    *FIGURE_FILES,
    f"{ROOT}/claims.parquet",
    *(f"{ROOT}/{name}{end}" for name in (files.CLAIMS, files.BY_SEED) for end in ("", ".sha256")),
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
        yield f"{ROOT}/claims/seeds/{name}.parquet", BY_SEED
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


def folder_of(file):
    """The first folder of a file below the results root, which may be a copy of a store's."""
    return file.rpartition(f"{ROOT}/")[2].partition("/")[0]


def rule_graph():
    """Pairs of rules, the second of which reads what the first writes, found from the last one on.

    Of the files that a rule reads, one of each folder and kind is looked at.
    """
    rules_by_name = {rule.name: rule for rule in workflow.rules}
    last = next(rule.name for rule in workflow.rules if rule.name.endswith("manifest"))
    waiting, known, edges = [(last, Wildcards())], {last}, {}
    while waiting:
        name, wildcards = waiting.pop(0)
        files = rules_by_name[name].expand_input(wildcards)[0]
        kinds = {(folder_of(file), os.path.basename(file)): file for file in files}
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
    for stage in ("train", "evaluate_sharpness"):
        found[stage] = [f"{shard.folder}/{stage}.tsv" for shard in PLAN.shards.values()]
    found["aggregate"] = [f"aggregate/{e}/{p}.tsv" for e in EXPERIMENTS for p in PLAN.parts_of(e)]
    found["plot_figure"] = [f"figures/{f.paper}/{f.name}.tsv" for f in PLAN.figures]
    found["judge_claims"] = [f"claims/{name}.tsv" for name in JUDGED]
    found |= {stage: [f"{stage}.tsv"] for stage in ("collect_claims", "report")}
    return {stage: [f"benchmarks/{name}" for name in names] for stage, names in found.items()}


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
