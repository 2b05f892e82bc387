"""Record what jobs wrote: the checksum of every output, the configuration, versions and commit.

A file that is not what its job wrote is refused; what killed jobs left beside the files is removed.
"""

import platform
from importlib import metadata
from pathlib import Path

from sharpflow import jobs
from sharpflow.report import build_run, machine, stage
from sharpflow.storage.benchmarks import read_benchmark
from sharpflow.storage.captions import failures
from sharpflow.storage.files import is_leftover
from sharpflow.storage.ledger import examine
from sharpflow.storage.provenance import trained_on
from sharpflow.storage.seal import sealed_path, write_json
from sharpflow.version import VERSION, commit

PACKAGES = (
    "torch",
    "numpy",
    "pandas",
    "pyarrow",
    "safetensors",
    "scipy",
    "matplotlib",
    "snakemake",
)


def main(job: jobs.Job) -> None:
    root = Path(job.outputs["manifest"]).parent  # a local copy, of a store
    examined = examine(root, job.spec["vouched"])
    for error in examined.wrong.values():
        raise error
    for folder in {(root / name).parent for name in job.spec["vouched"]}:
        for left in filter(is_leftover, folder.iterdir()):
            left.unlink(missing_ok=True)
    captions = [n for n in job.spec["vouched"] if n.startswith("figures/") and n.endswith(".json")]
    manifest = {
        "commit": commit(),
        "configuration": job.spec["configuration"],
        "experiments": job.spec["experiments"],
        "failed": failures(root, captions),
        "devices": trained_on(root, job.spec["states"]),
        "packages": {"sharpflow": VERSION}
        | {package: metadata.version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "sha256": examined.whole,
    }
    taken = (
        stage(rule, (read_benchmark(root / name) for name in names))
        for rule, names in job.spec["benchmarks"].items()
    )
    with sealed_path(job.outputs["page"]) as path:
        stages = [each for each in taken if each is not None]
        path.write_text(build_run(manifest, stages, machine()), encoding="utf-8")
    write_json(job.outputs["manifest"], manifest)


if __name__ == "__main__":
    jobs.run_job(
        main,
        globals(),
        ["files"],
        ["manifest", "page"],
        "vouched and states (paths beside the manifest), configuration, experiments (settings), "
        "benchmarks (what jobs used, by rule, likewise)",
    )
