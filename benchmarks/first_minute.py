"""`python -m benchmarks.first_minute`: the demo from an empty folder, on two cores.

Processor time says what it takes; the time that passes depends on what else the machine does.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.record import record

COMMAND = ("demo", "--cores", "2")


def measure() -> dict[str, float]:
    """Seconds that pass, seconds of processor time, and the load of the machine before."""
    root = Path(__file__).resolve().parent.parent
    load = os.getloadavg()[0]
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "sharpflow", *COMMAND],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(root)},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        passed = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"seconds": passed, "cpu_seconds": used.ru_utime + used.ru_stime, "load": load}


if __name__ == "__main__":
    found = measure()
    record({"first_minute": found})
    print("| command | s | CPU s | load before |\n|---|---|---|---|")
    numbers = " | ".join(f"{value:.1f}" for value in found.values())
    print(f"| `sharpflow {' '.join(COMMAND)}` | {numbers} |")
