"""Seconds to check the seals of many files, as a start and a manifest do: all, then again."""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from sharpflow.storage.ledger import examine
from sharpflow.storage.seal import BLANK, sealed_path


def main() -> None:
    """Make the files and print the two times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ledger", description=__doc__)
    parser.add_argument("--files", type=int, default=30_000)
    parser.add_argument("--kilobytes", type=int, default=73, help="size of each (default 73)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        content = BLANK.encode() + np.random.default_rng(0).bytes(1000 * options.kilobytes)
        names = [f"{place // 100}/{place}" for place in range(options.files)]
        with sealed_path(root / "0" / "0") as path:
            path.write_bytes(content)
        sealed = (root / "0" / "0").read_bytes()
        for name in names:
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_bytes(sealed)
        for what in ("all of them read", "none of them changed"):
            start, work = time.perf_counter(), time.process_time()
            examined = examine(root, names)
            seconds, work = time.perf_counter() - start, time.process_time() - work
            print(f"{len(examined.whole)} whole, {what}: {seconds:.2f} s, {work:.2f} s of CPU")


if __name__ == "__main__":
    main()
