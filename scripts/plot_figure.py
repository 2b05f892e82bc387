"""Draw one figure from the tables of the experiments that name it."""

from sharpflow import jobs
from sharpflow.figures.base import ExperimentTable, load, title
from sharpflow.figures.style import save
from sharpflow.storage.files import atomic_path, write_json
from sharpflow.storage.tables import read_table


def main(job: jobs.Job) -> None:
    tables = {
        name: ExperimentTable(read_table(table), read_table(summary), settings)
        for (name, settings), table, summary in zip(
            job.spec["experiments"].items(),
            job.inputs["tables"],
            job.inputs["summaries"],
            strict=True,
        )
    }
    figure = load(job.spec["module"])
    with atomic_path(job.outputs["png"]) as png, atomic_path(job.outputs["pdf"]) as pdf:
        save(figure.draw(tables), png, pdf)
    words = {"title": title(figure, tables), "caption": figure.caption(tables)}
    write_json(job.outputs["caption"], words)


if __name__ == "__main__":
    jobs.run_job(
        main,
        globals(),
        ["tables", "summaries"],
        ["png", "pdf", "caption"],
        "module, experiments (settings by name, in the order of the tables)",
    )
