"""The code on docs/how-to/sharpness.md runs, top to bottom, and gives what the page says."""

import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "sharpness.md"


def blocks():
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture(scope="module")
def page():
    """The variables after all blocks have run in one namespace."""
    names = {}
    for block in blocks():
        exec(compile(block, str(PAGE), "exec"), names)
    return names


def test_the_first_block_measures_in_five_lines():
    first = [line for line in blocks()[0].splitlines() if line and not line.startswith("import")]
    assert len(first) <= 5
    assert first[-1].startswith("value = sharpness(")


def test_numbers_are_what_the_page_calls_them(page):
    assert isinstance(page["value"], float)
    assert page["value"] > 0
    assert len(page["history"]) == len(page["unstable"]) == 30
    assert all(converged for _, _, converged, _ in page["history"])
    warm = sum(products for *_, products in page["history"][1:]) / 29
    assert warm < page["history"][0][-1]
    assert page["top"].vectors.shape == (page["H"].shape[0], 3)
    assert page["top"].values[0].item() == pytest.approx(page["exact"], rel=1e-3)


def test_parts_of_the_page_agree_with_each_other(page):
    assert page["small"] == pytest.approx(page["exact"], rel=2e-3)
    assert page["total"].value == pytest.approx(float(page["H"].to_dense().trace()), rel=1e-3)
    values = torch.linalg.eigvalsh(page["H"].to_dense())
    assert page["bottom"][0].item() == pytest.approx(float(values[0]), rel=1e-3)
    assert len(page["unstable_pairs"].values) == int((values > 2 / page["learning_rate"]).sum())
    assert page["decayed"].values.item() == pytest.approx(1.01 * float(values[-1]), rel=1e-3)
    above = float((values > 2 / page["learning_rate"]).double().mean())
    assert abs(page["share"] - above) < 4 * page["deviation"] + 1e-3
    assert page["tracker"].threshold == pytest.approx(38 / 1e-3)
    assert page["stable"] is (page["tracker"].measure().values.item() < 38 / 1e-3)
    assert page["blocks"].keys() == {"0", "2"}
    assert max(page["blocks"].values()) <= page["exact"] * 1.001
    jacobian = torch.func.jacrev(
        lambda p: torch.func.functional_call(page["model"], p, (page["inputs"],)).squeeze(1)
    )({name: p.detach() for name, p in page["params"].items()})
    rows = torch.cat([block.flatten(1) for block in jacobian.values()], dim=1)
    exact = 2 / len(rows) * float(torch.linalg.matrix_norm(rows, 2)) ** 2
    assert page["gauss_newton"] == pytest.approx(exact, rel=1e-3)


def test_the_other_operators_are_the_same_by_two_ways(page):
    assert page["same_gauss_newton"] == pytest.approx(page["gauss_newton"], rel=1e-3)
    assert page["found"].values.item() == pytest.approx(page["accurate"], rel=1e-2)
    assert page["lean"] == pytest.approx(page["exact"], rel=0.01)
    assert page["upcast"] == pytest.approx(page["exact"], rel=0.2)
    assert page["norm"].value >= page["exact"] * (1 - 1e-3)
