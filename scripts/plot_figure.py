"""Draw one figure from the tables of the experiments that name it."""

from importlib import import_module

from sharpflow import jobs
from sharpflow.figures.base import checked, words
from sharpflow.figures.style import save
from sharpflow.parts.loading import explained
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
    with explained(f"the figure {job.spec['module']}"):
        module = import_module(job.spec["module"])
        figure = checked(module.draw(tables), job.spec["module"])
        drawn = {name: sorted(map(list, table.read)) for name, table in tables.items()}
        said = words(module, tables) | {"drawn": drawn}
    with (
        sealed_path(job.outputs["png"]) as png,
        sealed_path(job.outputs["pdf"]) as pdf,
        sealed_path(job.outputs["svg"]) as svg,
    ):
        save(figure, png, pdf, svg)
    write_json(job.outputs["caption"], said)


if __name__ == "__main__":
    jobs.run_job(
        main,
        globals(),
        ["tables", "summaries"],
        ["png", "pdf", "svg", "caption"],
        "module, experiments (settings by name), parts (how many of the tables are each "
        "experiment's, in their order), confidence, "
        "paper_folders (by key, of the module)",
    )
