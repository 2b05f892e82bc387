"""Configuration: numbers, merging, the plan, and load() on anything at all."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from config_folder import EXPERIMENT, ConfigFolder
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpflow.config import Settings, canonical, load, make_plan
from sharpflow.config.keys import places
from sharpflow.config.load import merge
from sharpflow.config.yaml_files import read_yaml
from sharpflow.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config_folder(tmp_path):
    return ConfigFolder(tmp_path)


# --- numbers


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_canonical_numbers_keep_the_value_and_are_fixed_points(value):
    text = canonical(value)
    assert float(text) == value
    assert canonical(float(text)) == text
    assert canonical(text) == text
    assert not text.endswith(".0")
    assert "/" not in text
    assert " " not in text


@given(st.floats(1e-5, 1e5))
def test_spellings_of_one_number_have_one_canonical_form(value):
    for spelling in (repr(value), f"{value:.17e}", f"+{value!r}", f"0{value!r}", f"{value:.30f}"):
        assert canonical(spelling) == canonical(value)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("5e-3", "0.005"),
        (".005", "0.005"),
        (1.0, "1"),
        (1e-5, "0.00001"),
        (1e-7, "1e-07"),
        (2e16, "2e+16"),
        (100000.0, "100000"),
    ],
)
def test_canonical_examples(number, text):
    assert canonical(number) == text


@pytest.mark.parametrize("spelling", ["0.005", "5e-3", ".005", "5.0E-3", "0.5e-02"])
def test_spellings_in_yaml_give_one_run(config_folder, spelling):
    config_folder.write()
    text = config_folder.dense.read_text().replace("0.005", spelling)
    assert spelling in text
    config_folder.dense.write_text(text)
    plan = make_plan(load(config_folder.file))
    assert "runs/dense_here/tanh/width=10/lr=0.005/seeds=0-1" in plan.shards
    assert (
        plan.shards["runs/dense_here/tanh/width=10/lr=0.005/seeds=0-1"].training["learning_rate"]
        == 0.005
    )


# --- merging

leaves = st.none() | st.integers(0, 3) | st.text("ab", max_size=2) | st.lists(st.integers(0, 2))
documents = st.dictionaries(
    st.sampled_from(["a", "b", "c", "source"]),
    st.recursive(
        leaves, lambda inner: st.dictionaries(st.sampled_from("abc"), inner), max_leaves=6
    ),
    max_size=4,
)


@settings(max_examples=40)
@given(documents, documents)
def test_merge_leaves_its_arguments_and_removes_none(base, changes):
    before = copy.deepcopy((base, changes))
    merged = merge(base, changes)
    assert (base, changes) == before
    assert merge(base, {}) == base
    for key, value in changes.items():
        if value is None:
            assert key not in merged
        elif not isinstance(value, dict):
            assert merged[key] == value
    for key in base.keys() - changes.keys():
        assert merged[key] == base[key]
    assert merge(merged, changes) == merged


def test_merge_goes_mapping_by_mapping():
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merge(base, {"a": {"y": [3]}}) == {"a": {"x": 1, "y": [3]}, "b": 1}
    assert merge(base, {"a": {"x": None}, "b": None}) == {"a": {"y": [1, 2]}}
    assert merge(base, {"a": 5, "b": {"z": 1}}) == {"a": 5, "b": {"z": 1}}


def test_another_source_or_kind_replaces_the_whole_mapping():
    base = {"data": {"source": "photos", "samples": 10}}
    other = {"data": {"source": "cifar10", "path": "x"}}
    assert merge(base, other) == other
    same = merge(base, {"data": {"source": "photos", "scaling": "unit"}})
    assert same == {"data": {"source": "photos", "samples": 10, "scaling": "unit"}}


# --- settings and the plan


def test_cases_change_what_they_name_and_nothing_else(config_folder):
    loaded = load(config_folder.file)
    tanh, relu = loaded.cases["dense_here"]["tanh"], loaded.cases["dense_here"]["relu"]
    assert (tanh.model.activation, relu.model.activation) == ("tanh", "relu")
    assert tanh.model.hidden_layers == relu.model.hidden_layers == 2
    assert tanh.data == relu.data
    assert tanh.training.steps == 30


def test_overrides_are_merged_key_by_key(config_folder):
    changes = {"dense_here": {"training": {"batch": 10}, "cases": {"relu": None}, "seeds": 2}}
    config_folder.write(overrides=changes)
    loaded = load(config_folder.file)
    assert list(loaded.cases["dense_here"]) == ["tanh"]
    training = loaded.cases["dense_here"]["tanh"].training
    assert (training.batch, training.steps) == (10, 30)
    assert loaded.experiments["dense_here"].seeds == 2


def test_top_level_changes_take_the_place_of_the_files(config_folder):
    assert load(config_folder.file, {"device": "cpu"}).configuration.device == "cpu"
    with pytest.raises(ConfigError, match="device"):
        load(config_folder.file, {"device": "gpu"})


def test_one_path_serves_all_cifar10_data_that_name_none(config_folder, tmp_path):
    (tmp_path / "data_batch_1.bin").touch()
    cases = {
        "shared": {},
        "own": {"data": {"path": str(tmp_path)}},
        "photos": {"data": {"source": "photos", "scaling": "unit"}},
    }
    config_folder.write({"data": {"source": "cifar10"}, "cases": cases})
    paths = {
        name: getattr(setup.data, "path", "no such key")
        for name, setup in load(config_folder.file).cases["dense_here"].items()
    }
    assert paths == {"shared": None, "own": str(tmp_path), "photos": "no such key"}
    folder = tmp_path / "another"
    folder.mkdir()
    (folder / "data_batch_1.bin").touch()
    settings = load(config_folder.file, {"cifar10_path": str(folder)})
    paths = {
        n: getattr(s.data, "path", "no such key") for n, s in settings.cases["dense_here"].items()
    }
    assert paths == {"shared": str(folder), "own": str(tmp_path), "photos": "no such key"}


def test_the_plan_has_every_run_once(config_folder):
    plan = make_plan(load(config_folder.file))
    assert len(plan.shards) == 2 * 2 * 2 * 2
    assert len(plan.shards_of("dense_here")) == 16
    assert len(plan.datasets) == 4  # one a seed
    for folder, shard in plan.shards.items():
        assert folder == shard.folder
        assert set(shard.datasets) <= set(plan.datasets)
        first, last = map(int, shard.seeds.split("-"))
        assert shard.training["seeds"] == list(range(first, last + 1))
        assert canonical(shard.training["learning_rate"]) == shard.learning_rate
        assert set(shard.measurements) == {"gauss_newton", "hessian"}
        assert "cases" not in shard.training
    assert [(f.paper, f.name, f.module, f.experiments) for f in plan.figures] == [
        ("li2022", "phases", "papers.li2022.figures.phases", ("dense_here",))
    ]


def test_adding_to_the_sweep_leaves_old_shards_as_they_were(config_folder):
    before = make_plan(load(config_folder.file))
    more = {
        "seeds": 8,
        "widths": [10, 15, 20],
        "learning_rates": [0.02, 0.01, 0.005],
        "cases": EXPERIMENT["cases"] | {"linear": {"model": {"activation": "linear"}}},
        "claims": [],
    }
    config_folder.write(more)
    after = make_plan(load(config_folder.file))
    assert len(after.shards) == 3 * 3 * 3 * 4
    for folder, shard in before.shards.items():
        assert after.shards[folder] == shard


def test_training_does_not_depend_on_what_is_measured(config_folder):
    before = make_plan(load(config_folder.file))
    config_folder.write({"measurements": {"gauss_newton": {"every": 5}}})
    after = make_plan(load(config_folder.file))
    for folder, shard in before.shards.items():
        assert after.shards[folder].training == shard.training
        assert after.shards[folder].measurements != shard.measurements
        assert after.shards[folder].datasets == shard.datasets


def test_two_modules_for_one_figure_are_refused(config_folder):
    other = EXPERIMENT | {"figures": {"phases": "residual"}}
    (config_folder.experiments / "other.yaml").write_text(yaml.safe_dump(other))
    config_folder.write(experiments=["dense_here", "other"])
    with pytest.raises(
        ConfigError, match=r"li2022/phases.*dense_here, other: .*phases, .*residual"
    ):
        load(config_folder.file)


@pytest.mark.parametrize("file", sorted((ROOT / "config").glob("*.yaml")), ids=lambda f: f.stem)
def test_the_configurations_that_ship_are_valid(file, monkeypatch):
    monkeypatch.chdir(ROOT)
    try:
        plan = make_plan(load(file))
    except ConfigError as error:
        if "data.path" not in str(error):
            raise
        pytest.skip("its dataset is not here")
    assert plan.shards


def test_reading_a_configuration_is_light():
    code = (
        "import sys; import sharpflow.config as c; c.make_plan(c.load('config/config.yaml'));"
        "print(sorted({'torch','numpy','pandas','matplotlib','scipy'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("changes", "status"), [({}, 0), ({"seeds": 3}, 1)])
def test_the_check_command(config_folder, changes, status):
    config_folder.write(changes)
    done = subprocess.run(
        [sys.executable, "-m", "sharpflow.config", "check", str(config_folder.file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    if status:
        assert done.stderr.startswith("Error: ")
        assert "seeds_per_job" in done.stderr
    else:
        assert ": 1 experiment, 4 datasets, 16 shards, 1 figure\n" in done.stdout


# --- anything at all

known_keys = {k for p in [EXPERIMENT, *EXPERIMENT.values()] if isinstance(p, dict) for k in p}
other_keys = [
    "path",
    "classes",
    "schedule",
    "optimiser",
    "loss",
    "batch",
    "bias",
    "\0",
    "",
    "a.b",
    "[key]",
]
keys_anywhere = st.sampled_from([*sorted(known_keys), *other_keys])
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([10**400, -(10**30), "cifar10", "photos", "mlp", "relu", "\0", "\ud800", "."])
    | st.text(max_size=4)
    | st.dates()
    | st.binary(max_size=3)
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys_anywhere, inner, max_size=3),
    max_leaves=5,
)
paths = st.lists(keys_anywhere, min_size=1, max_size=4)


def edit_anywhere(document, path, value):
    inner = document
    for key in path[:-1]:
        if not isinstance(inner.get(key), dict):
            inner[key] = {}
        inner = inner[key]
    inner[path[-1]] = value


def outcome(changes):
    settings_or_error = None
    try:
        settings_or_error = load("config/demo.yaml", changes)
        make_plan(settings_or_error)
    except ConfigError as error:
        return error
    return settings_or_error


@settings(max_examples=60)
@given(edits=st.lists(st.tuples(paths, anything), min_size=1, max_size=3))
def test_any_override_gives_settings_or_a_configuration_error(edits):
    change = {}
    for path, value in edits:
        edit_anywhere(change, path, value)
    here = os.getcwd()
    os.chdir(ROOT)
    try:
        result = outcome({"experiments": ["dense"], "overrides": {"dense": change}})
    finally:
        os.chdir(here)
    assert isinstance(result, Settings | ConfigError)
    if isinstance(result, ConfigError):
        assert "\n" not in str(result)


@settings(max_examples=60)
@given(
    key=st.sampled_from(["results", "experiments", "experiments_folder", "overrides", "device"])
    | st.text(max_size=5),
    value=anything,
)
def test_any_top_level_change_gives_settings_or_a_configuration_error(key, value):
    here = os.getcwd()
    os.chdir(ROOT)
    try:
        assert isinstance(outcome({key: value}), Settings | ConfigError)
    finally:
        os.chdir(here)


@settings(max_examples=60)
@given(st.text("ab:-[]{}&*!?|>#,\"' \n\t0.~<=", max_size=25))
def test_any_text_is_a_mapping_or_a_configuration_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text)
    try:
        result = read_yaml(path)
    except ConfigError as error:
        result = error
    assert isinstance(result, dict | ConfigError)
    if isinstance(result, ConfigError):
        assert str(path) in str(result)
        assert "\n" not in str(result)


@pytest.mark.parametrize(("seeds", "together"), [(1, 1), (2, 2), (3, 1), (6, 2)])
def test_seeds_at_the_top_are_those_of_every_experiment(config_folder, seeds, together):
    """The file has four, two in a job; as many as before are trained together, or fewer."""
    config_folder.write(seeds=9)
    loaded = load(config_folder.file, {"seeds": seeds})
    (experiment,) = loaded.experiments.values()
    assert (experiment.seeds, experiment.seeds_per_job) == (seeds, together)
    assert len(make_plan(loaded).shards_of("dense_here")) == 8 * seeds // together


def test_a_paper_that_ships_is_found_from_any_folder(config_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config_folder.write(papers=["papers/li2022"])
    assert load(config_folder.file).papers["li2022"].folder == ROOT / "papers" / "li2022"
    (tmp_path / "papers" / "li2022").mkdir(parents=True)
    (tmp_path / "papers" / "li2022" / "paper.yaml").write_text("{key: li2022, title: Mine}")
    config_folder.write(papers=["papers/li2022"], experiments="all")
    with pytest.raises(ConfigError, match="there is no figure 'phases'"):  # in the nearer folder
        load(config_folder.file)


def test_where_a_key_may_stand():
    loaded = load(ROOT / "config" / "smoke.yaml")
    setup = loaded.cases["dense"]["tanh"]
    assert places(setup, "activation") == ["model.activation"]
    assert places(setup, "training.steps") == ["training.steps"]
    assert places(setup, "every") == [
        "measurements.gauss_newton.every",
        "measurements.hessian.every",
    ]
    assert places(setup, "channels") == []
    assert "data.draw_seed" in places(loaded.types.setup, "draw_seed")
