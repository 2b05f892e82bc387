"""The file of an experiment, given where a configuration is expected."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharpflow.config.home import HOME
from sharpflow.config.papers import PAPER_FILE


def is_experiment(document: Mapping[str, Any]) -> bool:
    """Whether a document is an experiment's: a configuration names its results and has no cases."""
    return "cases" in document and "results" not in document


def configuration_of(file: Path) -> dict[str, Any]:
    """A configuration that runs an experiment's file alone, beside every paper that ships.

    A file in the folder `experiments` of a paper is of that paper.
    """
    home = file.resolve().parent.parent
    owned = file.resolve().parent.name == "experiments" and (home / PAPER_FILE).is_file()
    shipped = [path.parent for path in sorted((HOME / "papers").glob(f"*/{PAPER_FILE}"))]
    papers = [*([home] if owned else []), *(path for path in shipped if path.resolve() != home)]
    return {
        "results": f"results/{file.stem}",
        "papers": [str(path) for path in papers],
        "experiments_folder": "none" if owned else str(file.parent),
        "experiments": [file.stem],
    }
