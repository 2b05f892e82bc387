"""Record what was made: the checksum of every output, the configuration, versions and commit."""

import platform
import subprocess
from importlib import metadata

from sharpflow import jobs
from sharpflow.storage.files import sha256_of, write_json

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


def commit() -> str:
    """The git commit of the working directory, `+changes` if it is not clean, or `unknown`."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        status = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+changes" if status.stdout.strip() else "")


def main(job: jobs.Job) -> None:
    root = job.outputs["manifest"].removesuffix("manifest.json")  # a local copy, of a store
    write_json(
        job.outputs["manifest"],
        {
            "commit": commit(),
            "configuration": job.spec["configuration"],
            "device": job.spec["device"],
            "packages": {package: metadata.version(package) for package in PACKAGES},
            "python": platform.python_version(),
            "sha256": {path.removeprefix(root): sha256_of(path) for path in job.inputs["files"]},
        },
    )


if __name__ == "__main__":
    jobs.run_job(main, globals(), ["files"], ["manifest"], "configuration, device")
