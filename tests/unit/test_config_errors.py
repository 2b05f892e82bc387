"""One clear paragraph for every mistake in a configuration."""

import math

import pytest
import yaml
from config_folder import EXPERIMENT, PAPER, ConfigFolder, edited

from sharpflow.config import load, make_plan
from sharpflow.config.yaml_files import read_yaml
from sharpflow.errors import ConfigError


@pytest.fixture
def config_folder(tmp_path):
    return ConfigFolder(tmp_path)


def refusal(path):
    """The message of load(), which must be one paragraph."""
    with pytest.raises(ConfigError) as caught:
        make_plan(load(path))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    assert not message.endswith("..")
    assert "pydantic" not in message
    assert "[type=" not in message
    return message


MISTAKES = {
    "unknown top key": (["learning_rate"], [0.1], ["learning_rate", "[0.1]", "'learning_rates'"]),
    "unknown in data": (["data", "sample"], 10, ["data.sample", "10", "Did you mean 'samples'"]),
    "unknown in model": (["model", "widht"], 3, ["model.widht", "3", "hidden_layers"]),
    "unknown in training": (["training", "step"], 9, ["training.step", "9", "'steps'"]),
    "unknown measurement": (
        ["measurements", "hesian"],
        {},
        ["measurements.hesian", "gauss_newton", "Did you mean 'hessian'"],
    ),
    "unknown option": (
        ["measurements", "hessian", "evry"],
        7,
        ["measurements.hessian.evry", "7", "Did you mean 'every'"],
    ),
    "unknown in warm-up": (
        ["schedule"],
        {"kind": "warmup", "learning_rate": 0.1, "till": 5},
        ["schedule.till", "5", "until"],
    ),
    "unknown in a case": (
        ["cases", "tanh", "model", "activaton"],
        "relu",
        ["cases.tanh", "model.activaton", "'relu'", "Did you mean 'activation'"],
    ),
    "unknown key of a case": (["cases", "relu", "wdths"], [3], ["wdths", "[3]", "'widths'"]),
    "not of this source": (["data", "path"], "x", ["data.path", "'x'", "samples, scaling"]),
    "wrong type": (["training", "steps"], "many", ["training.steps", "'many'", "integer"]),
    "fraction for a count": (["seeds"], 2.5, ["seeds", "2.5", "integer"]),
    "text for a yes": (["model", "bias"], "maybe", ["model.bias", "'maybe'", "boolean"]),
    "mapping for a number": (["seeds"], {"a": 1}, ["seeds", "{'a': 1}"]),
    "number for a mapping": (["training"], 5, ["training", "5", "a mapping", "steps, batch"]),
    "name for a part with a source": (
        ["data"],
        "photos",
        ["data = 'photos'", "write data: {source: photos}"],
    ),
    "names for a mapping": (
        ["measurements"],
        ["hessian"],
        ["measurements", "write measurements: {hessian: {}}"],
    ),
    "key of a part": (["activation"], "relu", ["'activation'", "model: {activation: relu}"]),
    "key of the training": (["steps"], 9, ["'steps'", "training: {steps: 9}"]),
    "null for a mapping": (["training"], None, ["training", "None"]),
    "learning rate 0": (["learning_rates"], [0.0], ["learning_rates[0]", "0.0", "above 0"]),
    "learning rate -1": (["learning_rates"], [0.1, -1], ["learning_rates[1]", "-1", "above 0"]),
    "learning rate nan": (["learning_rates"], [math.nan], ["learning_rates[0]", "nan", "finite"]),
    "learning rate inf": (["learning_rates"], [math.inf], ["learning_rates[0]", "inf", "finite"]),
    "learning rate text": (["learning_rates"], ["fast"], ["learning_rates[0]", "'fast'", "number"]),
    "learning rate enormous": (["learning_rates"], [10**400], ["learning_rates[0]"]),
    "not a list": (["learning_rates"], 0.1, ["0.1", "write learning_rates: [0.1]."]),
    "not a list of names": (["claims"], "cycles", ["'cycles'", "write claims: [cycles]."]),
    "not a list of figures": (["figures"], "phases", ["'phases'", "write figures: [phases]."]),
    "a mapping for a list": (["widths"], {"a": 1}, ["widths", "a list of values."]),
    "empty list": (["widths"], [], ["widths", "[]", "at least 1"]),
    "twice": (["learning_rates"], [0.02, 2e-2], ["learning_rates", "0.02", "twice"]),
    "width 0": (["widths"], [0], ["widths[0]", "0", "greater than or equal to 1"]),
    "width 1e9": (["widths"], [10**9], ["widths[0]", "1000000000", "20000"]),
    "odd samples": (["data", "samples"], 101, ["data.samples", "101", "multiple of 2"]),
    "too many photos": (["data", "samples"], 2000, ["data.samples", "2000", "1950"]),
    "unknown source": (["data", "source"], "photo", ["data", "'photo'", "'photos'", "'cifar10'"]),
    "unknown model": (["model", "kind"], "mpl", ["model", "'mpl'", "'mlp'"]),
    "unknown activation": (
        ["model", "activation"],
        "rellu",
        ["model.activation", "'rellu'", "'tanh'", "Did you mean 'relu'"],
    ),
    "unknown activation of a case": (
        ["cases", "tanh", "model", "activation"],
        "tan",
        ["cases.tanh", "model.activation", "'tan'", "Did you mean 'tanh'"],
    ),
    "unknown loss": (["loss"], "msee", ["loss", "'msee'", "'cross_entropy'", "mean 'mse'"]),
    "seeds and blocks": (["seeds"], 3, ["seeds = 3", "seeds_per_job = 2", "multiple"]),
    "unknown figure": (["figures"], ["fases"], ["figures", "'fases'", "phases", "mean 'phases'"]),
    "unknown claim": (
        ["claims"],
        ["edge_of_stabilty"],
        ["claims", "edge_of_stabilty", "plateau_slope", "mean 'edge_of_stability'"],
    ),
    "bad case name": (["cases"], {"a b": {}}, ["cases", "'a b'"]),
    "no case": (["cases"], {}, ["cases", "{}", "at least 1"]),
    "case not a mapping": (["cases", "tanh"], [1], ["cases.tanh", "[1]", "a mapping"]),
    "batch beyond the data": (["training", "batch"], 101, ["training.batch = 101", "100"]),
    "momentum 1": (
        ["optimiser"],
        {"kind": "heavy_ball", "momentum": 1.0},
        ["optimiser.momentum", "1.0", "less than 1"],
    ),
    "unknown optimiser": (
        ["optimiser"],
        "adamm",
        ["optimiser", "'adamm'", "'sgd'", "Did you mean 'adam'"],
    ),
    "unknown schedule": (["schedule"], {"kind": "cosin"}, ["schedule", "'cosin'", "'cosine'"]),
    "targets that the loss does not take": (
        ["loss"],
        "cross_entropy",
        ["loss.kind = 'cross_entropy'", "one_hot", "data.source = 'photos'", "signs"],
    ),
    "all layers frozen": (["training", "frozen"], 3, ["training.frozen = 3", "3 layers"]),
    "a claim on other networks": (
        ["claims"],
        ["ziyin2024/equilibrium_reached"],
        ["'ziyin2024/equilibrium_reached'", "no paper 'ziyin2024'"],
    ),
    "loss without its target form": (
        ["loss"],
        {"kind": "cross_entropy", "label_smoothing": 2.0},
        ["loss.label_smoothing", "2.0", "less than 1"],
    ),
    "paper with a slash": (["paper"], "a/b", ["paper", "'a/b'"]),
    "no CIFAR folder": (
        ["data"],
        {"source": "cifar10", "path": "/nowhere/cifar"},
        ["data.path", "/nowhere/cifar", "data_batch_*.bin", "CIFAR-10"],
    ),
    "CIFAR path that no system has": (
        ["data"],
        {"source": "cifar10", "path": "a\0b"},
        ["data.path", "data_batch_*.bin"],
    ),
    "CIFAR path too long": (
        ["data"],
        {"source": "cifar10", "path": "a" * 5000},
        ["data.path", "data_batch_*.bin"],
    ),
    "CIFAR class 10": (
        ["data"],
        {"source": "cifar10", "path": ".", "classes": [0, 10]},
        ["classes", "10", "0 to 9"],
    ),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_in_an_experiment_is_one_clear_paragraph(config_folder, kind):
    keys, value, fragments = MISTAKES[kind]
    config_folder.write(edited(EXPERIMENT, keys, value))
    message = refusal(config_folder.file)
    assert str(config_folder.dense) in message
    for fragment in fragments:
        assert fragment in message, message


@pytest.mark.parametrize("kind", MISTAKES)
def test_the_same_mistake_in_an_override_names_the_configuration(config_folder, kind):
    keys, value, fragments = MISTAKES[kind]
    if value is None:
        pytest.skip("null removes a key there")
    config_folder.write(overrides={"dense_here": edited({}, keys, value)})
    if kind == "no case":
        assert load(config_folder.file).cases["dense_here"].keys() == {"tanh", "relu"}
        return
    message = refusal(config_folder.file)
    assert str(config_folder.file) in message
    assert "overrides.dense_here" in message
    for fragment in fragments:
        assert fragment in message, message


@pytest.mark.parametrize("key", ["paper", "title", "seeds", "data", "model", "widths", "cases"])
def test_a_missing_key_is_named(config_folder, key):
    config_folder.dense.write_text(
        yaml.safe_dump({k: v for k, v in EXPERIMENT.items() if k != key})
    )
    message = refusal(config_folder.file)
    assert str(config_folder.dense) in message
    assert f"the key {key!r} is missing" in message


@pytest.mark.parametrize(
    ("keys", "value", "name"),
    [
        (["data"], {"samples": 10}, "data.source"),
        (["model"], {"activation": "relu"}, "model"),
        (["schedule"], {"kind": "warmup", "until": 5}, "schedule.learning_rate"),
    ],
)
def test_a_missing_inner_key_is_named(config_folder, keys, value, name):
    config_folder.write(edited(EXPERIMENT, keys, value))
    message = refusal(config_folder.file)
    assert name in message
    assert "missing" in message


TOP_MISTAKES = {
    "unknown key": ({"device_": "cpu"}, ["device_", "'cpu'", "Did you mean 'device'"]),
    "unknown experiment": (
        {"experiments": ["dens"]},
        ["experiments names 'dens'", "dense", "Did you mean 'dense'"],
    ),
    "one experiment, not a list": (
        {"experiments": "dense_here"},
        ["'all', or a list of values; write experiments: [dense_here]."],
    ),
    "key of an experiment": (
        {"learning_rates": [0.1]},
        ["'learning_rates'", "overrides: {NAME: {learning_rates: [0.1]}}"],
    ),
    "key of a part of an experiment": (
        {"activation": "relu"},
        ["overrides: {NAME: {model: {activation: relu}}}"],
    ),
    "seeds": ({"seeds": 0}, ["seeds = 0", "greater than or equal to 1"]),
    "override of nothing": ({"overrides": {"dnse": {}}}, ["overrides", "'dnse'", "mean 'dense'"]),
    "device": ({"device": "gpu"}, ["device", "'gpu'", "cuda:1"]),
    "results outside": ({"results": "../up"}, ["results", "'../up'"]),
    "results with a space": ({"results": "my results"}, ["results", "'my results'"]),
    "confidence": ({"confidence": 1.0}, ["confidence", "1.0", "0.9999"]),
    "threads": ({"threads_per_job": 0}, ["threads_per_job", "0"]),
    "no experiments": ({"experiments": []}, ["experiments", "[]"]),
    "folder no system has": ({"experiments_folder": "a\0b", "papers": []}, ["experiments_folder"]),
    "folder of too long a name": (
        {"experiments_folder": "a" * 5000, "papers": []},
        ["experiments_folder"],
    ),
    "no folder": (
        {"experiments_folder": "/nowhere", "papers": []},
        ["experiments_folder", "/nowhere"],
    ),
    "no folder of a paper": ({"papers": ["papers/absent"]}, ["papers", "'papers/absent'"]),
    "a paper twice": ({"papers": [str(PAPER), str(PAPER)]}, ["papers", "twice"]),
    "a paper under two names": (
        {"papers": [str(PAPER), f"{PAPER}/../li2022"]},
        ["two papers have the key 'li2022'"],
    ),
    "a folder that is no paper": ({"papers": [str(PAPER / "claims")]}, ["no paper.yaml", "key:"]),
}


@pytest.mark.parametrize("kind", TOP_MISTAKES)
def test_a_mistake_in_the_configuration_is_one_clear_paragraph(config_folder, kind):
    changes, fragments = TOP_MISTAKES[kind]
    config_folder.write(**changes)
    message = refusal(config_folder.file)
    assert str(config_folder.file) in message
    for fragment in fragments:
        assert fragment in message, message


def test_an_option_of_the_command_line_is_named_as_one(config_folder):
    with pytest.raises(ConfigError, match=r"^--config: device = 'gpu'"):
        load(config_folder.file, {"device": "gpu"})
    with pytest.raises(ConfigError, match=r"^--config: seeds = 'two'"):
        load(config_folder.file, {"seeds": "two"})


YAML_MISTAKES = {
    "duplicate keys": (b"seeds: 1\nseeds: 2\n", ["line 2", "'seeds'", "twice"]),
    "inner duplicate": (b"data:\n  samples: 1\n  samples: 2\n", ["line 3", "'samples'", "twice"]),
    "tab": (b"data:\n\tsamples: 1\n", ["line 2", "tab"]),
    "alias": (b"a: &x {b: 1}\nc: *x\n", ["line 2", "alias *x"]),
    "billion laughs": (b"a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]\n", ["line 2", "alias"]),
    "merge key": (b"a:\n  <<: {b: 1}\n", ["line 2"]),
    "oversized": (b"#" * (2**20 + 1), ["1 MiB"]),
    "list": (b"- a\n- b\n", ["holds ['a', 'b']; it must hold keys"]),
    "text": (b"just words\n", ["holds 'just words'; it must hold keys"]),
    "empty": (b"", ["holds nothing; it must hold keys"]),
    "comments alone": (b"# a: 1\n", ["holds nothing; it must hold keys"]),
    "not UTF-8": (b"a: \xff\n", ["UTF-8"]),
    "unfinished": (b"{a: 1, [", ["line 1"]),
    "number for a key": (b"1: 2\n", ["1", "not text"]),
    "python object": (b"a: !!python/object/apply:os.system [id]\n", ["python"]),
    "deep": (b"a: " + b"[" * 1500, ["deep"]),
    "two documents": (b"a: 1\n---\nb: 1\n", ["document"]),
    "bad integer": (b'seeds: !!int ""\n', ["line 1"]),
    "bad truth": (b"seeds: !!bool x\n", ["line 1"]),
    "bad date": (b"seeds: !!timestamp x\n", ["line 1"]),
}


@pytest.mark.parametrize("kind", YAML_MISTAKES)
@pytest.mark.parametrize("which", ["file", "dense"])
def test_malformed_yaml_is_one_clear_paragraph(config_folder, kind, which):
    content, fragments = YAML_MISTAKES[kind]
    path = getattr(config_folder, which)
    path.write_bytes(content)
    message = refusal(config_folder.file)
    assert str(path) in message
    for fragment in fragments:
        assert fragment in message, message


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "absent.yaml")
    assert str(tmp_path) in refusal(tmp_path)


@pytest.mark.parametrize("spelling", ["010", "1:30", "0b11"])
def test_numbers_that_yaml_1_1_reads_otherwise_are_not_taken_silently(tmp_path, spelling):
    """Octal 010 would be 8, and 1:30 would be 90."""
    path = tmp_path / "x.yaml"
    path.write_text(f"a: {spelling}\n")
    try:
        value = read_yaml(path)["a"]
    except ConfigError:
        return
    assert value not in (8, 90)


# --- a user's files, of which nothing runs yet

NET = """
import absent_package
from torch import nn

def make_net(width, outputs, depth, act="relu"):
    return nn.Linear(width, outputs)

if True:
    def later(width): ...

@some.decorator
def wrapped(x): ...

made = make_net
"""
CODE = {
    "a function that is none": ("make_nett", {}, ["make_nett", "Did you mean 'make_net'?"]),
    "an option that is none": ("make_net", {"deep": 1}, ["model.options.deep", "'depth'"]),
    "an option that is missing": ("make_net", {}, ["needs 'depth'", "nor one of width"]),
}


def with_net(config_folder, tmp_path, text, build, options):
    (tmp_path / "net.py").write_text(text)
    model = {"kind": "module", "file": str(tmp_path / "net.py"), "build": build}
    changes = {"cases": {"own": {}}, "figures": [], "claims": [], "measurements": {}}
    config_folder.write(changes | {"model": model | {"options": options}})


@pytest.mark.parametrize("kind", CODE)
def test_a_users_function_is_looked_up_before_anything_runs(config_folder, tmp_path, kind):
    build, options, fragments = CODE[kind]
    with_net(config_folder, tmp_path, NET, build, options)
    message = refusal(config_folder.file)
    for fragment in [str(config_folder.dense), *fragments]:
        assert fragment in message, message


@pytest.mark.parametrize(
    ("build", "options", "more"),
    [
        ("make_net", {"depth": 2}, ""),
        ("later", {}, ""),
        ("wrapped", {"any": 1}, ""),
        ("made", {"any": 1}, ""),
        ("starred", {}, "from others import *\n"),
        ("found", {}, "def __getattr__(name): return make_net\n"),
        ("set", {}, "globals()['set_later'] = 1\n"),
    ],
)
def test_what_a_users_file_may_define_is_left_to_the_job(
    config_folder, tmp_path, build, options, more
):
    with_net(config_folder, tmp_path, NET + more, build, options)
    assert make_plan(load(config_folder.file)).shards


def with_table(config_folder, tmp_path, rows, **data):
    (tmp_path / "toy.csv").write_text("a,label\n" + "".join(f"{row}\n" for row in rows))
    options = {"source": "table", "path": str(tmp_path / "toy.csv"), "target": "label"}
    changes = {"cases": {"own": {}}, "figures": [], "claims": [], "measurements": {}}
    config_folder.write(changes | {"data": options | data})


def test_a_column_of_words_is_told_to_be_of_classes_before_anything_runs(config_folder, tmp_path):
    with_table(config_folder, tmp_path, ["1,0", "2,", "3,yes"])
    message = refusal(config_folder.file)
    for fragment in ("toy.csv, line 4", "'label' has 'yes'", "write task: classes"):
        assert fragment in message, message


@pytest.mark.parametrize("cells", [["1", "2.5"], ["True", "FALSE"], ["NA", "1e3"], ["inf", "2"]])
def test_targets_that_may_be_numbers_are_left_to_the_job(config_folder, tmp_path, cells):
    with_table(config_folder, tmp_path, [f"1,{cell}" for cell in cells])
    assert make_plan(load(config_folder.file)).shards


def test_words_are_classes_where_the_task_says_so(config_folder, tmp_path):
    with_table(config_folder, tmp_path, ["1,yes", "2,no"], task="classes")
    assert make_plan(load(config_folder.file)).shards
