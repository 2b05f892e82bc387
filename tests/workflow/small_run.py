"""One experiment of the smoke configuration, in a results folder of its own."""

import subprocess
import sys
from pathlib import Path

import yaml
from trees import CONFIG, PROJECT, Tree, copy_project

__all__ = ["NAME", "PROJECT", "compare", "run", "small_project", "verify"]

NAME = "small"


def small_project(target: Path) -> Tree:
    """A copy of the project with `config/small.yaml`."""
    tree = copy_project(target)
    smoke = yaml.safe_load((tree.root / CONFIG).read_text())
    small = smoke | {
        "results": f"results/{NAME}",
        "experiments": ["linear"],
        "overrides": {"linear": smoke["overrides"]["linear"]},
    }
    (tree.root / "config" / "small.yaml").write_text(yaml.safe_dump(small))
    return tree


def run(tree: Tree, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Run Snakemake on the small configuration, with some environment variables."""
    return tree.snakemake(*arguments, config="config/small.yaml", **variables)


def verify(tree: Tree) -> subprocess.CompletedProcess:
    """Compare the small results with their manifest."""
    return subprocess.run(
        [sys.executable, "-m", "sharpflow.verify", f"results/{NAME}"],
        cwd=tree.root,
        capture_output=True,
        text=True,
    )


def same_as_smoke(name: str) -> bool:
    """Whether a file has the same bytes in the small run as in the smoke run: benchmarks hold
    times, and the page, the manifest and the joined claims speak of all experiments.
    """
    whole = ("manifest.json", "claims.", "claims_by_seed.", "report", "logs", "benchmarks")
    return not name.startswith(whole)


def compare(found: dict[str, bytes], smoke: Path) -> None:
    """Hold files, by their path below the results folder, against those of the smoke run."""
    compared = {name: content for name, content in found.items() if same_as_smoke(name)}
    kinds = {name.split("/")[0] for name in compared}
    assert kinds == {"data", "runs", "tables", "claims", "figures"}
    different = [n for n, content in compared.items() if (smoke / n).read_bytes() != content]
    assert different == []
