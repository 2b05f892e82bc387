"""Join the verdicts of all experiments, for the page and, as CSV, for people."""

import pandas as pd

from sharpflow import jobs
from sharpflow.claims.base import COLUMNS
from sharpflow.storage.seal import sealed_path
from sharpflow.storage.tables import read_table, write_table


def main(job: jobs.Job) -> None:
    frames = [read_table(path) for path in job.inputs["verdicts"]]
    joined = pd.concat(frames or [pd.DataFrame(columns=list(COLUMNS))], ignore_index=True)
    joined = joined.sort_values(["paper", "figure", "claim", "experiment"], kind="stable")
    write_table(job.outputs["table"], joined)
    with sealed_path(job.outputs["claims"]) as path:
        joined.to_csv(path, index=False)


if __name__ == "__main__":
    jobs.run_job(main, globals(), ["verdicts"], ["table", "claims"], "{} (nothing)")
