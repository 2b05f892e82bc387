"""Claims on the page: one row each, every case under it, counts in words and numbers."""

import io

import numpy as np
import pandas as pd
import pytest
from report_page import (
    ELU,
    MEAN,
    PAPERS,
    RELU,
    SELU,
    checked,
    claim,
    claims,
    compare_with_claims,
    entry,
    full_page,
)
from scipy import stats

from sharpflow import recorded
from sharpflow.config.papers import read_papers
from sharpflow.report.markdown import MARKER, lines, replace_below
from sharpflow.report.verdicts import claim_entries, family, single_rows
from sharpflow.statistics.verdicts import holm


def entries(*rows: dict) -> list[dict]:
    return claim_entries(claims(*rows))


def text_of(*rows: dict) -> str:
    return checked(full_page(claims=claims(*rows))).text


def test_every_claim_appears_once_and_has_a_tile():
    rows = [claim(claim=f"claim_{i}", statement=f"Statement number {i};") for i in range(30)]
    page = checked(full_page(claims=claims(*rows)))
    for i in range(30):
        assert page.text.count(f"Statement number {i};") == 1
        assert page.links.count(f"#claim-li2022-dense-claim_{i}") == 1


class TestCounts:
    def test_verdicts_are_counted_by_claim_and_by_measurement(self):
        text = checked(full_page()).text
        assert (
            "2 claims were judged 2 times, each in an experiment: 1 supported, 1 not supported."
            in text
        )
        assert (
            "They rest on 5 measurements: 2 supported, 1 not supported, 1 straddles, 1 undefined."
        ) in text

    def test_the_worst_measurement_decides_and_is_counted_once(self):
        text = text_of(claim(case="a"), claim(case="b", **ELU))
        assert "1 claim was judged once: 1 straddles." in text
        assert "They rest on 2 measurements: 1 supported, 1 straddles." in text

    def test_a_control_is_shown_and_not_counted(self):
        slow = ELU | {"case": "slow", "control": True, "verdict": "not supported"}
        text = text_of(claim(case="a"), claim(**slow))
        assert "They rest on 1 measurement: 1 supported." in text
        assert "slow control" in " ".join(text.split())
        written = list(lines(claims(claim(case="a"), claim(**slow))))
        assert written[0].startswith(
            "1 claim, judged once, 1 measurement: 1 supported, 0 not supported"
        )
        assert "1 of 1 controls" in written[2]
        assert any(line.startswith("| `edge_of_stability` | slow (control) |") for line in written)

    def test_one_measurement_stands_for_itself(self):
        assert "They rest on 1 measurement: 1 supported." in text_of(claim(case="all"))

    def test_one_claim_on_two_experiments_is_one_that_is_judged_twice(self):
        rows = [claim(), claim(experiment="linear", case="linear")]
        found = entries(*rows)
        assert [(row["experiment"], row["only_case"]) for row in found] == [
            ("dense", "tanh"),
            ("linear", "linear"),
        ]
        assert "1 claim was judged 2 times, each in an experiment: 2 supported." in text_of(*rows)


class TestRows:
    def test_every_case_is_on_the_page_under_its_claim(self):
        rows = [
            claim(case=f"case {i}", inside=i % 6, median=i + 0.5, least=i, largest=i + 1)
            for i in range(40)
        ]
        page = checked(full_page(figures=[entry()], claims=claims(*rows)))
        for i in range(40):
            shown = (
                f"case {i} ✓ supported {i % 6} of 5 runs in the band [ 0.4782 , 1 ] "
                f"{i + 0.5} ( {i} to {i + 1} )"
            )
            assert page.folded.count(shown) == 1
        assert page.text.count("edge_of_stability, dense: 40 supported of 40 cases") == 1

    def test_a_single_case_is_one_row(self):
        page = checked(full_page(figures=[], claims=claims(claim())))
        assert page.text.count("1.012") == 1
        method = "Statistic of a seed: mean of Λ over 2/η. Interval: 95 % exact binomial interval "
        assert page.folded.count(method + "over 5 seeds.") == 1

    def test_a_case_may_be_named_all(self):
        (found,) = entries(claim(case="all"), claim(case="b", **RELU))
        assert found["result"] == "1 of 5"
        assert [row["case"] for row in found["cases"]] == ["all", "b"]

    def test_a_claim_with_nothing_but_controls_is_refused(self):
        with pytest.raises(ValueError, match="only controls of the claim 'edge_of_stab"):
            text_of(claim(control=True))

    def test_a_run_that_diverged_is_told(self):
        assert "4 of 5 failed (it diverged at step 46)" in text_of(claim(**RELU))

    @pytest.mark.parametrize(
        ("source", "said"),
        [
            ("paper: theorem 4.3", "Source: theorem 4.3. "),
            ("drawn here: of section 3", "Source: a consequence drawn here, of section 3. "),
            ("", "Source: not given. "),
        ],
    )
    def test_where_a_claim_comes_from(self, source, said):
        assert said in checked(full_page(claims=claims(claim(source=source)))).folded

    def test_a_band_that_was_changed_says_so(self):
        head = "The band of 1 claim was changed after verdicts had been seen: how stands under it."
        text = text_of(claim(revised="0.8 to 1.2 until May"), claim(claim="other"))
        assert head in text
        assert "Band changed after verdicts had been seen: 0.8 to 1.2 until May." in text
        assert "changed after verdicts had been seen:" not in text_of(claim())
        assert "beforehand" not in text

    def test_few_runs_are_told_in_the_head(self):
        rows = [claim(), claim(claim="many", seeds=20, inside=20), claim(claim="no", **RELU)]
        said = "1 of the 2 supported rests on 5 runs or fewer in a case:"
        assert said in text_of(*rows)
        assert "runs or fewer in a case" not in text_of(rows[1])
        mixed = [claim(case="a", seeds=20, inside=20), claim(case="b")]
        assert "1 of the 1 supported rests on 5" in text_of(*mixed)

    def test_the_values_of_the_seeds_are_linked(self):
        assert "../claims_by_seed.csv" in checked(full_page(by_seed="../claims_by_seed.csv")).links
        assert "claims_by_seed.csv" not in full_page()

    def test_a_written_explanation_stands_under_the_claim(self):
        papers = PAPERS | {
            "li2022": PAPERS["li2022"]
            | {"explanations": {"dense": {"edge_of_stability": {claim()["case"]: "Depth"}}}}
        }
        said = f"Why it does not hold in {claim()['case']}: Depth."
        assert said in checked(full_page(claims=claims(claim(**RELU)), papers=papers)).folded
        assert said not in checked(full_page(claims=claims(claim()), papers=papers)).folded
        other = claims(claim(experiment="linear", **RELU))
        assert said not in checked(full_page(claims=other, papers=papers)).folded

    def test_verdicts_have_symbol_and_text(self):
        text = checked(full_page()).text
        for shown in ("✓ supported", "✗ not supported", "? straddles", "– undefined"):
            assert shown in text

    @pytest.mark.parametrize("given", [RELU, ELU, SELU])
    def test_a_reason_stands_beside_the_verdict(self, given):
        (found,) = entries(claim(**given))
        shown = f"{found['symbol']} {given['verdict']} {given['reason']} {given['inside']} of 5"
        assert text_of(claim(**given)).count(shown) == 1

    @pytest.mark.parametrize("kind", ["stated", "derived", "chosen"])
    def test_the_origin_of_a_band_is_explained(self, kind):
        page = checked(full_page(claims=claims(claim(origin=f"{kind}: for a reason: this"))))
        assert page.folded.count(f"Band {kind}: for a reason: this.") == 1

    def test_what_would_have_been_noticed(self):
        page = checked(full_page(claims=claims(claim(**MEAN))))
        said = "Would have noticed, four times in five: a mean 0.047 outside the band."
        assert page.folded.count(said) == 1

    def test_a_mean_shows_itself_and_runs_their_number(self):
        assert "✓ supported 1.012 mean [ 0.98 , 1.04 ] 1.012 ( 0.98 to 1.04 )" in text_of(
            claim(**MEAN)
        )
        assert "✓ supported 5 of 5 runs in the band [ 0.4782 , 1 ]" in text_of(claim())

    def test_without_any_value_the_place_of_the_median_is_empty(self):
        nothing = {"inside": 0, "undefined": 5, "low": 0.0, "statistic": 0.0}
        nothing |= dict.fromkeys(("median", "least", "largest"), np.nan)
        row = claim(**SELU | nothing | {"reason": "5 of 5 undefined (too short)"})
        shown = "5 of 5 undefined (too short) 0 of 5 runs in the band [ 0 , 1 ] Source"
        assert shown in text_of(row)

    def test_an_unknown_mean_has_infinite_bounds(self):
        missing = {"statistic": np.nan, "low": -np.inf, "high": np.inf}
        row = claim(**MEAN | SELU | missing)
        assert "undefined 1 of 5 undefined (too short) – mean [ −∞ , ∞ ]" in text_of(row)

    def test_a_one_sided_band(self):
        assert "Band ≥ 0.9" in text_of(claim(band_high=np.inf))
        assert "Band ≤ 1.1" in text_of(claim(band_low=-np.inf))

    def test_rows_that_were_written_and_read_again_give_the_same_page(self):
        rows = claims(
            claim(),
            claim(case="relu", **RELU),
            claim(claim="norm", figure="", case="1", **MEAN),
        )
        read = pd.read_csv(io.StringIO(rows.to_csv(index=False)))
        assert full_page(claims=read) == full_page(claims=rows)

    def test_a_dash_in_a_reason_stays(self):
        assert "1 to 2 – or 3" in text_of(claim(reason="1 to 2 – or 3"))

    def test_every_number_is_that_of_the_table(self):
        rows = [claim(), claim(case="relu", **RELU), claim(case="elu", **ELU)]
        table = claims(*rows, claim(claim="norm", **MEAN))
        page = full_page(figures=[entry()], claims=table)
        assert compare_with_claims(page, table) == 3 * 7 + 6 + 5
        altered = table.assign(median=table["median"] + 0.01)
        with pytest.raises(AssertionError):
            compare_with_claims(page, altered)


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

    def test_cases_are_in_the_family_once(self):
        rows = [claim(case="a"), claim(case="b", **RELU)]
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
    assert page.text.count("No claim is judged on what this figure draws alone.") == 3
    assert len(page.images) == 3


def test_claim_whose_data_no_figure_draws_says_so():
    page = checked(full_page(claims=claims(claim()), judged={}))
    assert "no figure draws all of its data" in page.text
    assert "Judged on what this figure draws" not in page.text
    assert "no figure draws all of its data" not in checked(full_page(claims=claims(claim()))).text


def test_markdown_has_a_row_a_measurement():
    table = claims(claim(), claim(case="relu", **RELU), claim(claim="norm", **MEAN))
    found = list(lines(table))
    rows = [line for line in found if line.startswith("| `")]
    assert len(rows) == len(table) == 3
    assert found[0].startswith("2 claims, judged 2 times (each in an experiment), 3 measurements:")
    for row in table.itertuples():
        assert any(
            line.startswith(f"| `{row.claim}` | {row.case} |") and row.verdict in line
            for line in rows
        )
    assert all(line.count(" | ") == 5 for line in rows)


def run_recorded(monkeypatch, *arguments) -> int:
    monkeypatch.setattr("sys.argv", ["recorded", *map(str, arguments)])
    return recorded.main()


def test_a_finished_run_is_kept_with_its_paper(tmp_path, monkeypatch):
    """The page finds it under the names that it looks for; controls are left out."""
    rows = claims(claim(), claim(case="relu", **RELU), claim(claim="norm", **MEAN))
    control = claims(claim(case="wrong", control=True, **RELU), claim(paper="other"))
    pd.concat([rows, control]).to_csv(tmp_path / "claims.csv")
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "paper.yaml").write_text("key: li2022\ntitle: t\n")
    arguments = tmp_path / "claims.csv", folder, "--source", "here"
    assert run_recorded(monkeypatch, *arguments) == 0
    (home,) = read_papers(tmp_path / "config.yaml", ["mine"]).values()
    kept = home.recorded()
    assert kept["source"] == "here"
    found = kept["verdicts"]["dense"]
    assert {claim: list(cases) for claim, cases in found.items()} == {
        "edge_of_stability": ["tanh", "relu"],
        "norm": ["tanh"],
    }
    for row in rows.itertuples():
        verdict, result = found[row.claim][row.case]
        assert verdict == row.verdict
        assert (f"{row.inside} of {row.seeds} runs" == result) or "[" in result


def test_what_cannot_be_kept_is_refused(tmp_path, monkeypatch, capsys):
    claims(claim()).to_csv(tmp_path / "claims.csv")
    arguments = tmp_path / "claims.csv", tmp_path, "--source", "here"
    assert run_recorded(monkeypatch, *arguments) == 1
    assert "no folder of a paper" in capsys.readouterr().err
    (tmp_path / "paper.yaml").write_text("key: other\ntitle: t\n")
    assert run_recorded(monkeypatch, *arguments) == 1
    assert "no claim of other" in capsys.readouterr().err


def test_what_is_above_the_marker_stays(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("# Title\n\nWords.\n")
    for made in (["one", "two"], ["three"]):
        replace_below(path, made)
    assert path.read_text() == f"# Title\n\nWords.\n\n{MARKER}\n\nthree\n"
    replace_below(tmp_path / "new.md", ["line"])
    assert (tmp_path / "new.md").read_text() == f"{MARKER}\n\nline\n"
