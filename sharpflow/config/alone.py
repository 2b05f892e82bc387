"""The file of an experiment, given where a configuration is expected."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sharpflow.config.papers import PAPER_FILE, is_paper, shipped_papers
from sharpflow.config.yaml_files import read_yaml


def is_experiment(document: Mapping[str, Any]) -> bool:
    """Whether a document is an experiment's: a configuration names its results and has no cases."""
    return "cases" in document and "results" not in document


def configuration_of(file: Path) -> dict[str, Any]:
    """A configuration that runs an experiment's file alone, beside every paper that ships.

    A file in the folder `experiments` of a paper is of that paper, which stands for the one of its
    key that ships.

    Raises:
        ConfigError: the paper's file is not YAML.
    """
    home = file.resolve().parent.parent
    owned = file.resolve().parent.name == "experiments" and is_paper(home)
    key = read_yaml(home / PAPER_FILE).get("key") if owned else None
    shipped = [paper.folder for name, paper in shipped_papers().items() if name != key]
    return {
        "results": f"results/{file.stem}",
        "papers": [str(path) for path in ([home, *shipped] if owned else shipped)],
        "experiments_folder": "none" if owned else str(file.parent),
        "experiments": [file.stem],
    }
