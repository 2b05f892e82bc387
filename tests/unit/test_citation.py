"""CITATION.cff is valid, and says what the papers and the package say."""

import importlib.util
import json
from pathlib import Path

import jsonschema
import pytest
import yaml

import sharpflow
from sharpflow.version import VERSION

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def citation() -> dict:
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


@pytest.fixture
def validator() -> jsonschema.Draft7Validator:
    found = importlib.util.find_spec("cffconvert")
    if found is None or found.origin is None:
        pytest.skip("cffconvert, which has the schema, is not installed (tests/alone.txt)")
    path = Path(found.origin).parent / "schemas" / "1.2.0" / "schema.json"
    return jsonschema.Draft7Validator(json.loads(path.read_text(encoding="utf-8")))


def test_it_is_what_the_format_says(citation, validator):
    assert [error.message for error in validator.iter_errors(citation)] == []
    del citation["authors"]
    citation["license"] = "no licence"
    assert len(list(validator.iter_errors(citation))) == 2


def test_the_version_stands_in_one_place(citation):
    assert sharpflow.__version__ == VERSION == citation["version"]
    with pytest.raises(AttributeError, match="no attribute 'version_of'"):
        _ = sharpflow.version_of


def test_the_papers_of_the_full_scale_are_cited(citation):
    """Those beside them are cited by their own folders."""
    cited = {reference["title"]: reference for reference in citation["references"]}
    folders = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text())["papers"]
    papers = [yaml.safe_load((ROOT / name / "paper.yaml").read_text()) for name in folders]
    published = {paper["title"]: paper for paper in papers}
    assert cited.keys() == published.keys()
    for title, reference in cited.items():
        assert reference["url"] == published[title]["link"]
        assert str(reference["year"]) in published[title]["citation"]
        for author in reference["authors"]:
            name = f"{author['given-names']} {author['family-names']}"
            assert name in published[title]["citation"]
