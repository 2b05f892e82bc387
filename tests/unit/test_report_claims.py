"""Claims on the page: one row each, every case under it, counts in words and numbers."""

import io

import numpy as np
import pandas as pd
import pytest
from report_page import ELU, MEAN, RELU, SELU, checked, claim, claims, entry, full_page, overall
from scipy import stats

from sharpflow.report.markdown import MARKER, lines, replace_below
from sharpflow.report.verdicts import claim_entries, family, single_rows
from sharpflow.statistics.verdicts import holm


def entries(*rows: dict) -> list[dict]:
    return claim_entries(claims(*rows))


def text_of(*rows: dict) -> str:
    return checked(full_page(claims=claims(*rows))).text


def test_every_claim_appears_in_the_list_and_at_its_figure():
    rows = [claim(claim=f"claim_{i}", statement=f"Statement number {i};") for i in range(30)]
    text = text_of(*rows)
    for i in range(30):
        assert text.count(f"Statement number {i};") == 2


class TestCounts:
    def test_verdicts_are_counted_by_claim_and_by_measurement(self):
        text = checked(full_page()).text
        heads = "Paper Counted ✓ supported ✗ not supported ? straddles – undefined all"
        assert heads in text
        assert "li2022 claims 0 1 0 0 1 measurements 1 1 1 1 4" in text
        assert "ziyin2024 claims 1 0 0 0 1 measurements 1 0 0 0 1" in text
        assert "all papers claims 1 1 0 0 2 measurements 2 1 1 1 5" in text
        assert "2 claims were judged: 1 supported, 1 not supported." in text
        assert (
            "They rest on 5 measurements, judged one by one: "
            "2 supported, 1 not supported, 1 straddles, 1 undefined."
        ) in text

    def test_a_summary_is_no_measurement(self):
        text = text_of(claim(case="a"), claim(case="b", **ELU), overall("b", **ELU))
        assert "1 claim was judged: 1 straddles." in text
        assert "rest on 2 measurements, judged one by one: 1 supported, 1 straddles." in text
        assert "li2022 claims 0 0 1 0 1 measurements 1 0 1 0 2" in text

    @pytest.mark.parametrize(("given", "place"), [(ELU, 2), (SELU, 3)])
    def test_what_settles_nothing_has_columns_of_its_own(self, given, place):
        numbers = ["1" if i in (place, 4) else "0" for i in range(5)]
        text = text_of(claim(**given))
        assert f"li2022 claims {' '.join(numbers)} measurements {' '.join(numbers)}" in text

    def test_one_measurement_stands_for_itself(self):
        text = text_of(claim(case="all"))
        assert "li2022 claims 1 0 0 0 1 measurements 1 0 0 0 1" in text
        assert "They rest on 1 measurement, judged one by one: 1 supported." in text

    def test_one_claim_on_two_experiments_counts_twice(self):
        rows = [claim(), claim(experiment="linear", case="linear")]
        found = entries(*rows)
        assert [(row["experiment"], row["only_case"]) for row in found] == [
            ("dense", "tanh"),
            ("linear", "linear"),
        ]
        assert "2 claims were judged: 2 supported." in text_of(*rows)


class TestRows:
    def test_every_case_is_on_the_page_under_its_claim(self):
        rows = [
            claim(case=f"case {i}", inside=i % 6, median=i + 0.5, least=i, largest=i + 1)
            for i in range(40)
        ]
        worst = overall("case 7", inside=1, median=7.5, least=7, largest=8)
        page = checked(full_page(figures=[entry()], claims=claims(*rows, worst)))
        for i in range(40):
            shown = (
                f"case {i} exact binomial interval over 5 seeds; would have noticed a failure in "
                f"28 % of runs ✓ supported {i % 6} of 5 runs in the band [0.4782, 1] "
                f"{i + 0.5} ({i} to {i + 1}) 0.9 to 1.1 chosen"
            )
            assert page.text.count(shown) == 2
            assert page.folded.count(shown) == 2
        head = "experiment dense ✓ supported worst case: case 7 1 of 5 runs in the band"
        assert page.text.count(head) == 2
        assert head not in page.folded
        assert page.folded.count("so its row repeats the worst one.") == 2
        assert page.text.count("40 cases (40 supported) and method") == 2

    def test_a_single_case_is_not_repeated(self):
        page = checked(full_page(figures=[entry()], claims=claims(claim())))
        assert page.text.count("1.012") == 2
        assert page.text.count("experiment dense , case tanh ✓ supported 5 of 5 runs in the") == 2
        assert "worst" not in page.folded
        method = "Statistic of a seed: mean of Λ over 2/η. Interval: 95 % exact binomial interval "
        assert page.folded.count(method + "over 5 seeds.") == 2

    def test_claim_about_a_whole_experiment_has_no_case(self):
        (found,) = entries(claim(case="all"))
        assert (found["only_case"], found["cases"]) == ("", [])
        assert ", case" not in text_of(claim(case="all"))

    def test_a_case_may_be_named_all(self):
        (found,) = entries(claim(case="all"), claim(case="b", **RELU), overall("b", **RELU))
        assert found["result"] == "1 of 5"
        assert [row["case"] for row in found["cases"]] == ["all", "b"]

    @pytest.mark.parametrize(
        ("rows", "many"),
        [
            ([claim(case="a"), claim(case="b")], 0),
            ([claim(case="a"), claim(case="b"), overall("a"), overall("b")], 2),
        ],
    )
    def test_several_rows_need_one_summary(self, rows, many):
        with pytest.raises(ValueError, match=f"has {many} summaries of the claim 'edge_of_stab"):
            text_of(*rows)

    def test_verdicts_have_symbol_and_text(self):
        text = checked(full_page()).text
        for shown in ("✓ supported", "✗ not supported", "? straddles", "– undefined"):
            assert shown in text

    @pytest.mark.parametrize("given", [RELU, ELU, SELU])
    def test_a_reason_stands_beside_the_verdict(self, given):
        (found,) = entries(claim(**given))
        shown = f"{found['symbol']} {given['verdict']} {given['reason']} {found['result']}"
        assert text_of(claim(**given)).count(shown) == 2

    def test_the_reason_of_a_summary_names_the_worst_case(self):
        rows = [claim(case="a"), claim(case="b", **RELU), overall("b", **RELU)]
        assert "✗ not supported worst case: b; 4 of 5 failed (it diverged)" in text_of(*rows)

    @pytest.mark.parametrize("kind", ["stated", "derived", "chosen"])
    def test_the_origin_of_a_band_is_shown_and_explained(self, kind):
        page = checked(full_page(claims=claims(claim(origin=f"{kind}: for a reason: this"))))
        assert page.text.count(f"0.9 to 1.1 {kind} phases") == 1
        assert page.folded.count(f"Band {kind}: for a reason: this.") == 2

    def test_what_would_have_been_noticed(self):
        page = checked(full_page(figures=[entry()], claims=claims(claim(**MEAN))))
        said = "Would have noticed, four times in five: a mean 0.047 outside the band."
        assert page.folded.count(said) == 2

    def test_a_mean_shows_itself_and_runs_their_number(self):
        assert entries(claim(**MEAN))[0]["result"] == "1.012"
        assert "✓ supported 1.012 mean [0.98, 1.04] 1.012 (0.98 to 1.04)" in text_of(claim(**MEAN))
        assert "✓ supported 5 of 5 runs in the band [0.4782, 1]" in text_of(claim())

    def test_without_any_value_the_place_of_the_median_is_empty(self):
        nothing = {"inside": 0, "undefined": 5, "low": 0.0, "statistic": 0.0}
        nothing |= dict.fromkeys(("median", "least", "largest"), np.nan)
        row = claim(**SELU | nothing | {"reason": "5 of 5 undefined (too short)"})
        shown = "– undefined 5 of 5 undefined (too short) 0 of 5 runs in the band [0, 1] 0.9 to 1.1"
        assert shown in text_of(row)

    def test_an_unknown_mean_has_infinite_bounds(self):
        missing = {"statistic": np.nan, "low": -np.inf, "high": np.inf}
        row = claim(**MEAN | SELU | missing)
        assert "undefined 1 of 5 undefined (too short) – mean [−∞, ∞]" in text_of(row)

    def test_a_one_sided_band(self):
        assert "≥ 0.9 chosen" in text_of(claim(band_high=np.inf))
        assert "≤ 1.1 chosen" in text_of(claim(band_low=-np.inf))

    def test_rows_that_were_written_and_read_again_give_the_same_page(self):
        rows = claims(
            claim(),
            claim(case="relu", **RELU),
            overall("relu", **RELU),
            claim(claim="norm", figure="", case="1", **MEAN),
        )
        read = pd.read_csv(io.StringIO(rows.to_csv(index=False)))
        assert full_page(claims=read) == full_page(claims=rows)

    def test_a_dash_in_a_reason_stays(self):
        assert "1 to 2 – or 3" in text_of(claim(reason="1 to 2 – or 3"))


class TestFamily:
    """What chance would make of many verdicts at once."""

    @staticmethod
    def rows(*p_values: float, size: float = 0.01) -> list[dict]:
        return single_rows(
            entries(
                *(
                    claim(claim=f"c{place}", **RELU | {"p_value": p, "size": size})
                    if p < 0.05
                    else claim(claim=f"c{place}", p_value=p, size=size)
                    for place, p in enumerate(p_values)
                )
            )
        )

    def test_counts_by_hand(self):
        # Of six: 0.001·6 and 0.009·5 stay below 0.05, 0.02·4 does not.
        found = family(self.rows(0.001, 0.009, 0.02, 1.0, 1.0, 1.0))
        assert (found["rejected"], found["remaining"]) == (3, 2)
        assert (found["by_chance"], found["level"]) == ("0.1", "5\u00a0%")

    def test_is_holms_procedure_over_all_measurements(self):
        p_values = stats.beta(0.3, 1).rvs(40, random_state=1)
        found = family(self.rows(*p_values))
        assert found["rejected"] == int(np.sum(p_values < 0.05)) > found["remaining"]
        assert found["remaining"] == int(np.sum(holm(p_values) < 0.05))

    def test_summaries_are_not_in_the_family(self):
        rows = [claim(case="a"), claim(case="b", **RELU), overall("b", **RELU)]
        assert len(single_rows(entries(*rows))) == 2
        assert family(single_rows(entries(*rows)))["rejected"] == 1

    def test_the_sentence_with_one_and_with_several_rejected(self):
        one = text_of(claim(**RELU | {"p_value": 0.01}))
        assert (
            "Of the 1 that is not supported 1 stays so at a family-wise error of 5 % "
            "(Holm’s procedure over all measurements); were every claim true, "
            "at most 0.0 would be expected by chance."
        ) in one
        rows = [claim(claim=f"c{i}", **RELU | {"p_value": 0.02}) for i in range(3)]
        many = text_of(*rows, claim(claim="d", size=0.3))
        assert "Of the 3 that are not supported 0 stay so at a family-wise error of 5 %" in many
        assert "at most 0.3 would be expected by chance." in many

    def test_the_sentence_where_none_is(self):
        said = "Were every claim true, at most 0.0 would be expected not to be supported by chance;"
        assert f"{said} none is." in text_of(claim())
        assert "Holm" not in text_of(claim())


def test_the_words_are_explained():
    text = checked(full_page()).text
    for word in ("Runs in the band", "Mean", "straddles", "undefined", "stated", "derived"):
        assert word in text
    assert "with an exact binomial interval (95 % confidence) for the share of runs" in text


def test_empty_claims_with_figures():
    page = checked(full_page(claims=claims()))
    assert page.text.count("No claim is judged on this figure.") == 3
    assert len(page.images) == 3


def test_figure_without_claims_says_so():
    assert "No claim is judged on this figure." in checked(full_page()).text


def test_claim_without_figure_says_so_and_has_no_link():
    page = checked(full_page(claims=claims(claim(figure="alignment"))))
    assert "alignment not drawn in this run" in page.text
    assert not any("alignment" in link for link in page.links)
    assert "not drawn in this run" not in checked(full_page()).text


def test_markdown_has_a_row_a_measurement_and_no_summary():
    table = claims()
    found = list(lines(table))
    rows = [line for line in found if line.startswith("| `")]
    single = table[~table["summary"].astype(bool)]
    assert len(rows) == len(single)
    assert f"{len(single)} measurements" in found[0]
    for row in single.itertuples():
        assert any(
            line.startswith(f"| `{row.claim}` | {row.case} |") and row.verdict in line
            for line in rows
        )
    assert all(line.count(" | ") == 5 for line in rows)


def test_what_is_above_the_marker_stays(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("# Title\n\nWords.\n")
    for made in (["one", "two"], ["three"]):
        replace_below(path, made)
    assert path.read_text() == f"# Title\n\nWords.\n\n{MARKER}\n\nthree\n"
    replace_below(tmp_path / "new.md", ["line"])
    assert (tmp_path / "new.md").read_text() == f"{MARKER}\n\nline\n"
