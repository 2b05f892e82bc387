"""Claims on the page: one row each, every case under it, counts in words and numbers."""

import numpy as np
import pytest
from report_page import RELU, checked, claim, claims, entry, full_page, lone, overall

from sharpflow.report.verdicts import claim_entries


def test_every_claim_appears_in_the_list_and_at_its_figure():
    rows = [lone(claim=f"claim_{i}", statement=f"Statement number {i};") for i in range(30)]
    text = checked(full_page(claims=claims(*(row for pair in rows for row in pair)))).text
    for i in range(30):
        assert text.count(f"Statement number {i};") == 2


def test_verdicts_are_counted_by_claim_and_by_case():
    text = checked(full_page()).text
    assert "li2022 claims 0 1 0 1 cases 1 1 1 3" in text
    assert "ziyin2024 claims 1 0 0 1 cases 1 0 0 1" in text
    assert "all papers claims 1 1 0 2 cases 2 1 1 4" in text
    assert "2 claims were judged: 1 supported, 1 not supported." in text
    assert "rest on 4 cases, judged one by one: 2 supported, 1 not supported, 1 inconc" in text


def test_every_case_is_on_the_page_under_its_claim():
    rows = [claim(case=f"case {i}", statistic=i + 0.5, low=i, high=i + 1) for i in range(40)]
    worst = overall("case 7", statistic=7.5, low=7, high=8)
    page = checked(full_page(figures=[entry()], claims=claims(*rows, worst)))
    for i in range(40):
        shown = f"case {i} ✓ supported {i + 0.5} [{i}, {i + 1}] 0.9 to 1.1 5"
        assert page.text.count(shown) == 2
        assert page.folded.count(shown) == 2
    head = "experiment dense ✓ supported 7.5 [7, 8] 0.9 to 1.1 5"
    assert page.text.count(head) == 2
    assert head not in page.folded
    assert page.folded.count("repeats the worst one: case 7.") == 2
    assert page.text.count("40 cases (40 supported) and method") == 2


def test_a_single_case_is_not_repeated():
    page = checked(full_page(figures=[entry()], claims=claims(*lone())))
    assert page.text.count("1.012") == 2
    assert page.text.count("experiment dense , case tanh ✓ supported 1.012") == 2
    assert "worst" not in page.folded
    assert page.folded.count("mean of Λ over 2/η. Interval: 95 % t-interval over 5 seeds.") == 2


def test_a_single_case_that_differs_from_its_claim_is_shown():
    (found,) = claim_entries(claims(claim(), overall("tanh", **RELU)))
    assert [row["statistic"] for row in found["cases"]] == ["1.012"]
    assert (found["statistic"], found["only_case"]) == ("0.7", "")


def test_claim_about_a_whole_experiment_has_no_case():
    text = checked(full_page(claims=claims(claim(case="all")))).text
    assert "li2022 claims 1 0 0 1 cases 0 0 0 0" in text
    assert "rest on" not in text


def test_a_case_may_be_named_all():
    (found,) = claim_entries(claims(claim(case="all"), claim(case="b"), overall("b", **RELU)))
    assert found["statistic"] == "0.7"
    assert [row["case"] for row in found["cases"]] == ["all", "b"]


def test_one_claim_on_two_experiments_makes_two_entries():
    rows = claims(*lone(), *lone(experiment="linear", case="linear"))
    found = claim_entries(rows)
    assert [(row["experiment"], row["only_case"]) for row in found] == [
        ("dense", "tanh"),
        ("linear", "linear"),
    ]
    assert "2 claims were judged" in checked(full_page(claims=rows)).text


def test_claims_without_a_row_for_all_cases_are_refused():
    with pytest.raises(ValueError, match="no row with case 'all' for the claim 'edge_of_stab"):
        full_page(claims=claims(claim()))


def test_verdicts_have_symbol_and_text():
    text = checked(full_page()).text
    for shown in ("✓ supported", "✗ not supported", "? inconclusive"):
        assert shown in text


def test_empty_claims_with_figures():
    page = checked(full_page(claims=claims()))
    assert page.text.count("No claim is judged on this figure.") == 3
    assert len(page.images) == 3


def test_figure_without_claims_says_so():
    assert "No claim is judged on this figure." in checked(full_page()).text


def test_claim_without_figure_says_so_and_has_no_link():
    page = checked(full_page(claims=claims(*lone(figure="alignment"))))
    assert "alignment not drawn in this run" in page.text
    assert not any("alignment" in link for link in page.links)
    assert "not drawn in this run" not in checked(full_page()).text


@pytest.mark.parametrize("failing", ["undefined for 2", "outright failure of 2"])
def test_undefined_statistics_are_shown_and_explained(failing):
    row = claim(
        statistic=np.nan,
        low=-np.inf,
        high=np.inf,
        band_high=np.inf,
        verdict="inconclusive",
        method=f"a mean; t-interval over 5 seeds, {failing}",
    )
    text = checked(full_page(claims=claims(row, {**row, "case": "all"}))).text
    assert f"? inconclusive – [−∞, ∞] {failing} of 5 ≥ 0.9 5" in text
    assert "undefined for at least one seed" in text


def test_missing_bounds_are_a_dash():
    missing = lone(low=np.nan, high=np.nan, confidence=np.nan, band_low=np.nan, band_high=1.0)
    assert "1.012 – ≤ 1 5" in checked(full_page(claims=claims(*missing))).text


def test_unknown_verdict_is_shown_and_counted_apart():
    text = checked(full_page(claims=claims(*lone(verdict="not judged")))).text
    assert "– not judged" in text
    assert "li2022 claims 0 0 0 1 1" in text
