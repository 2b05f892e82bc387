"""Draw one figure from the tables of the experiments that name it."""

from importlib import import_module

from sharpflow import jobs
from sharpflow.figures.base import checked, title
from sharpflow.figures.style import save
from sharpflow.parts.loading import explained
from sharpflow.results.tables import ExperimentTable
from sharpflow.storage.seal import sealed_path, write_json
from sharpflow.storage.tables import read_table


def main(job: jobs.Job) -> None:
    tables = {
        name: ExperimentTable(
            read_table(table), read_table(summary), settings, job.spec["confidence"]
        )
        for (name, settings), table, summary in zip(
            job.spec["experiments"].items(),
            job.inputs["tables"],
            job.inputs["summaries"],
            strict=True,
        )
    }
    with explained(f"the figure {job.spec['module']}"):
        module = import_module(job.spec["module"])
        figure = checked(module.draw(tables), job.spec["module"])
        words = {"title": title(module, tables), "caption": module.caption(tables)}
    with sealed_path(job.outputs["png"]) as png, sealed_path(job.outputs["pdf"]) as pdf:
        save(figure, png, pdf)
    write_json(job.outputs["caption"], words)


if __name__ == "__main__":
    jobs.run_job(
        main,
        globals(),
        ["tables", "summaries"],
        ["png", "pdf", "caption"],
        "module, experiments (settings by name, in the order of the tables), confidence, "
        "paper_folders (by key, of the module)",
    )
