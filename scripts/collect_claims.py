"""Join the verdicts of all experiments."""

import pandas as pd

from sharpflow import jobs
from sharpflow.claims.base import COLUMNS
from sharpflow.storage.files import atomic_path


def main(job: jobs.Job) -> None:
    frames = [pd.read_csv(path, keep_default_na=False) for path in job.inputs["verdicts"]]
    joined = pd.concat([pd.DataFrame(columns=COLUMNS), *frames], ignore_index=True)
    joined = joined.sort_values(["paper", "figure", "claim", "experiment"], kind="stable")
    with atomic_path(job.outputs["claims"]) as path:
        joined.to_csv(path, index=False)


if __name__ == "__main__":
    jobs.run_job(main, globals(), ["verdicts"], ["claims"], "{} (nothing)")
