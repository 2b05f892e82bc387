"""Judge the claims that an experiment names."""

import pandas as pd

from sharpflow import jobs
from sharpflow.claims.base import judge, load_claim
from sharpflow.storage.parts import read_parts
from sharpflow.storage.tables import write_table


def main(job: jobs.Job) -> None:
    table = read_parts(job.inputs["tables"])
    spec = job.spec
    verdicts = [
        judge(
            load_claim(entry["module"], entry["name"]),
            spec["paper"],
            entry["figure"],
            spec["experiment"],
            table,
            spec["cases"],
            spec["confidence"],
        )
        for entry in spec["claims"]
    ]
    write_table(job.outputs["verdicts"], pd.concat(verdicts, ignore_index=True))


if __name__ == "__main__":
    jobs.run_job(
        main,
        globals(),
        ["tables"],
        ["verdicts"],
        "experiment, paper, cases (settings), claims (name, module, figure), confidence, "
        "paper_folders (by key, of the modules)",
    )
