"""Names stand in paths, targets and modules: one rule for all of them, and files that are passed
over by none."""

import json
import shlex

import pytest
import yaml
from config_folder import EXPERIMENT, ConfigFolder

from sharpflow.config import load, make_plan
from sharpflow.config.reference import schema, shipped
from sharpflow.errors import ConfigError
from sharpflow.parts.names import PATTERN, RULE, files_in, is_name

BAD = ["a b;touch x", "$(touch x)", "1st", "ünïcode", "-rf", "a.b", "a/b", "x\n", "", "a" * 101]
GOOD = ["deep-swish", "deep_swish", "A", "a" * 100, "li2022-again"]
FIGURE = 'TITLE = "A figure"\nREADS = ("loss",)\n\n\ndef draw(tables):\n    raise ValueError\n'
MODEL = """
from sharpflow.parts.options import ModelOptions


class Options(ModelOptions):
    \"\"\"A network.\"\"\"


def build(options, setting):
    raise ValueError
"""
SOURCE = """
from sharpflow.parts.options import DataOptions, Form


class Options(DataOptions):
    \"\"\"A source.\"\"\"

    @property
    def label(self):
        return LABEL

    def form(self):
        return Form("vectors", (2,), 1, "signs", 4)

    def capabilities(self):
        return frozenset({"finite samples"})


def generate(spec):
    raise ValueError
"""


@pytest.fixture
def folder(tmp_path):
    return ConfigFolder(tmp_path)


@pytest.fixture
def paper(tmp_path):
    """A function that writes a paper of the given key and files, and gives its folder."""

    def write(key="mine", **files):
        home = tmp_path / "a paper, ünïcode"
        home.mkdir()
        (home / "paper.yaml").write_text(f"key: {json.dumps(key)}\ntitle: x\n")
        for kind, (name, text) in files.items():
            (home / kind).mkdir()
            (home / kind / name).write_text(text)
        return str(home)

    return write


def refusal(folder) -> str:
    with pytest.raises(ConfigError) as caught:
        make_plan(load(folder.file))
    message = str(caught.value)
    assert RULE in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_name(name):
    assert not is_name(name)


@pytest.mark.parametrize("name", GOOD)
def test_what_is_a_name_and_the_shell_takes_it_as_it_is(name):
    assert is_name(name)
    assert shlex.quote(name) == name


@pytest.mark.parametrize("name", ["a b;touch x", "1st", "ünïcode", "a.b"])
def test_an_experiment_whose_file_is_no_name(folder, name):
    (folder.experiments / f"{name}.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    assert f"{name}.yaml" in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cases": {"a b;touch x": {}}}, ["dense_here.yaml", "'a b;touch x'", "cases"]),
        ({"figures": {"../x": "phases"}}, ["dense_here.yaml", "'../x'", "figures"]),
        ({"paper": "$(x)"}, ["dense_here.yaml", "paper = '$(x)'"]),
    ],
)
def test_a_key_of_an_experiment_that_is_no_name(folder, changes, words):
    folder.write(changes)
    message = refusal(folder)
    assert all(word in message for word in words)


def test_a_paper_whose_key_is_no_name(folder, paper):
    folder.write(papers=[paper(key="a b")])
    assert "paper.yaml: key = 'a b'" in refusal(folder)


@pytest.mark.parametrize(
    ("kind", "text"), [("figures", FIGURE), ("models", MODEL), ("data", SOURCE)]
)
def test_a_part_whose_file_is_no_name(folder, paper, kind, text):
    folder.write(papers=[paper(**{kind: ("a b;touch x.py", text)})])
    assert "a b;touch x.py" in refusal(folder)


@pytest.mark.parametrize("label", ["../../x", "a b"])
def test_the_label_of_a_source_stands_in_a_file_name(folder, paper, label):
    home = paper(data=("rings.py", SOURCE.replace("LABEL", repr(label))))
    changes = {"paper": "mine", "data": {"source": "rings"}, "figures": [], "claims": []}
    folder.write(changes, papers=[home])
    assert "'rings'" in refusal(folder)


def test_hyphens_in_every_name(folder, paper):
    """And a folder of any name: only what becomes a path of ours is bound by the rule."""
    home = paper(
        key="my-paper",
        models=("my-net.py", MODEL),
        data=("my-rings.py", SOURCE.replace("LABEL", "'thin-ones'")),
        figures=("my-figure.py", FIGURE),
    )
    changes = {
        "paper": "my-paper",
        "data": {"source": "my-rings"},
        "model": {"kind": "my-net"},
        "cases": {"a-case": {}},
        "figures": ["my-figure"],
        "claims": [],
    }
    folder.write(changes, papers=[home], experiments=["deep-swish"])
    folder.dense.rename(folder.experiments / "deep-swish.yaml")
    plan = make_plan(load(folder.file))
    shard = plan.shards_of("deep-swish")[0]
    assert shard.folder == "runs/deep-swish/a-case/width=10/lr=0.005/seeds=0-1"
    assert shard.training_code[0] == "papers.my-paper.models.my-net"
    assert [(f.paper, f.name, f.module) for f in plan.figures] == [
        ("my-paper", "my-figure", "papers.my-paper.figures.my-figure")
    ]
    assert next(iter(plan.datasets)).startswith("my-rings-thin-ones-")


def test_leftovers_of_editors_are_no_experiments(folder):
    for name in ("._dense_here.yaml", ".#dense_here.yaml", "dense_here.yaml~"):
        (folder.experiments / name).write_bytes(b"\0")
    assert list(load(folder.file).experiments) == ["dense_here"]


def test_an_experiment_with_another_suffix_is_not_passed_over(folder):
    (folder.experiments / "more.yml").write_text(yaml.safe_dump(EXPERIMENT))
    with pytest.raises(ConfigError, match=r"more\.yml'.* ends in '\.yaml'; rename it"):
        load(folder.file)


def test_a_folder_that_cannot_be_has_no_files(tmp_path):
    assert files_in(tmp_path / ("x" * 5000), ".py") == []


def test_the_schema_has_the_rule():
    assert json.dumps(PATTERN)[1:-1] in schema(shipped())
