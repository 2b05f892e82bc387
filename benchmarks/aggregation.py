"""`python -m benchmarks.aggregation [SHARDS ...]`: peak memory of one part of a table.

Every shard is of the same network, the case in which a part is largest; its rows come from a
generator, so that what is measured is what writing and summarising hold.
"""

import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

from sharpflow.results.summaries import summarise_pieces
from sharpflow.storage.parts import read_pieces, write_part

STEPS = 500
QUANTITIES = 4


def shards(count: int) -> Iterator[pa.Table]:
    """Synthetic shards of one run each: 2,000 rows."""
    rows = STEPS * QUANTITIES
    quantity = pa.array([f"quantity_{q}" for q in range(QUANTITIES) for _ in range(STEPS)])
    for seed in range(count):
        yield pa.table(
            {
                "case": pa.array(["tanh"] * rows),
                "width": np.full(rows, 200),
                "learning_rate": np.full(rows, 0.005),
                "seed": np.full(rows, seed),
                "step": np.tile(np.arange(STEPS), QUANTITIES),
                "quantity": quantity,
                "index": np.zeros(rows, dtype=np.int64),
                "value": np.random.default_rng(seed).normal(size=rows),
            }
        )


def measure(count: int) -> None:
    """Aggregate and print one row."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "part.parquet"
        start = time.process_time()
        write_part(path, shards(count))
        summary = summarise_pieces(lambda: read_pieces(path))
        seconds = time.process_time() - start
    assert (summary["seeds"] == count).all()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        f"| {count:,} | {count * STEPS * QUANTITIES:,} | {seconds:.1f} | {peak:.0f} |", flush=True
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        measure(int(sys.argv[2]))
    else:
        print("| shards | rows | CPU s | peak MB |\n|---|---|---|---|", flush=True)
        for each in sys.argv[1:] or ["100", "1000", "10000"]:
            subprocess.run(
                [sys.executable, "-m", "benchmarks.aggregation", "--one", each], check=True
            )
