"""Join the tables of an experiment's shards, and summarise them over seeds."""

import pandas as pd

from sharpflow import jobs
from sharpflow.results.summaries import summarise
from sharpflow.storage.tables import read_table, write_table


def main(job: jobs.Job) -> None:
    frames = []
    for name in ("trajectories", "measured"):
        for shard, path in zip(job.spec["shards"], job.inputs[name], strict=True):
            frame = read_table(path, shard[name])
            for position, key in enumerate(("case", "width", "learning_rate")):
                frame.insert(position, key, shard[key])
            frames.append(frame)
    table = pd.concat([frame for frame in frames if len(frame)], ignore_index=True)
    write_table(job.outputs["table"], table)
    write_table(job.outputs["summary"], summarise(table, job.spec["confidence"]))


if __name__ == "__main__":
    jobs.run_job(
        main,
        globals(),
        ["trajectories", "measured"],
        ["table", "summary"],
        "shards (case, width, learning_rate and the fingerprints of their tables), confidence",
    )
