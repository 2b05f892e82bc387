"""Make the page: figures, captions, verdicts, and how each was made."""

import json
import platform
from importlib import metadata
from pathlib import Path

import pandas as pd

from sharpflow.jobs import Job, run_job
from sharpflow.report import FigureEntry, build
from sharpflow.storage.files import write_bytes

PACKAGES = ("torch", "numpy", "pandas", "scipy", "matplotlib", "snakemake")


def main(job: Job) -> None:
    figures = []
    pictures = zip(job.spec["figures"], job.inputs["pngs"], job.inputs["captions"], strict=True)
    for entry, png, caption in pictures:
        words = json.loads(Path(caption).read_text())
        figures.append(FigureEntry(**entry, **words, png=Path(png).read_bytes()))
    provenance = {
        "configuration": job.spec["configuration"],
        "device": job.spec["device"],
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in PACKAGES},
    }
    claims = pd.read_csv(job.inputs["claims"], keep_default_na=False, na_values=[""])
    page = build(figures, claims, job.spec["experiments"], provenance)
    write_bytes(job.outputs["page"], page.encode())


if __name__ == "__main__":
    run_job(
        main,
        globals(),
        ["pngs", "captions", "claims"],
        ["page"],
        "figures (paper, name, experiments, command), experiments, configuration, device",
    )
