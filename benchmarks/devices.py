"""`python -m benchmarks.devices [DEVICE ...]`: one run on each device, its times and its numbers.

The runs are those of `benchmarks.paper_run`, shorter with `--steps`; without names, the CPU and,
where PyTorch finds one, the GPU. Numbers are compared with the first device's: the largest relative
difference of Λ over all steps before the first at which a run passes the stability threshold, past
which rounding grows.

    python -m benchmarks.devices
    python -m benchmarks.devices --steps 100 --model cnn cpu cuda:0 cuda:1
"""

import argparse
import tempfile
from pathlib import Path

import pandas as pd
import torch

from benchmarks.paper_run import MODELS, run
from benchmarks.record import record
from sharpflow import devices
from sharpflow.storage.tables import read_table

QUANTITY = "gauss_newton_sharpness"
LEARNING_RATE = 0.005


def sharpness(folder: Path) -> pd.Series:
    """Λ by step."""
    frame = read_table(folder / "measurements.parquet")
    return frame[frame["quantity"] == QUANTITY].set_index("step")["value"]


def difference(curve: pd.Series, reference: pd.Series) -> float:
    """Largest relative difference of two curves before the reference reaches its threshold."""
    unstable = reference.index[reference > 2 / LEARNING_RATE]
    end = unstable.min() if len(unstable) else reference.index.max() + 1
    before = reference[reference.index < end]
    return float((curve.reindex(before.index) / before - 1).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("devices", nargs="*", metavar="DEVICE")
    parser.add_argument("--steps", type=int, help="default: those of benchmarks.paper_run")
    parser.add_argument("--model", choices=MODELS, default="dense")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    names = options.devices or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    print("| device | training, s | evaluation, s | Λ against the first | speed |")
    print("|---|---|---|---|---|")
    found, first = {}, None
    for name in names:
        described = devices.describe(devices.resolve(name))
        with tempfile.TemporaryDirectory() as folder:
            seconds = run(Path(folder), options.model, options.steps, options.threads, name)
            curve = sharpness(Path(folder))
        total = seconds["train_and_evaluate"]
        first = first or (curve, total)
        apart, faster = difference(curve, first[0]), first[1] / total
        print(
            f"| {described} | {seconds['train']:.1f} | {seconds['evaluate_sharpness']:.1f} | "
            f"{apart:.1e} | {faster:.2f} |",
            flush=True,
        )
        found[name] = {"device": described, "seconds": seconds, "difference": apart}
    record({f"devices_{options.model}": found})


if __name__ == "__main__":
    main()
