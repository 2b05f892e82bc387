"""Join tables of shards into a part of their experiment's table, and summarise it over seeds."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa

from sharpflow import jobs
from sharpflow.results.summaries import summarise_pieces
from sharpflow.results.tables import PROCESS
from sharpflow.storage.parts import read_pieces, remove_others, write_part
from sharpflow.storage.tables import read_table

RUN = ("case", "width", "learning_rate")


def shards(job: jobs.Job) -> Iterator[pa.Table]:
    """The rows of each shard, with the columns that say which runs they are of."""
    paths = zip(job.inputs["trajectories"], job.inputs["measured"], strict=True)
    for shard, (trajectory, measured) in zip(job.spec["shards"], paths, strict=True):
        frames = [
            read_table(trajectory, shard["trajectories"]),
            read_table(measured, shard["measured"]),
        ]
        frame = pd.concat([f for f in frames if len(f)] or frames[:1], ignore_index=True)
        columns = [key for key in (*RUN, PROCESS) if key in shard]
        for position, key in enumerate(columns):
            frame.insert(position, key, shard[key])
        yield pa.Table.from_pandas(frame, preserve_index=False)


def main(job: jobs.Job) -> None:
    runs, summary = job.outputs["runs"], job.outputs["summary"]
    write_part(runs, shards(job))
    summarised = summarise_pieces(lambda: read_pieces(runs), job.spec["confidence"])
    write_part(summary, [pa.Table.from_pandas(summarised, preserve_index=False)])
    for path in (runs, summary):
        remove_others(path, [f"{part}{Path(path).suffix}" for part in job.spec["parts"]])


if __name__ == "__main__":
    jobs.run_job(
        main,
        globals(),
        ["trajectories", "measured"],
        ["runs", "summary"],
        "shards (case, width, learning_rate, process if there are several, and the fingerprints of "
        "their tables), parts (names of all parts of the table), confidence",
    )
