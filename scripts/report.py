"""Make the page: figures, captions, verdicts, and how each was made."""

import platform
from importlib import metadata

import pandas as pd

from sharpflow import jobs
from sharpflow.report import (
    SHARPNESS_NOTE,
    SHARPNESS_QUANTITIES,
    FigureEntry,
    TableEntry,
    build,
    sharpness_table,
)
from sharpflow.results.tables import ExperimentTable
from sharpflow.storage.parts import read_parts, shared_out
from sharpflow.storage.seal import read_bytes, read_json, sealed_path
from sharpflow.storage.tables import read_table

PACKAGES = ("torch", "numpy", "pandas", "scipy", "matplotlib", "snakemake")


def main(job: jobs.Job) -> None:
    figures = []
    pictures = zip(job.spec["figures"], job.inputs["pngs"], job.inputs["captions"], strict=True)
    for entry, png, caption in pictures:
        figures.append(FigureEntry(**entry, **read_json(caption), png=read_bytes(png)))
    provenance = {
        "configuration": job.spec["configuration"],
        "device": job.spec["device"],
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in PACKAGES},
    }
    page = build(
        figures,
        read_table(job.inputs["claims"]),
        job.spec["experiments"],
        job.spec["papers"],
        provenance,
        number_tables(job),
    )
    with sealed_path(job.outputs["page"]) as path:
        path.write_text(page, encoding="utf-8")


def number_tables(job: jobs.Job) -> list[TableEntry]:
    """The sharpness of every network in numbers; nothing if none was measured."""
    tables = {}
    for name, paths in shared_out(job.inputs["tables"], job.spec["measured"]).items():
        runs = read_parts(paths, SHARPNESS_QUANTITIES)
        tables[name] = ExperimentTable(runs, pd.DataFrame(), job.spec["experiments"][name])
    if not tables:
        return []
    return [TableEntry("Sharpness in numbers", sharpness_table(tables), SHARPNESS_NOTE)]


if __name__ == "__main__":
    jobs.run_job(
        main,
        globals(),
        ["pngs", "captions", "claims", "tables"],
        ["page"],
        "figures (paper, name, experiments, command), experiments, papers, configuration, device, "
        "measured (how many of the tables are each experiment's, in their order)",
    )
