"""The answer: what came out, in sentences, reasons and cards that follow from the tables alone."""

import numpy as np
import pytest
from report_page import (
    ELU,
    JUDGED,
    MEAN,
    PAPERS,
    RELU,
    SELU,
    SETTINGS,
    checked,
    claim,
    claims,
    entry,
    full_page,
)

from sharpflow.report.answer import answer, explained, place, sentences, statements, why_open
from sharpflow.report.places import places
from sharpflow.report.reasons import (
    BAND_END,
    DIVERGED,
    EXPLAINED,
    MOST_SEEDS,
    NO_VALUE,
    SEEDS,
    UNKNOWN,
    reason,
    seeds_needed,
)
from sharpflow.report.verdicts import claim_entries
from sharpflow.statistics.verdicts import REAL, judge_mean, judge_runs

SMALLER = [("training.steps", "700", "1200")]
LOW = {"verdict": "not supported", "reason": "5 of 5 outside the band", "inside": 0}
SAYS = [
    {"name": "the edge", "text": "It stays.", "claims": ["edge_of_stability", "cycles"]},
    {"name": "the norm", "text": "It follows.", "claims": ["norm"]},
    {"name": "what nobody judged", "text": "Nothing.", "claims": ["absent"]},
]


def entries(*rows: dict) -> list[dict]:
    return [row | {"anchor": None} for row in claim_entries(claims(*rows))]


def judged(values, band=(0.9, 1.1), support=REAL, **changes) -> dict:
    """The row of a claim as the engine judges these values."""
    mean = changes.get("estimand") == "mean"
    found = judge_mean(values, band, support) if mean else judge_runs(values, band)
    return claim(
        method=f"a level; {found.interval.method}",
        statistic=found.interval.statistic,
        low=found.interval.low,
        high=found.interval.high,
        verdict=found.verdict,
        reason=found.reason,
        seeds=len(values),
        inside=found.inside,
        band_low=band[0],
        band_high=band[1],
        **changes,
    )


class TestSentences:
    def groups(self, *rows, says=SAYS):
        return statements({"says": says}, entries(*rows))

    def test_the_paper_orders_the_claims(self):
        groups = self.groups(claim(claim="other"), claim(claim="norm"), claim(claim="cycles"))
        assert [g["name"] for g in groups] == ["the edge", "the norm", "Further claims"]
        found = [e["claim"] for g in groups for e in g["entries"]]
        assert found == ["cycles", "norm", "other"]

    def test_they_say_what_came_out(self):
        rows = [claim(), claim(claim="norm", **RELU), claim(claim="cycles", **ELU)]
        first, second = sentences(self.groups(*rows))
        assert first == (
            "3 claims, judged 3 times (each in an experiment): 1 is supported in every case (1 of "
            "them on 5 runs or fewer in a case), 1 is not supported in one or more, and for 1 the "
            "runs do not decide; behind them are 3 measurements, of which 1 is supported and 1 not."
        )
        assert second == (
            "Supported in some claims: the edge (1 of 2); "
            "in no claim throughout: the norm (0 of 1)."
        )

    def test_other_verdicts_give_other_sentences(self):
        _, second = sentences(self.groups(claim(), claim(claim="norm")))
        assert second == "Supported in every claim: the edge (1 of 1) and the norm (1 of 1)."

    def test_each_statement_stands_in_full_before_its_verdicts(self):
        rows = claims(claim(), claim(claim="norm", **RELU), claim(claim="cycles", **ELU))
        papers = {key: dict(paper) | {"says": SAYS} for key, paper in PAPERS.items()}
        text = " ".join(checked(full_page(papers=papers, claims=rows)).text.split())
        edge, norm = text.index("It stays."), text.index("It follows.")
        assert edge < text.index("1 of 2 measurements supported") < norm
        assert norm < text.index("0 of 1 measurement supported")

    def test_consequences_drawn_here_are_told_apart(self):
        rows = [claim(), claim(claim="norm", source="drawn here: from it", **RELU)]
        first, _ = sentences(self.groups(*rows))
        assert first.startswith("2 claims (1 of them consequences drawn here), judged 2 times")
        text = checked(full_page(claims=claims(*rows))).text
        assert text.count("; drawn here") == 1
        assert "; drawn here" not in checked(full_page()).text

    def test_a_card_is_drawn_here_where_the_publication_states_none_of_its_claims(self):
        here, stated = claim(source="drawn here: from it"), claim(claim="norm", source="paper: § 2")
        rows = entries(here, stated)
        assert place(entry(published=""), rows[:1]) == "No figure of the publication: drawn here"
        assert place(entry(published=""), rows) == "Publication, § 2"
        assert place(entry(published="Figure 2"), rows) == "Figure 2 of the publication"
        unsaid = entries(claim(source=""))
        assert place(entry(published=""), unsaid) == "Publication, place not given"
        assert place(entry(published=""), unsaid, published=False) == "No publication is named"
        assert place(entry(published=""), rows[1:], published=False) == "Publication, § 2"

    def test_without_statements_or_claims(self):
        assert len(sentences(self.groups(claim(), says=["It stays."]))) == 1
        assert sentences([]) == ["No claim of this paper was judged in this run."]


class TestReasons:
    def row(self, **changes) -> dict:
        return entries(claim(**changes))[0]

    def test_few_seeds(self):
        found = reason(self.row(**ELU), SMALLER)
        assert found.kind == SEEDS
        assert found.text.startswith("5 were run; about ")

    def test_a_level_at_the_end_of_its_band(self):
        row = judged([1.09, 1.11, 1.10001], estimand="mean", origin="derived: a law")
        found = reason(entries(row)[0], SMALLER)
        assert found.kind == BAND_END
        assert found.text.endswith(
            f"against a band of 0.9 to 1.1; {MOST_SEEDS} seeds like these would not decide"
        )

    @pytest.mark.parametrize(
        ("changes", "given", "kind", "text"),
        [
            (RELU, {}, DIVERGED, "4 of 5 failed (it diverged at step 46)"),
            (RELU, {"explanation": "it is"}, DIVERGED, f"{RELU['reason']}; it is"),
            (
                LOW, {"explanation": "all layers grow"}, EXPLAINED,
                "5 of 5 outside the band; all layers grow",
            ),
            (
                SELU, {"explanation": "it is short"}, EXPLAINED,
                "1 of 5 undefined (too short); it is short",
            ),
            (SELU, {}, NO_VALUE, "1 of 5 undefined (too short)"),
            (LOW, {"differences": None}, UNKNOWN, "5 of 5 outside the band"),
            (
                LOW, {}, UNKNOWN,
                "5 of 5 outside the band; it differs from the paper in training.steps 700 (1200)",
            ),
            (
                LOW, {"differences": SMALLER * 5}, UNKNOWN,
                "5 of 5 outside the band; it differs from the paper in "
                + ", ".join(["training.steps 700 (1200)"] * 3) + " and 2 more",
            ),
            (
                LOW, {"differences": []}, UNKNOWN,
                "5 of 5 outside the band; the scale is not the cause, for it is the paper’s",
            ),
            (
                LOW, {"recorded": "not supported"}, UNKNOWN,
                "5 of 5 outside the band; the scale is not the cause, for the same is recorded at "
                "the paper’s",
            ),
        ],
    )  # fmt: skip
    def test_a_cause_is_told_where_it_is_shown_and_else_said_not_to_be(
        self, changes, given, kind, text
    ):
        asked = {"differences": SMALLER} | given
        assert reason(self.row(**changes), **asked) == (kind, text)

    def test_few_seeds_are_told_beside_the_explanation(self):
        found = reason(self.row(**ELU), SMALLER, explanation="noise")
        assert (found.kind, found.text.endswith("would decide; noise")) == (SEEDS, True)

    def test_a_mean_is_told_against_its_band(self):
        row = judged([1.3, 1.31, 1.32], estimand="mean")
        found = reason(entries(row)[0], None)
        assert found.kind == UNKNOWN
        assert found.text.startswith("1.31 [1.285, 1.335] against a band of 0.9 to 1.1")

    def test_a_line_names_cases_and_what_the_papers_scale_says(self):
        rows = [claim(), claim(case="relu", **RELU), claim(case="elu", **ELU)]
        (found,) = entries(*rows)
        line = why_open(found, {"dense": SMALLER}, {"relu": ["supported", "1.0 [0.9, 1.1]"]})
        assert line["cases"] == "not supported: relu; straddles: elu"
        assert line["scale"] == "At the paper’s scale: relu supported (1.0 [0.9, 1.1])."
        assert line["text"].startswith(f"relu: {RELU['reason']}")
        unknown = why_open(found, {"dense": SMALLER}, None)
        assert unknown["scale"] == ""
        assert why_open(found, {"dense": []}, None)["scale"] == "This is the paper’s scale."
        assert why_open(found, None, None)["scale"] == ""

    def test_what_is_written_of_one_case_is_told_of_no_other(self):
        rows = [claim(case="tanh", **LOW), claim(case="relu (width 2)", **LOW), claim(case="elu")]
        (found,) = entries(*rows)
        texts = {"tanh": "it slides", "elu": "it holds"}
        paper = {"explanations": {"dense": {found["claim"]: texts}}}
        assert explained(paper, found) == {"tanh": "it slides"}
        assert explained(paper, found | {"experiment": "linear"}) == {}
        line = why_open(found, None, None, texts)
        assert (line["kind"], line["text"]) == (EXPLAINED, f"tanh: {LOW['reason']}; it slides")
        line = why_open(found, None, None, {"relu": "it slides"})
        assert (line["kind"], line["text"]) == (UNKNOWN, f"tanh: {LOW['reason']}")
        both = dict.fromkeys(("tanh", "relu"), "it slides")
        paper = {"explanations": {"dense": {found["claim"]: both}}}
        assert explained(paper, found) == {"tanh, relu (width 2)": "it slides"}


class TestSeedsNeeded:
    """The advice is checked by judging so many seeds of the same kind."""

    def test_of_a_bounded_mean_none_is_known(self):
        row = judged([0.2, 0.9, 0.95, 1.0, 1.0], estimand="mean", support=(0, 1))
        assert row["verdict"] == "straddles"
        assert seeds_needed(entries(row)[0]) is None

    @pytest.mark.parametrize("centre", [1.0, 1.03, 1.2, 0.8])
    def test_of_a_mean(self, centre):
        def like(count):
            """Values of this mean and of a spread of 0.2, whatever their number."""
            values = np.arange(count) - (count - 1) / 2
            return centre + 0.2 * values / values.std(ddof=1)

        row = judged(like(5), estimand="mean")
        assert row["verdict"] == "straddles"
        count = seeds_needed(entries(row)[0])
        assert 5 < count <= MOST_SEEDS
        assert judge_mean(like(count), (0.9, 1.1)).verdict != "straddles"
        assert judge_mean(like(count - 1), (0.9, 1.1)).verdict == "straddles"

    def test_of_a_positive_mean(self):
        spread = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
        row = judged(np.exp(0.15 * spread), support=(0.0, np.inf), estimand="mean")
        count = seeds_needed(entries(row)[0])
        assert row["verdict"] == "straddles"
        values = np.arange(count) - (count - 1) / 2
        scaled = np.exp(0.15 * spread.std(ddof=1) * values / values.std(ddof=1))
        assert judge_mean(scaled, (0.9, 1.1), (0.0, np.inf)).verdict == "supported"

    @pytest.mark.parametrize(("inside", "count"), [(4, 5), (3, 5), (2, 3), (1, 2)])
    def test_of_runs(self, inside, count):
        row = judged([1.0] * inside + [2.0] * (count - inside))
        assert row["verdict"] == "straddles"
        needed = seeds_needed(entries(row)[0])
        expected = round(inside / count * needed)
        again = judge_runs([1.0] * expected + [2.0] * (needed - expected), (0.9, 1.1))
        assert needed > count
        assert again.verdict != "straddles"

    def test_of_two_runs_in_the_band(self):
        assert seeds_needed(entries(judged([1.0, 1.0]))[0]) == 3

    def test_none_where_no_number_would_do(self):
        assert seeds_needed(entries(judged([1.0] * 9 + [2.0]))[0]) is None


class TestPlaces:
    """A claim stands beside a figure that drew all that it is judged on, and nowhere else."""

    def place(self, drawn, judged=JUDGED, settings=SETTINGS):
        figures = [entry(drawn={}), entry("second", drawn={"dense": drawn}), entry("third")]
        return places(figures, judged, settings)

    def test_the_first_figure_that_draws_it(self):
        drawn = [["tanh", 8, 0.02, "gauss_newton_sharpness"]]
        expected = {("dense", "edge_of_stability"): "figure-li2022-second"}
        assert self.place(drawn) == expected
        assert self.place([*drawn, ["relu", 8, 0.02, "loss"]]) == expected

    @pytest.mark.parametrize(
        "drawn",
        [
            ["relu", 8, 0.02, "gauss_newton_sharpness"],
            ["tanh", 16, 0.02, "gauss_newton_sharpness"],
            ["tanh", 8, 0.01, "gauss_newton_sharpness"],
            ["tanh", 8, 0.02, "loss"],
        ],
    )
    def test_not_one_that_draws_another_case_width_rate_or_quantity(self, drawn):
        found = self.place([drawn])
        assert found == {("dense", "edge_of_stability"): "figure-li2022-third"}

    def test_not_one_that_draws_a_part(self):
        more = {"cases": {"tanh": {"widths": [8], "learning_rates": ["0.02", "0.01"]}}}
        assert self.place([], settings={"dense": SETTINGS["dense"] | more}) == {}

    def test_a_figure_says_what_was_judged_on_it(self):
        page = checked(full_page())
        said = "Judged on what this figure draws: ✗ edge of stability"
        assert page.text.count(said) == 1
        assert page.links.count("#figure-li2022-phases") == 2


class TestCards:
    def card(self, *rows, **paper):
        figures = [entry()]
        found = [row | {"anchor": figures[0].anchor} for row in claim_entries(claims(*rows))]
        (card,) = answer(PAPERS["li2022"] | paper, found, figures)["cards"]
        return card

    def test_published_beside_ours(self):
        card = self.card(claim(), published={"edge_of_stability": "about 2/η"})
        assert (card["published"], card["shown"]["result"]) == ("about 2/η", "5 of 5")
        text = checked(
            full_page(
                figures=[entry()],
                claims=claims(claim()),
                papers={"li2022": PAPERS["li2022"] | {"published": {"edge_of_stability": "2/η"}}},
            )
        ).text
        assert "paper 2/η here 1.012 ( 0.98 to 1.04 ), 5 of 5 runs in the band" in text

    def test_of_several_cases_one_that_decides(self):
        rows = [claim(), claim(case="relu", **RELU)]
        assert self.card(*rows)["case"] == "relu"

    def test_a_figure_without_claims(self):
        (card,) = answer(PAPERS["li2022"], entries(claim()), [entry()])["cards"]
        assert card["first"] is None

    def test_the_paper_of_a_mean(self):
        assert self.card(claim(**MEAN))["shown"]["interval"] == "[0.98, 1.04]"

    def test_a_card_leads_to_the_figure_of_the_publication(self):
        figures = [entry(published="Figure 3, left", links={"PDF": "../figures/a.pdf"})]
        page = checked(full_page(figures=figures))
        assert "Title of phases Figure 3, left of the publication" in page.text
        assert page.links.count(PAPERS["li2022"]["link"]) == 2
        assert "../figures/a.pdf" in page.links
        assert "Figure 3, left: Title of phases li2022" in page.text

    @pytest.mark.parametrize(
        ("source", "place"),
        [
            (
                "paper: section 4",
                "Publication, section 4",
            ),
            ("drawn here: from it", "No figure of the publication: drawn here"),
            ("", "Publication, place not given"),
        ],
    )
    def test_a_card_without_a_number_says_where_it_belongs(self, source, place):
        assert self.card(claim(source=source))["place"] == place
        page = checked(full_page(figures=[entry()], claims=claims(claim(source=source))))
        assert place in page.text
