"""Judge the claims that an experiment names."""

import pandas as pd

from sharpflow import jobs
from sharpflow.claims import judge, load
from sharpflow.storage.files import atomic_path
from sharpflow.storage.tables import read_table


def main(job: jobs.Job) -> None:
    table = read_table(job.inputs["table"])
    spec = job.spec
    verdicts = [
        judge(
            name,
            load(name).judged_in(spec["paper"], spec["figures"]),
            spec["experiment"],
            table,
            spec["confidence"],
        )
        for name in spec["claims"]
    ]
    with atomic_path(job.outputs["verdicts"]) as path:
        pd.concat(verdicts, ignore_index=True).to_csv(path, index=False)


if __name__ == "__main__":
    jobs.run_job(
        main,
        globals(),
        ["table"],
        ["verdicts"],
        "experiment, paper, figures (module by name), claims (names), confidence",
    )
