"""Make the page: figures, captions, verdicts, and how each was made."""

import platform
from importlib import metadata
from pathlib import Path

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
from sharpflow.storage.provenance import trained_on
from sharpflow.storage.seal import read_bytes, read_json, sealed_path
from sharpflow.storage.tables import read_table

PACKAGES = ("torch", "numpy", "pandas", "scipy", "matplotlib", "snakemake")


def main(job: jobs.Job) -> None:
    figures = []
    files = (job.inputs[name] for name in ("pngs", "svgs", "captions"))
    for entry, png, svg, caption in zip(job.spec["figures"], *files, strict=True):
        pictures = {"png": read_bytes(png), "svg": read_bytes(svg)}
        figures.append(FigureEntry(**entry, **read_json(caption), **pictures))
    provenance = {
        "configuration": job.spec["configuration"],
        "device": ", ".join(
            trained_on(Path(job.outputs["page"]).parent.parent, job.spec["states"])
        ),
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
        **{
            name: job.spec[name] for name in ("judged", "differences", "scale", "rules", "run_page")
        },
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
        ["pngs", "svgs", "captions", "claims", "tables", "sources"],
        ["page"],
        "figures (paper, name, experiments, command, links), experiments, papers, configuration, "
        "judged, differences, scale, rules and run_page (as sharpflow.report.build takes them), "
        "measured (how many of the tables are each experiment's, in their order), states (paths "
        "from the results folder on)",
    )
