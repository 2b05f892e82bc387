"""Make the page: figures, captions, verdicts, and how each was made."""

import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pandas as pd

from sharpflow import jobs
from sharpflow.report import (
    SHARPNESS_NOTE,
    SHARPNESS_QUANTITIES,
    ExplorerData,
    FigureEntry,
    TableEntry,
    build,
    collect,
    sharpness_table,
)
from sharpflow.results.tables import ExperimentTable
from sharpflow.storage.parts import read_pieces, shared_out
from sharpflow.storage.provenance import trained_on
from sharpflow.storage.seal import read_bytes, read_json, sealed_path
from sharpflow.storage.tables import read_table

PACKAGES = ("torch", "numpy", "pandas", "scipy", "matplotlib", "snakemake")


def main(job: jobs.Job) -> None:
    figures = []
    files = (job.inputs[name] for name in ("pngs", "svgs", "captions"))
    for entry, png, svg, caption in zip(job.spec["figures"], *files, strict=True):
        words = entry | read_json(caption)
        figures.append(FigureEntry(**words, png=read_bytes(png), svg=read_bytes(svg)))
    provenance = {
        "configuration": job.spec["configuration"],
        "device": ", ".join(
            trained_on(Path(job.outputs["page"]).parent.parent, job.spec["states"])
        ),
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in PACKAGES},
    }
    tables, curves = read_runs(job)
    page = build(
        figures,
        read_table(job.inputs["claims"]),
        job.spec["experiments"],
        job.spec["papers"],
        provenance,
        tables,
        **{
            name: job.spec[name]
            for name in ("judged", "differences", "scale", "rules", "run_page", "by_seed")
        },
        explorer=curves.section(1000 * job.spec["explorer_kilobytes"]),
    )
    with sealed_path(job.outputs["page"]) as path:
        path.write_text(page, encoding="utf-8")


def read_runs(job: jobs.Job) -> tuple[list[TableEntry], ExplorerData]:
    """The sharpness of every network in numbers, and all curves; each table is read once."""
    measured: dict[str, list[pd.DataFrame]] = {name: [] for name in job.spec["measured"]}

    def pieces() -> Iterator[tuple[str, pd.DataFrame]]:
        for name, paths in shared_out(job.inputs["tables"], job.spec["parts"]).items():
            for piece in (piece for path in paths for piece in read_pieces(path)):
                if name in measured:
                    kept = piece["quantity"].isin(SHARPNESS_QUANTITIES)
                    measured[name].append(piece[kept])
                yield name, piece

    settings = job.spec["experiments"]
    curves = collect(pieces(), settings)
    tables = {
        name: ExperimentTable(pd.concat(kept, ignore_index=True), pd.DataFrame(), settings[name])
        for name, kept in measured.items()
    }
    if not tables:
        return [], curves
    entry = TableEntry("Sharpness in numbers", sharpness_table(tables), SHARPNESS_NOTE)
    return [entry], curves


if __name__ == "__main__":
    jobs.run_job(
        main,
        globals(),
        ["pngs", "svgs", "captions", "claims", "tables", "sources"],
        ["page"],
        "figures (paper, name, experiments, command, links), experiments, papers, configuration, "
        "judged, differences, scale, rules, run_page and by_seed (as "
        "sharpflow.report.build takes them), "
        "parts (how many of the tables are each experiment's, in their order), measured (those "
        "whose sharpness was measured), states (paths from the results folder on), "
        "explorer_kilobytes",
    )
