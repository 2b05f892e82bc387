"""Judge the claims that an experiment names, and keep what each seed gave."""

import pandas as pd

from sharpflow import jobs
from sharpflow.claims.base import by_seed, load_claim, measure, verdicts
from sharpflow.storage.parts import read_parts
from sharpflow.storage.tables import write_table


def main(job: jobs.Job) -> None:
    table = read_parts(job.inputs["tables"])
    spec = job.spec
    paper, experiment = spec["paper"], spec["experiment"]
    rows, seeds = [], []
    for entry in spec["claims"]:
        claim = load_claim(entry["module"], entry["name"])
        found = measure(claim, experiment, table, spec["cases"])
        seeds.append(by_seed(claim, paper, experiment, found))
        about = (paper, entry["figure"], experiment, found, spec["confidence"], entry["source"])
        rows.append(verdicts(claim, *about))
    write_table(job.outputs["verdicts"], pd.concat(rows, ignore_index=True))
    write_table(job.outputs["seeds"], pd.concat(seeds, ignore_index=True))


if __name__ == "__main__":
    jobs.run_job(
        main,
        globals(),
        ["tables"],
        ["verdicts", "seeds"],
        "experiment, paper, cases (settings), claims (name, module, figure, source), confidence, "
        "paper_folders (by key, of the modules)",
    )
