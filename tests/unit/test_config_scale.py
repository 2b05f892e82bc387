"""What papers say of their claims, the papers' own scale, and settings that are not the default."""

from pathlib import Path

import pytest

from sharpflow.cli import skeletons
from sharpflow.config import load, make_plan
from sharpflow.config.papers import find_experiments, shipped_papers
from sharpflow.config.plan import differences
from sharpflow.config.scale import differences as apart
from sharpflow.config.scale import shortfalls
from sharpflow.errors import ConfigError
from sharpflow.report.verdicts import VERDICTS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shipped():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        yield load("config/config.yaml")


@pytest.mark.parametrize("name", ["paper", "neighbours"])
def test_every_claim_that_is_judged_stands_in_one_statement_of_its_paper(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    whole = load(f"config/{name}.yaml")
    for key, home in whole.papers.items():
        said = [name for statement in home.paper.says for name in statement.claims]
        assert len(said) == len(set(said))
        judged = {
            claim.name
            for experiment, claims in whole.claims.items()
            for claim in claims
            if whole.experiments[experiment].paper == key
        }
        assert judged == set(said), key
        assert set(home.paper.published) <= judged


def test_every_claim_of_a_paper_says_where_it_comes_from():
    papers = shipped_papers()
    found = find_experiments(papers, "none")
    for key, home in papers.items():
        documents = [item.read() for item in found.values() if item.home is home]
        named = {name.rpartition("/")[2] for each in documents for name in each.get("claims", [])}
        assert named == set(home.paper.sources), key
        for experiment, claims in home.paper.explanations.items():
            asked = found[experiment].read()["claims"]
            assert set(claims) <= {name.rpartition("/")[2] for name in asked}


def test_what_is_recorded_is_of_claims_that_are_judged(monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = load("config/paper.yaml")
    judged = {e: {claim.name for claim in claims} for e, claims in settings.claims.items()}
    recorded = settings.papers["li2022"].recorded()
    assert recorded["source"]
    for experiment, claims in recorded["verdicts"].items():
        for claim, cases in claims.items():
            assert claim in judged[experiment]
            for case, (verdict, result) in cases.items():
                assert case.partition(" (")[0] in {"all", *settings.cases[experiment]}
                assert verdict in VERDICTS
                assert result in (ROOT / "docs" / "results" / "cifar10.md").read_text()


def test_the_default_falls_short_where_its_overrides_say(shipped, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = shortfalls("config/config.yaml", shipped)
    assert found["two_layer"] == found["warmup"] == []
    assert ("training.steps", "700", "1200") in found["dense"]
    assert ("data.source", "photos", "cifar10") in found["dense"]
    assert ("case elu", "left out", "run") in found["alignment"]
    assert ("elu: training.steps", "201", "500") in found["cnn"]


def test_a_configuration_at_full_scale_falls_short_of_nothing(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = shortfalls("config/paper.yaml", load("config/paper.yaml"))
    assert found
    assert not any(found.values())


def test_an_experiment_of_ones_own_has_no_papers_scale(tmp_path, monkeypatch):
    """Neither one beside all papers, nor one of a folder that the other configuration lacks."""
    monkeypatch.chdir(tmp_path)
    skeletons.new_experiment("plain")
    skeletons.new_paper("mine")
    file = tmp_path / "config.yaml"
    file.write_text(
        "results: results/own\npapers: [papers/li2022, papers/mine]\n"
        "experiments: [dense, plain, first]\nfull_scale: config/paper.yaml\n"
    )
    assert list(shortfalls(str(file), load(file))) == ["dense"]


def test_without_another_scale_nothing_is_known(shipped):
    none = shipped.configuration.model_copy(update={"full_scale": None})
    changed = type(shipped)(**vars(shipped) | {"configuration": none})
    assert shortfalls("config/config.yaml", changed) is None
    absent = shipped.configuration.model_copy(update={"full_scale": "config/absent.yaml"})
    changed = type(shipped)(**vars(shipped) | {"configuration": absent})
    with pytest.raises(ConfigError, match=r"full_scale names 'config/absent.yaml', which is no"):
        shortfalls("config/config.yaml", changed)


def test_documents_differ_in_what_they_set():
    here = {"seeds": 3, "title": "a", "data": {"samples": 5}, "cases": {"x": {"widths": [1]}}}
    there = {"seeds": 3, "title": "b", "data": {"source": "s"}, "cases": {"x": {}, "y": {}}}
    assert apart(here, there) == [
        ("data.samples", "5", "default"),
        ("data.source", "default", "s"),
        ("x: widths", "1", "default"),
        ("case y", "left out", "run"),
    ]
    assert apart(here, here) == []


@pytest.mark.parametrize(
    "says",
    [
        "says: [{name: it, text: It., claims: [spread_stay]}]",
        "published: {spread_stay: '2'}",
        "sources: {spread_stay: 'paper: figure 2'}",
        "explanations: {one: {spread_stay: {a: it grows}}}",
    ],
)
def test_a_claim_that_is_misspelt_in_what_a_paper_says(tmp_path, says):
    folder = tmp_path / "mine"
    (folder / "claims").mkdir(parents=True)
    (folder / "claims" / "own.py").write_text(
        "from sharpflow.claims.base import claim\n\n"
        '@claim(statement="s", band=(0, 1), origin="chosen: x", method="m", reads=["loss"])\n'
        "def spread_stays(run):\n    return 0.5\n"
    )
    (folder / "paper.yaml").write_text(
        f"key: mine\ntitle: Mine\n{says}\nexperiments:\n  one:\n    title: One\n    seeds: 1\n"
        "    data: {source: photos, samples: 4}\n    model: mlp\n    widths: [2]\n"
        "    learning_rates: [0.1]\n    cases: {a: {}}\n    claims: [spread_stays]\n"
    )
    file = tmp_path / "config.yaml"
    file.write_text(f"results: results/mine\npapers: [{folder}]\n")
    with pytest.raises(ConfigError, match=r"paper.yaml: there is no claim 'spread_stay'.*stays"):
        load(file)
    (folder / "recorded.yaml").write_text("source: here\nverdicts: {one: {c: {a: [supported]}}}\n")
    (folder / "paper.yaml").write_text(
        (folder / "paper.yaml").read_text().replace("spread_stay]", "spread_stays]")
        .replace("spread_stay:", "spread_stays:")
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"recorded.yaml: .*verdicts.one.c.a"):
        make_plan(load(file))


def test_settings_that_are_not_the_default(shipped):
    found = differences(shipped)["cnn"]
    assert found["seeds"] == 3
    assert found["cases"]["elu"]["model"] == {"kind": "cnn", "activation": "elu"}
    assert found["cases"]["relu"]["training"] == {"steps": 150, "states_megabytes": 40.0}
    assert not {"loss", "optimiser", "schedule"} & set(found["cases"]["relu"])


def test_a_figure_of_other_cases_is_not_that_of_a_claim(shipped):
    """`convergence_speed` draws no gradient descent, which `gd_charge_conserved` is about."""
    found = {
        verdict.name: verdict.figure for verdict in make_plan(shipped).claims["convergence_speed"]
    }
    assert found["gd_charge_conserved"] == ""
    assert found["rate_width"] == "convergence_speed"


def test_the_papers_scale_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_bytes((ROOT / "config" / "config.yaml").read_bytes())
    here = shortfalls("mine.yaml", load("mine.yaml"))
    assert here["dense"]
    assert here["warmup"] == []


@pytest.mark.parametrize("source", ["figure 2", "paper:", "paper: ", "drawn here: ", "Paper: 3"])
def test_a_source_says_whether_the_paper_states_it(tmp_path, source):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "paper.yaml").write_text(f"key: mine\ntitle: Mine\nsources: {{loss: '{source}'}}\n")
    file = tmp_path / "config.yaml"
    file.write_text(f"results: results/mine\npapers: [{folder}]\n")
    with pytest.raises(ConfigError, match=r"begins with 'paper: '.* or with 'drawn here: '"):
        load(file)


@pytest.mark.parametrize(
    ("explained", "said"),
    [
        (
            "ring: {edge_of_stability: {all: it grows}}",
            r"explanations has 'ring', which is no .*'rings'\?",
        ),
        (
            "rings: {edge_of_stability: {'elu, tan': it}}",
            r"rings has 'tan', which is no case.*'tanh'",
        ),
    ],
)
def test_an_explanation_of_what_does_not_exist(tmp_path, explained, said):
    folder = tmp_path / "mine"
    (folder / "experiments").mkdir(parents=True)
    (folder / "experiments" / "rings.yaml").write_text("title: Rings\ncases: {tanh: {}, elu: {}}\n")
    (folder / "paper.yaml").write_text(f"key: mine\ntitle: Mine\nexplanations: {{{explained}}}\n")
    file = tmp_path / "config.yaml"
    file.write_text(
        f"results: results/mine\npapers: [{folder}, papers/li2022]\nexperiments: [linear]\n"
    )
    with pytest.raises(ConfigError, match=said):
        load(file)
