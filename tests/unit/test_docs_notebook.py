"""The notebooks run from top to bottom, and show what they say."""

from pathlib import Path

import matplotlib
import nbformat
import numpy as np
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def ran() -> dict[str, dict]:
    """The variables of each notebook after its cells; no kernel is needed for plain Python."""
    matplotlib.use("Agg")
    found = {}
    for path in NOTEBOOKS:
        names: dict = {}
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                exec(compile(cell.source, str(path), "exec"), names)
        found[path.stem] = names
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_one_and_holds_no_output(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs"), "clear the outputs before you commit"
        for target in cell.source.split("](")[1:]:
            assert (path.parent / target.partition(")")[0]).is_file(), target


def test_the_edge_of_stability_is_seen(ran):
    names = ran["edge_of_stability"]
    level = np.array(names["sharpnesses"]) * names["learning_rate"] / 2
    assert level[0] < 0.9
    assert 0.9 < np.mean(level[-100:]) < 1.1
    assert names["losses"][-1] < 0.2 * names["losses"][0]
    assert 0 < names["share"] < 0.1
