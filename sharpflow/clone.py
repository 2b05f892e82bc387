"""Which copy of the package processes load, where there are several."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def lead(folder: str | Path) -> None:
    """Let the processes that are started from here on load the package that a folder holds.

    Snakemake puts a workflow's folder behind all that is installed, another sharpflow too.

    Args:
        folder: one without the package changes nothing.
    """
    folders = list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    if os.path.isdir(os.path.join(folder, "sharpflow")) and folders[:1] != [str(folder)]:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(folder), *folders])


def other() -> Path | None:
    """The clone that is worked in, where the package that is loaded is not that of it."""
    files = "Snakefile", "rules/common.smk", "sharpflow/__main__.py"
    if not all(os.path.isfile(file) for file in files):
        return None
    here = Path.cwd()
    return None if (here / "sharpflow").resolve() == _PACKAGE else here
