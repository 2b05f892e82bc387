"""Join the verdicts of all experiments, for the page and, as CSV, for people."""

import pandas as pd

from sharpflow import jobs
from sharpflow.claims.columns import COLUMNS, SEED_COLUMNS
from sharpflow.storage.seal import sealed_path
from sharpflow.storage.tables import read_table, write_table


def joined(paths: list[str], columns: dict[str, str]) -> pd.DataFrame:
    """Tables of one form as one."""
    frames = [read_table(path) for path in paths]
    return pd.concat(frames or [pd.DataFrame(columns=list(columns))], ignore_index=True)


def main(job: jobs.Job) -> None:
    order = ["paper", "figure", "claim", "experiment"]
    claims = joined(job.inputs["verdicts"], COLUMNS).sort_values(order, kind="stable")
    order = ["paper", "experiment", "claim", "control", "case", "seed"]
    seeds = joined(job.inputs["seeds"], SEED_COLUMNS).sort_values(order, kind="stable")
    write_table(job.outputs["table"], claims)
    for name, frame in (("claims", claims), ("by_seed", seeds)):
        with sealed_path(job.outputs[name]) as path:
            frame.to_csv(path, index=False)


if __name__ == "__main__":
    jobs.run_job(
        main,
        globals(),
        ["verdicts", "seeds"],
        ["table", "claims", "by_seed"],
        "{} (nothing)",
    )
