"""Draw one figure from the tables of the experiments that name it."""

import os
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from matplotlib.figure import Figure

from sharpflow import jobs
from sharpflow.errors import PartError
from sharpflow.figures import stand_in
from sharpflow.figures.base import checked, is_own, words
from sharpflow.figures.style import save
from sharpflow.parts.loading import described, explained
from sharpflow.results.tables import ExperimentTable
from sharpflow.storage.parts import read_parts, shared_out
from sharpflow.storage.seal import sealed_path, write_json


def main(job: jobs.Job) -> None:
    runs = shared_out(job.inputs["tables"], job.spec["parts"])
    summaries = shared_out(job.inputs["summaries"], job.spec["parts"])
    tables = {
        name: ExperimentTable(
            read_parts(runs[name]), read_parts(summaries[name]), settings, job.spec["confidence"]
        )
        for name, settings in job.spec["experiments"].items()
    }
    try:
        with explained(f"the figure {job.spec['module']}"):
            module = import_module(job.spec["module"])
            figure = checked(module.draw(tables), job.spec["module"])
            drawn = {name: sorted(map(list, table.read)) for name, table in tables.items()}
            said = words(module, tables, job.spec.get("paper", ""))
            write(job, figure, said | {"drawn": drawn})
    except PartError as error:
        if "log" not in job.spec or isinstance(error.__cause__, MemoryError):
            raise
        traceback.print_exception(error)
        cause = error.__cause__
        write_stand_in(job, str(error) if cause is None else described(cause))


def write(job: jobs.Job, figure: Figure, said: Mapping[str, Any]) -> None:
    """Write a figure and what stands around it."""
    with (
        sealed_path(job.outputs["png"]) as png,
        sealed_path(job.outputs["pdf"]) as pdf,
        sealed_path(job.outputs["svg"]) as svg,
    ):
        save(figure, png, pdf, svg)
    write_json(job.outputs["caption"], said)


def write_stand_in(job: jobs.Job, message: str) -> None:
    """Write that the figure could not be drawn, so that the page is made all the same."""
    name = job.spec["module"]
    module = sys.modules.get(name)
    title = getattr(module, "TITLE", name.rpartition(".")[2])
    reason = message.replace(f"{os.getcwd()}/", "")
    own = is_own(name, job.spec.get("paper", ""))
    published = getattr(module, "PUBLISHED", "") if own else ""
    said = stand_in.words(title, published, reason, job.spec["log"])
    write(job, stand_in.draw(title, reason), said)


if __name__ == "__main__":
    jobs.run_job(
        main,
        globals(),
        ["tables", "summaries"],
        ["png", "pdf", "svg", "caption"],
        "module, paper (key of the one that the figure is drawn for), experiments (settings by "
        "name), parts (how many of the tables are each experiment's, in their order), confidence, "
        "paper_folders (by key, of the module), log (path from the results folder on; without it "
        "an error of the figure's is the job's, with it the page says so)",
    )
