"""Where the workflow lies: beside the package in a clone, inside it where it was installed."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
_INSIDE = _PACKAGE / "_workflow"

HOME = _INSIDE if _INSIDE.is_dir() else _PACKAGE.parent
"""Folder with the Snakefile, and with the configurations, papers and profiles that ship."""
SNAKEFILE = HOME / "Snakefile"
DEFAULT = Path("config/config.yaml")
"""The configuration of a run that names none."""


def default() -> Path:
    """`DEFAULT` in the working directory, or where there is none the one that ships."""
    return DEFAULT if DEFAULT.exists() else HOME / DEFAULT


def configurations() -> dict[str, Path]:
    """The configurations that ship, by name: `config`, which is the default, first."""
    found = {file.stem: file for file in sorted((HOME / DEFAULT.parent).glob("*.yaml"))}
    return {DEFAULT.stem: found.pop(DEFAULT.stem), **found} if DEFAULT.stem in found else found
