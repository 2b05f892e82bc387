"""A configuration and one experiment that tests edit."""

import copy
from pathlib import Path

import yaml

PAPER = Path(__file__).resolve().parents[2] / "papers" / "li2022"

EXPERIMENT = {
    "paper": "li2022",
    "title": "A test",
    "seeds": 4,
    "seeds_per_job": 2,
    "data": {"source": "photos", "samples": 100, "scaling": "unit"},
    "model": {"kind": "mlp", "hidden_layers": 2},
    "widths": [10, 20],
    "learning_rates": [0.005, 0.02],
    "training": {"steps": 30, "record_every": 1},
    "measurements": {"gauss_newton": {"every": 1}, "hessian": {"every": 10}},
    "cases": {"tanh": {"model": {"activation": "tanh"}}, "relu": {"model": {"activation": "relu"}}},
    "figures": ["phases"],
    "claims": ["edge_of_stability"],
}


class ConfigFolder:
    """A configuration and one experiment, `dense_here`, as files in a folder of their own."""

    def __init__(self, root):
        self.file = root / "config.yaml"
        self.experiments = root / "experiments"
        self.experiments.mkdir()
        self.dense = self.experiments / "dense_here.yaml"
        self.write()

    def write(self, changes=None, **top):
        """Write both files, with top-level keys of the experiment and configuration replaced."""
        document = {
            "results": "results/test",
            "papers": [str(PAPER)],
            "experiments": ["dense_here"],
            "experiments_folder": str(self.experiments),
        } | top
        self.file.write_text(yaml.safe_dump(document))
        self.dense.write_text(yaml.safe_dump(EXPERIMENT | (changes or {})))


def edited(document, keys, value):
    """A deep copy with the value at `keys` replaced."""
    document = copy.deepcopy(document)
    inner = document
    for key in keys[:-1]:
        inner = inner.setdefault(key, {}) if isinstance(inner, dict) else inner[key]
    inner[keys[-1]] = value
    return document
