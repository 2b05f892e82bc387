"""`python -m benchmarks.planning [SHARDS ...]`: what Snakemake's plan of a sweep takes.

The sweep is the one of docs/how-to/scaling.md, with as many seeds, in a folder of its own. Each row
is one start in a process of its own: `python -m sharpflow.launch -n`, here the first in its folder,
which also parses the code of all jobs; a plain `snakemake -n --quiet`; a workflow of the same jobs
and files and of nothing else (no log, parameter, resource or check), which says what Snakemake
itself takes; and a start with nothing left to do, for which every file is there (a few bytes,
sealed) and is recorded by Snakemake (`--touch`, which takes longer than all else here).

Numbers are CPU seconds, which say the same on a shared machine as on a quiet one, nearly.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

from sharpflow.storage import seal

ROOT = Path(__file__).resolve().parent.parent
SEEDS_A_SHARD, WIDTHS, RATES = 10, [50, 100, 200, 400], 25
EXPERIMENT = {
    "paper": "mine",
    "title": "A sweep",
    "data": {"source": "photos", "samples": 500, "scaling": "unit", "draw": "fixed"},
    "model": {"kind": "mlp", "hidden_layers": 2, "activation": "tanh"},
    "widths": WIDTHS,
    "learning_rates": [round(0.0025 + 0.0005 * i, 4) for i in range(RATES)],
    "seeds_per_job": SEEDS_A_SHARD,
    "training": {"steps": 600, "record_every": 10, "states_megabytes": 1},
    "measurements": {"gauss_newton": {"every": 10}},
    "cases": {"tanh": {}},
}
BARE = """
FOLDERS = [
    f"results/runs/sweep/tanh/width={w}/lr={r}/seeds={s}-{s + 9}"
    for w in WIDTHS for r in RATES for s in range(0, SEEDS, 10)
]
PARTS = [FOLDERS[i :: len(FOLDERS) // 122 + 1] for i in range(len(FOLDERS) // 122 + 1)]
wildcard_constraints:
    shard="[^/]+/[^/]+/width=[0-9]+/lr=[^/]+/seeds=[0-9]+-[0-9]+"
rule all:
    input: [f"results/tables/{i}.parquet" for i in range(len(PARTS))]
rule data:
    output: "results/data/set.safetensors"
    shell: "touch {output}"
rule train:
    input: "results/data/set.safetensors"
    output:
        "results/runs/{shard}/trajectory.parquet",
        "results/runs/{shard}/states.safetensors",
    shell: "touch {output}"
rule evaluate:
    input: "results/data/set.safetensors", "results/runs/{shard}/states.safetensors"
    output: "results/runs/{shard}/measurements.parquet"
    shell: "touch {output}"
rule aggregate:
    input:
        lambda w: [
            f"{f}/{n}.parquet" for f in PARTS[int(w.i)] for n in ("trajectory", "measurements")
        ]
    output: "results/tables/{i}.parquet"
    shell: "touch {output}"
"""


def written(folder: Path, shards: int) -> None:
    """A configuration of so many shards, and the bare workflow of the same."""
    seeds = max(SEEDS_A_SHARD * shards // (len(WIDTHS) * RATES), SEEDS_A_SHARD)
    (folder / "experiments").mkdir()
    (folder / "papers/mine").mkdir(parents=True)
    paper = {"key": "mine", "title": "Mine"}
    (folder / "papers/mine/paper.yaml").write_text(yaml.safe_dump(paper))
    experiment = EXPERIMENT | {"seeds": seeds}
    (folder / "experiments/sweep.yaml").write_text(yaml.safe_dump(experiment))
    configuration = {
        "results": "results",
        "papers": ["papers/mine"],
        "experiments": ["sweep"],
        "experiments_folder": "experiments",
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(configuration))
    rates = [str(rate) for rate in EXPERIMENT["learning_rates"]]
    head = f"WIDTHS, RATES, SEEDS = {WIDTHS}, {rates}, {seeds}\n"
    (folder / "Snakefile.bare").write_text(head + BARE)


def start(folder: Path, *arguments: str) -> tuple[float, float, str]:
    """CPU seconds and peak MB of one Python, and what it printed."""
    with open(folder / "printed", "w+", encoding="utf-8") as printed:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=folder, env=environment, stdout=printed, stderr=subprocess.STDOUT,
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        text = printed.read()
    if process.returncode:
        sys.exit(text[-2000:])
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6, text


def made(folder: Path, rest: tuple[str, ...]) -> None:
    """Put a sealed file in each place that a job writes, and let Snakemake record them all."""
    verdicts = b"verdict,control\n"
    beside = f"{hashlib.sha256(verdicts).hexdigest()}  {{}}\n"
    seal.write_json(folder / "sealed.json", {})
    content = (folder / "sealed.json").read_bytes()
    _, _, text = start(folder, "snakemake", "--summary", *rest)
    for line in text.splitlines():
        path = folder / line.partition("\t")[0]
        if not line.startswith("results/"):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        special = {".csv": verdicts, ".sha256": beside.format(path.stem).encode()}
        path.write_bytes(special.get(path.suffix, content))
    start(folder, "snakemake", "--touch", "--forceall", "--cores", "200", *rest)


def main() -> None:
    """Print a row for each kind of start."""
    print("| shards | start | CPU s | peak MB | longest line |\n|---|---|---|---|---|", flush=True)
    for shards in [int(each) for each in sys.argv[1:]] or [1000, 10_000]:
        with TemporaryDirectory() as name:
            folder = Path(name)
            written(folder, shards)
            rest = ("--snakefile", str(ROOT / "Snakefile"), "--configfile", "sweep.yaml")
            rest = ("--workflow-profile", str(ROOT / "profiles/default"), *rest)

            def row(what: str, *arguments: str, shards: int = shards, at: Path = folder) -> str:
                seconds, megabytes, text = start(at, *arguments)
                longest = max(map(len, text.splitlines()))
                print(
                    f"| {shards:,} | {what} | {seconds:.1f} | {megabytes:.0f} | {longest} |",
                    flush=True,
                )
                return text

            row("`python -m sharpflow.launch -n`", "sharpflow.launch", "-n", *rest)
            row("`snakemake -n --quiet`", "snakemake", "-n", "--quiet", "all", *rest)
            bare = ("-n", "--snakefile", "Snakefile.bare", "--workflow-profile", "none")
            row("a bare workflow, `-n`", "snakemake", *bare)
            made(folder, rest)
            text = row("nothing left to do, `-n`", "snakemake", "-n", *rest)
            if "Nothing to be done" not in text:
                sys.exit(f"There is something left to do:\n{text[-2000:]}")


if __name__ == "__main__":
    main()
