"""The page of each paper has all of its content, and counts the verdicts that are recorded."""

import re
import sys
from collections import Counter

import pytest
import yaml
from specs import PAPERS, ROOT

sys.path.insert(0, str(ROOT / "docs"))

import paper_page


def test_each_paper_has_its_page():
    pages = {path.stem for path in ROOT.glob("docs/papers/*.md")}
    assert pages == set(PAPERS)
    for key in PAPERS:
        assert f"{{paper}} {key}\n" in (ROOT / "docs" / "papers" / f"{key}.md").read_text()


@pytest.mark.parametrize("key", PAPERS)
def test_a_page_names_every_figure_claim_and_experiment(key):
    text = paper_page.markdown(key)
    paper = yaml.safe_load((PAPERS[key] / "paper.yaml").read_text())
    for name in paper["figures"]:
        assert f"| `{name}` |" in text
    for file in (PAPERS[key] / "experiments").glob("*.yaml"):
        assert f"[`{file.stem}`]" in text
        for claim in yaml.safe_load(file.read_text()).get("claims", []):
            assert f"* `{claim}`: " in text


@pytest.mark.parametrize(("key", "page"), [("li2022", "verdicts"), ("beyond", "beyond")])
def test_a_page_links_the_run_that_its_verdicts_are_of(key, page):
    assert f"in [a finished run](../results/{page}.md)" in paper_page.markdown(key)


def test_counts_are_those_of_the_page_with_every_verdict():
    page = ROOT / "docs" / "results" / "verdicts.md"
    assert page in paper_page.verdict_pages()
    (line,) = re.findall(r"\d+ measurements: (.*)\.\n", page.read_text())
    told = Counter({name: int(n) for n, name in re.findall(r"(\d+) ([a-z ]+)", line)})
    counted = sum((c for key in ("li2022", "ziyin2024") for c in recorded(key)), Counter())
    assert counted == told


def recorded(key):
    return paper_page.recorded(key).values()
