"""The project after one complete run of the smoke configuration, shared by all."""

from dataclasses import replace

import pytest
from trees import Tree, copy_project


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Tree:
    """The project after one complete run of the smoke configuration."""
    tree = copy_project(tmp_path_factory.mktemp("project"))
    run = tree.snakemake("--cores", "2")
    assert run.returncode == 0, run.stdout[-5000:]
    return replace(tree, printed=run.stdout)
