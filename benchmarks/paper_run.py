"""One run at the paper's scale, as the workflow does it: training, then evaluation.

n = 1,000 photographs. Dense: tanh, width 200, two hidden layers, 1,200 steps; Λ and v₁ at every
step and the Hessian's sharpness at every tenth. CNN: the ELU network, 500 steps; Λ and v₁ at every
step. Prints the seconds of each job, process start and imports included.

    python -m benchmarks.paper_run --threads 2
    python -m benchmarks.paper_run --threads 2 --model cnn
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.record import record
from benchmarks.specs import ROOT, part, shard

DATA = part("data", "photos", samples=1000, scaling="unit")
MODELS = {
    "dense": (part("models", "mlp", hidden_layers=2, activation="tanh"), 200, 1200),
    "cnn": (part("models", "cnn", activation="elu"), 32, 500),
}


Seconds = dict[str, float]


def job(script: str, spec: dict, threads: int, **paths: Path) -> float:
    """Seconds that one script takes."""
    command = [sys.executable, f"scripts/{script}.py", "--spec", json.dumps(spec)]
    command += ["--threads", str(threads)]
    for name, path in paths.items():
        command += [f"--{name}", str(path)]
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    return time.perf_counter() - start


def run(at: Path, name: str, steps: int | None, threads: int, device: str = "cpu") -> Seconds:
    """Data, training and evaluation of one network in a folder; the seconds of each job."""
    model, width, usual = MODELS[name]
    spec = shard(model, width, 0.005, steps=steps or usual, states_megabytes=64.0)
    spec["device"] = device
    measurements = {"gauss_newton": part("measurements", "gauss_newton", every=1)}
    if name == "dense":
        measurements["hessian"] = part("measurements", "hessian", every=10)
    at.mkdir(exist_ok=True)
    data = at / "data.safetensors"
    files = {"trajectory": at / "trajectory.parquet", "states": at / "states.safetensors"}
    seconds = {"generate_data": job("generate_data", DATA, threads, dataset=data)}
    seconds["train"] = job("train", spec, threads, dataset=data, **files)
    seconds["evaluate_sharpness"] = job(
        "evaluate_sharpness",
        {"training": spec, "measurements": measurements},
        threads,
        dataset=data,
        states=files["states"],
        measurements=at / "measurements.parquet",
    )
    seconds["train_and_evaluate"] = seconds["train"] + seconds["evaluate_sharpness"]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, help="default 1,200 (dense) or 500 (cnn)")
    parser.add_argument("--model", choices=MODELS, default="dense")
    options = parser.parse_args()
    steps = options.steps or MODELS[options.model][2]
    with tempfile.TemporaryDirectory() as folder:
        seconds = run(Path(folder), options.model, steps, options.threads)
    for name, value in seconds.items():
        print(f"{name:20s} {value:6.1f} s")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{'peak memory':20s} {peak:6.2f} GiB")
    name = f"{options.model}_run"
    record({name: {"steps": steps, "threads": options.threads, "gibibytes": peak,
                   "seconds": seconds}})  # fmt: skip


if __name__ == "__main__":
    main()
