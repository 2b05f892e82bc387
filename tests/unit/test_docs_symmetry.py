"""The code on docs/how-to/symmetry.md runs and gives what the page says."""

import re

import pytest
from docs_blocks import ROOT, blocks, run

PAGE = "docs/how-to/symmetry.md"
NUMBER = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d+)?")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The variables after all blocks, and what they printed."""
    patch = pytest.MonkeyPatch()
    printed = []
    with patch.context() as changed:
        changed.chdir(tmp_path_factory.mktemp("page"))
        changed.setattr("builtins.print", lambda *said: printed.append(" ".join(map(str, said))))
        names = run(PAGE)
    return names | {"printed": printed}


def read(text):
    """The words of a text, its numbers as numbers that may differ in the last digit."""
    words = text.split()
    return [pytest.approx(float(w), rel=0.02) if NUMBER.fullmatch(w) else w for w in words]


def numbers(text):
    return [float(word) if NUMBER.fullmatch(word) else word for word in text.split()]


def test_what_is_printed_stands_on_the_page(page):
    table, broken = (block.text for block in blocks(PAGE) if block.language == "text")
    assert read(table) in [numbers(text) for text in page["printed"]]
    moves = re.compile(r"by \d\.\d of")  # one digit, of a random direction
    assert moves.sub("", broken).split() in [moves.sub("", t).split() for t in page["printed"]]


def test_the_charges_are_those_that_the_noise_sustains(page):
    assert 0.9 < page["slope"] < 1.1
    assert page["agreement"] > 0.9
    assert page["charge"].shape == (24,)
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    slope, agreement = re.search(
        r"print\(slope, agreement\)  # ([\d.]+) and ([\d.]+)", text
    ).groups()
    assert page["slope"] == pytest.approx(float(slope), abs=0.06)
    assert page["agreement"] == pytest.approx(float(agreement), abs=0.04)


def test_the_noise_of_batches_is_another_than_that_of_samples_after_eval(page):
    whole, alone = page["whole"], page["alone"]
    assert (whole.draws, whole.batch_size) == (500, 4)
    assert (alone.draws, alone.batch_size) == (2000, None)
    assert page["ratios"] == {
        "1.weight, 1.bias → 3.weight": pytest.approx(1.04, abs=0.005),
        "0.weight": pytest.approx(0.65, abs=0.005),
    }


def test_adams_balance_is_after_its_steps(page):
    assert page["adams"].steps == 500
    assert page["adams"].symmetries[0].learning_rate == 1e-3
