"""The command line: what it lists, changes, writes, measures and refuses."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import webbrowser
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sharpflow.cli import changes, measure, skeletons
from sharpflow.cli.app import KINDS, run_command
from sharpflow.cli.catalogue import base_of, catalogue
from sharpflow.config import load
from sharpflow.config.load import merge
from sharpflow.config.papers import shipped_papers
from sharpflow.errors import ConfigError, PartError
from sharpflow.storage.files import PAGE, VOUCHED
from sharpflow.storage.seal import write_json
from sharpflow.storage.tables import read_table, write_table
from sharpflow.version import VERSION

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def said(here, capsys):
    """A function of a command line that gives its output, which must end with status 0."""

    def said(line):
        assert run_command(shlex.split(line)) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    return said


@pytest.fixture
def refused(here, capsys):
    """A function of a command line that gives its one-paragraph message."""

    def refused(line):
        assert run_command(shlex.split(line)) == 1
        found = capsys.readouterr()
        assert found.out == ""
        assert found.err.startswith("Error: ")
        assert found.err.count("\n") == 1
        return found.err

    return refused


# --- the words


def test_it_starts_without_the_heavy_packages_and_says_its_version(here):
    code = (
        "import sys; sys.argv = ['sharpflow', '--version'];"
        "from sharpflow.__main__ import main;"
        "status = main();"
        "heavy = {'torch', 'pandas', 'numpy', 'matplotlib', 'snakemake'} & sys.modules.keys();"
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"sharpflow, version {VERSION}\n"), done.stderr


def test_where_only_the_library_is_installed_it_says_what_to_install():
    code = (
        "import sys; from importlib import util; found = util.find_spec;"
        "util.find_spec = lambda name: None if name == 'snakemake' else found(name);"
        "from sharpflow.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "needs snakemake; `pip install 'sharpflow[workflow]'`" in done.stderr


def test_the_library_alone_has_a_version():
    code = (
        "import sys; from importlib import util; util.find_spec = lambda name: None;"
        "sys.argv = ['sharpflow', '--version'];"
        "from sharpflow.__main__ import main; sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"sharpflow, version {VERSION}\n"), done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(said, shell):
    assert "_SHARPFLOW_COMPLETE" in said(f"completion {shell}")


@pytest.mark.parametrize(
    ("words", "start", "expected"),
    [("run", "two_l", "two_layer"), ("show part", "heav", "heavy_ball"), ("", "comp", "compare")],
)
def test_words_are_completed(words, start, expected):
    shell = {"COMP_WORDS": f"sharpflow {words} {start}", "COMP_CWORD": str(len(words.split()) + 1)}
    done = subprocess.run(
        [sys.executable, "-m", "sharpflow"],
        env={"PYTHONPATH": str(ROOT), "_SHARPFLOW_COMPLETE": "bash_complete", **shell},
        capture_output=True,
        text=True,
    )
    assert f"plain,{expected}\n" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "words", [["-n", "--configfile", "x.yaml", "--", "li2022"], ["--help"], ["--", "a", "--", "b"]]
)
def test_snakemake_gets_its_words_as_they_stand(here, monkeypatch, words):
    passed = []
    monkeypatch.setattr("sharpflow.cli.runs.snakemake", lambda given: passed.extend(given) or 0)
    assert run_command(["snakemake", *words]) == 0
    assert passed == words


# --- what there is


@pytest.mark.parametrize("kind", KINDS)
def test_everything_that_is_listed_is_shown(said, kind):
    """From an empty folder: one line each, and every name is known to `show`."""
    names = [line.split()[0] for line in said(f"list {kind}s").splitlines()]
    assert sorted(names) == sorted(catalogue().names(kind))
    for name in (names[0], names[-1]):
        assert name.rpartition("/")[2] in said(f"show {kind} {name}")


def test_an_experiment_is_shown_as_its_file_or_as_a_configuration_has_it(said):
    assert yaml.safe_load(said("show experiment dense"))["training"] == {"steps": 1200}
    smaller = yaml.safe_load(said("show experiment dense --config demo"))
    assert list(smaller["cases"]) == ["tanh"]


def test_a_claim_is_shown_with_its_band_and_where_it_is_judged(said):
    text = said("show claim cycles")
    assert "≥ 0.15" in text
    assert "derived: " in text
    assert "dense, linear" in text


def test_a_paper_is_shown_with_each_statement_and_what_judges_it(said):
    text = " ".join(said("show paper lewkowycz2020").split())
    paper = shipped_papers()["lewkowycz2020"].paper
    for statement in paper.says:
        assert statement.text in text
        assert ", ".join(statement.claims) in text
    assert paper.link in text
    assert "experiments catapult" in text


@pytest.mark.parametrize(
    ("line", "fragments"),
    [
        ("show part mpl", ["no part 'mpl'", "Did you mean 'mlp'"]),
        ("run dens", ["no experiment 'dens'. Did you mean 'dense'?"]),
        ("run toy", ["no experiment 'toy'. config/experiments/toy.yaml is not in this folder"]),
        ("run dense --config papers", ["no configuration 'papers'", "Did you mean 'paper'"]),
        ("run dense --config papr", ["no configuration 'papr'", "Did you mean 'paper'"]),
        ("check absent.yaml", ["no configuration 'absent.yaml'"]),
        ("run dense --case tanhh", ["cases tanh, relu", "Did you mean 'tanh'"]),
        ("run dense --set activation", ["write key=value"]),
        ("run dense --set 'activation=[a'", ["--set activation=[a", "column"]),
        ("run dense --set actvation=gelu", ["no such key", "Did you mean 'activation'"]),
        (
            "run dense --set every=3",
            ["measurements.gauss_newton.every, measurements.hessian.every"],
        ),
        ("run dense --set momentum=0.9", ["optimiser.momentum is one", "--set optimiser=NAME"]),
        ("run dense --set learning_rates=0.01", ["write learning_rates: [0.01]."]),
        ("run dense --set learning_rate=0.01", ["such a key. Did you mean 'learning_rates'?"]),
        ("run dense --set activation=gleu", ["--set: model.activation = 'gleu'", "Did you mean"]),
        ("run dense --set seeds=three", ["Error: --set: seeds = 'three'"]),
        ("run dense --name 'my run'", ["Error: --name: results = 'results/my run'"]),
        ("show claim mine", ["no claim 'mine'", "found with --config"]),
        ("run convergence_speed --set batch=5 --case gd", ["claims"]),
        ("open", ["There is no page in results", "sharpflow demo"]),
        ("compare a b", ["a is no results folder"]),
        ("verify nothing", ["nothing holds no manifest.json"]),
        ("measure net.py", ["write FILE:BUILD"]),
        ("measure net.py:build", ["net.py is not a file"]),
        ("new part net --kind models", ["sharpflow new paper NAME"]),
        ("new experiment 'a b'", ["'a b': a name has letters"]),
        ("new paper report", ["one of the workflow's targets"]),
    ],
)
def test_a_mistake_is_one_paragraph(refused, line, fragments):
    message = refused(line)
    for fragment in fragments:
        assert fragment in message, message
    assert not Path("results").exists()


def test_options_of_an_experiment_need_one(here, capsys):
    assert run_command(["run", "--set", "a=b"]) == 2
    assert "name it too" in capsys.readouterr().err


# --- an experiment, changed


@cache
def base(experiment):
    file = base_of(experiment)
    return file, load(file)


def changed(experiment, *pairs, **options):
    """The changed configuration, and its settings as they are read back from its file."""
    file, settings = base(experiment)
    texts = [changes.pair(text) for text in pairs]
    result = changes.changed(file, settings, experiment, texts, **options)
    path = result.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(result.document))
    return result, load(path)


def test_a_value_holds_for_every_case_and_those_alike_become_one(here):
    """tanh, relu and elu differ in the activation alone; softplus in its pixels too."""
    result, loaded = changed("dense", "activation=gelu", "learning_rates=[0.01]", seeds=4)
    assert result.name == "dense-activation-gelu-learning_rates-0.01-seeds-4"
    cases = loaded.cases["dense"]
    assert list(cases) == ["gelu", "gelu_standardised"]
    assert {case.model.activation for case in cases.values()} == {"gelu"}
    assert [case.data.scaling for case in cases.values()] == ["unit", "standardised"]
    assert {tuple(case.learning_rates) for case in cases.values()} == {(0.01,)}
    assert list(loaded.experiments) == ["dense"]
    assert loaded.experiments["dense"].seeds == 4
    default = load(ROOT / "config" / "config.yaml").experiments["dense"]
    assert loaded.experiments["dense"].training == default.training  # at the default's scale


def test_a_case_that_has_the_new_values_name_is_not_mistaken_for_one(here):
    """`softplus` has standardised pixels, so it is not what the others become."""
    _, loaded = changed("dense", "activation=softplus")
    scalings = {name: case.data.scaling for name, case in loaded.cases["dense"].items()}
    assert scalings == {"softplus": "unit", "softplus_standardised": "standardised"}


def test_cases_that_do_not_differ_in_the_key_keep_their_names(here):
    _, loaded = changed("dense", "steps=50", cases=["relu", "tanh"])
    assert list(loaded.cases["dense"]) == ["tanh", "relu"]
    assert {case.training.steps for case in loaded.cases["dense"].values()} == {50}


def test_a_part_is_named_alone_and_its_options_whole(here):
    _, loaded = changed("dense", "optimiser=adam", "optimiser.beta1=0.5", cases=["tanh"])
    optimiser = loaded.cases["dense"]["tanh"].optimiser
    assert (optimiser.kind, optimiser.beta1) == ("adam", 0.5)


def test_a_case_that_brings_a_part_is_set_itself(here):
    """Two cases have momentum, each with its own learning rate; the third has none."""
    _, loaded = changed("momentum", "momentum=0.7")
    found = [
        (getattr(case.optimiser, "momentum", None), case.learning_rates[0])
        for case in loaded.cases["momentum"].values()
    ]
    assert found == [(None, 0.005), (0.7, 0.0075), (0.7, 0.0095)]


def test_an_experiment_is_taken_from_the_first_configuration_that_runs_it():
    assert base_of("dense").stem == "config"
    assert base_of("dense_deep").stem == "paper"  # left out of the default
    assert base_of("minibatch").stem == "beyond"


def test_what_is_written_says_by_which_command_and_is_written_over_by_the_next(here):
    first, second = (
        changes.changed(*base("linear"), "linear", seeds=n, name="mine") for n in (2, 3)
    )
    path = changes.write(first, "sharpflow run linear --seeds 2 --name mine")
    assert path == Path("results/mine/config.yaml")
    assert path.read_text().startswith("# Written by `sharpflow run linear --seeds 2 --name mine`")
    assert load(path).experiments["linear"].seeds == 2
    changes.write(second, "")
    assert load(path).experiments["linear"].seeds == 3
    path.write_text(path.read_text().partition("\n")[2])
    with pytest.raises(ConfigError, match="choose another folder with --name"):
        changes.write(first, "")
    path.rename("results/mine/old.yaml")
    Path("results/mine/runs").mkdir()
    with pytest.raises(ConfigError, match="results of another configuration"):
        changes.write(first, "")


_values = st.one_of(st.integers(0, 3), st.text("ab", max_size=2), st.lists(st.integers(0, 2)))
_documents = st.recursive(
    st.dictionaries(st.sampled_from("abc"), _values),
    lambda inner: st.dictionaries(
        st.sampled_from(["a", "b", "kind"]), st.one_of(st.sampled_from(["x", "y"]), inner)
    ),
    max_leaves=8,
)


@given(_documents, _documents)
def test_a_difference_is_what_makes_one_document_of_another(old, new):
    assert merge(old, changes.difference(old, new)) == new


# --- files to begin with


def test_every_kind_of_part_has_a_skeleton_with_what_it_must_have():
    files = {path.stem for path in (skeletons.SKELETONS / "part").glob("*.py")}
    assert files == set(skeletons.PART_KINDS)


def test_files_are_written_where_they_are_found_and_never_over_others(said, refused):
    said("new paper mine")
    for kind in skeletons.PART_KINDS:
        name = f"own_{kind}"
        assert f"papers/mine/{kind}/{name}.py" in said(f"new part {name} --kind {kind}")
        text = Path(f"papers/mine/{kind}/{name}.py").read_text("utf-8")
        assert "NAME" not in text
        ast.parse(text)
    settings = load("papers/mine/config.yaml")
    registry = settings.types.registry
    for kind in skeletons.OPTIONS:
        assert registry.parts(kind)[f"own_{kind}"].paper == "mine"
    assert registry.claim("own_claims", "mine").reads == ("loss",)
    assert registry.figure("own_figures", "mine").reads[0] == "loss"
    assert "config/experiments/swish.yaml" in said("new experiment swish")
    assert load(ROOT / "config" / "config.yaml").experiments["swish"].paper == "mine"
    said("new experiment own --in papers/mine")
    assert "paper:" not in Path("papers/mine/experiments/own.yaml").read_text("utf-8")
    for line in ("new paper mine", "new experiment swish", "new part own_data --kind data"):
        before = {p: p.read_bytes() for p in Path().rglob("*.*") if p.is_file()}
        assert "exists already; nothing was written" in refused(line)
        assert before == {p: p.read_bytes() for p in Path().rglob("*.*") if p.is_file()}


def test_an_experiments_file_is_checked_as_one(said, refused):
    """As `new` writes it: beside all papers, and in a paper's folder."""
    said("new experiment plain")
    said("new paper mine")
    for file in ("config/experiments/plain.yaml", "papers/mine/experiments/first.yaml"):
        assert said(f"check {file}") == f"{file}: 1 experiment, 5 datasets, 2 shards, 1 figure\n"
        assert f"{file} is the file of an experiment" in refused(f"run --config {file}")
    path = Path("config/experiments/plain.yaml")
    path.write_text(path.read_text("utf-8").replace("samples:", "sampels:"), "utf-8")
    message = refused("check config/experiments/plain.yaml")
    assert message.startswith("Error: config/experiments/plain.yaml: unknown key 'data.sampels'")


def test_beside_configurations_an_experiments_file_is_of_no_paper(said):
    """A clone has `config/paper.yaml`, a configuration."""
    shutil.copytree(ROOT / "config", "config", ignore=shutil.ignore_patterns("experiments"))
    said("new experiment plain")
    file = "config/experiments/plain.yaml"
    assert said(f"check {file}") == f"{file}: 1 experiment, 5 datasets, 2 shards, 1 figure\n"


@pytest.mark.parametrize("paper", [ROOT / "papers" / "li2022", "li2022"])
def test_an_experiment_of_a_paper_that_ships_is_checked_there_and_in_a_copy(said, paper):
    if not Path(paper).is_dir():
        shutil.copytree(ROOT / "papers" / "li2022", paper)
    assert ": 1 experiment, " in said(f"check {paper}/experiments/linear.yaml")


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("experiment dense", "papers/li2022/experiments/dense.yaml"),
        ("experiment dense --in papers/mine", "papers/li2022/experiments/dense.yaml"),
        ("paper li2022", "papers/li2022"),
        ("part mlp --kind models", "sharpflow/models/mlp/__init__.py"),
        ("part first --kind figures", "papers/mine/figures/first.py"),
        ("part loss_falls --kind claims", "papers/mine/claims/first.py"),
    ],
)
def test_a_name_that_another_has_is_refused_before_a_file_is_written(said, refused, line, where):
    said("new paper mine")
    before = set(Path().rglob("*"))
    message = refused(f"new {line}")
    assert "exists already; nothing was written" in message
    assert where in message
    assert set(Path().rglob("*")) == before


def test_a_check_says_which_experiments_a_configuration_leaves_out(said):
    assert " experiments (dense_deep, dense_variance, deep_linear, " in said("check config")


@pytest.mark.parametrize("kind", ["claim", "figure"])
def test_what_the_other_commands_have_a_word_for_has_one_here(said, kind):
    said("new paper mine")
    assert f"papers/mine/{kind}s/own.py" in said(f"new {kind} own")
    assert f"{kind}s:" in said(f"new {kind} other")
    assert "own" in said(f"show {kind} own --config papers/mine/config.yaml")


# --- a run


@pytest.fixture
def planned(said, monkeypatch):
    """A function of a command line that starts Snakemake: what it prints, and its words."""
    words = []
    monkeypatch.setattr("sharpflow.cli.runs.snakemake", lambda given: words.append(given) or 0)
    return lambda line: (said(line), words[-1])


def test_a_run_says_what_it_takes_and_which_cases_before_it_begins(planned):
    text, words = planned("run dense --config demo --set activation=gelu -n --cores 2")
    assert re.search(r"^Estimate: about \d+ s of processor time, .* on 2 idle cores; ", text, re.M)
    assert "cases" not in text
    assert words[-1] == "-n"
    text, _ = planned("run dense --set activation=gelu -n")
    assert (
        "\n2 cases: gelu, gelu_standardised, made of tanh, relu, elu, softplus; --case NAME keeps "
        "one of these.\n" in text
    )
    text, _ = planned("run dense -n --cores 1")
    assert "\n4 cases: tanh, relu, elu, softplus; --case NAME keeps one.\n" in text
    assert "on 1 idle core; " in text
    assert "cases" not in planned("run dense --case tanh -n")[0]


def test_an_estimate_knows_the_seeds_that_are_asked_for(planned):
    def seconds(line):
        text, words = planned(line)
        ((count, unit),) = re.findall(r"about (\d+) (s|min) of processor", text)
        return int(count) * (60 if unit == "min" else 1), words

    whole, _ = seconds("run --config smoke -n")
    more, words = seconds("run --config smoke --seeds 60 -n")
    assert more > whole
    assert words[words.index("--config") + 1] == "seeds=60"


def test_a_part_goes_to_the_paper_that_is_named_where_there_are_several(said, refused):
    said("new paper one")
    said("new paper two")
    message = refused("new part net --kind models")
    assert "papers/one, papers/two" in message
    assert "papers/two/models/net.py" in said("new part net --kind models --in papers/two")
    assert "has no paper.yaml" in refused("new part net --kind models --in papers")


# --- a module of the user's

NET = """
import torch
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, TensorDataset

inputs = torch.diag(torch.tensor([1.0, 2.0, 3.0]))

def build():
    model = torch.nn.Linear(3, 1, bias=False)
    return model, mse_loss, inputs, torch.zeros(3, 1)

def batches():
    model, loss, *data = build()
    loader = DataLoader(TensorDataset(*data), batch_size=2)
    return model, lambda model, batch: loss(model(batch[0]), batch[1]), loader

def one(): return 3
def two(): return 3, 4
def fails(): raise KeyError("gone")
def mismatch():
    model, loss, inputs, targets = build()
    return model, loss, inputs[:, :2], targets
def explodes():
    model, _, inputs, targets = build()
    return model, lambda f, y: {}["key"], inputs, targets
number = 3
"""


@pytest.fixture
def net(here):
    (here / "net.py").write_text(NET)


@pytest.mark.parametrize("function", ["build", "batches"])
def test_a_modules_sharpness(net, function):
    """The Hessian of the mean of (xᵢθᵢ)² over three samples is diagonal, 2xᵢ²/3."""
    found = measure.measure(f"net.py:{function}", k=3, tol=1e-6)
    assert found.values == pytest.approx([6.0, 8 / 3, 2 / 3], rel=1e-5)
    assert found.converged
    assert found.parameters == 3


def test_what_is_printed_of_a_module(net, said):
    lines = said("measure net.py:build").splitlines()
    assert lines[0].startswith("6  residual ")
    assert lines[0].endswith("gradient descent is stable for η < 0.3333")
    assert lines[1].startswith("3 parameters, ")


@pytest.mark.parametrize(
    ("function", "fragment"),
    [
        ("one", "returns int, and must return (model, loss, batches) or"),
        ("two", "returns tuple of 2, and must return"),
        ("fails", "net.py, line 19: KeyError: 'gone'"),
        ("mismatch", "loss_fn(model(inputs), targets) fails, with RuntimeError"),
        ("explodes", "fails, with KeyError"),
        ("number", "has no function 'number'"),
        ("absent", "has no function 'absent'"),
    ],
)
def test_a_module_that_cannot_be_measured_is_one_paragraph(net, function, fragment):
    with pytest.raises(PartError) as caught:
        measure.measure(f"net.py:{function}")
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


# --- results


def results(
    root: Path, level: float, verdict: str, steps: int = 6, case: str | list[str] = "a"
) -> Path:
    """A results folder with a curve a case that ends at a level, and a verdict a case."""
    cases = [case] if isinstance(case, str) else case
    tables = [curve(level, steps, case) for case in cases]
    place = root / "tables" / "e" / "summary"
    place.mkdir(parents=True)
    write_table(place / "1-of-1.parquet", pd.concat(tables))
    row = {"experiment": "e", "claim": "c", "verdict": verdict, "statistic": level}
    rows = [row | {"case": case} for case in cases]
    write_table(root / "claims.parquet", pd.DataFrame(rows))
    setup = {"training": {"steps": steps}, "model": {"kind": "mlp"}}
    own = {"seeds": 2, "cases": dict.fromkeys(cases, setup)}
    write_json(root / "manifest.json", {"experiments": {"e": own}})
    return root


def curve(level: float, steps: int, case: str) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "case": case,
            "width": 5,
            "learning_rate": 0.01,
            "step": range(steps),
            "quantity": "gauss_newton_sharpness",
            "index": 0,
            "mean": [level / 2] * (steps - 2) + [level] * 2,
            "seeds": 5,
        }
    )


def test_two_results_are_compared(said, here):
    results(here / "one", 100.0, "supported")
    results(here / "two", 150.0, "not supported", steps=9)
    text = said("compare one two --figure both.png")
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "e.cases.a.training.steps 6 9" in lines
    assert not any("e.seeds" in line or "kind" in line for line in lines)
    assert "0 the same, 1 not" in lines
    assert "e c a supported (100) not supported (150)" in lines
    assert "e/a, width 5, learning rate 0.01 100 125 1.25" in lines  # over steps 6 to 8
    assert (here / "both.png").read_bytes().startswith(b"\x89PNG")


def compared(said, line):
    return [" ".join(row.split()) for row in said(f"compare {line}").splitlines()]


def test_results_with_the_same_cases(said, here):
    for name in ("one", "same"):
        results(here / name, 100.0, "supported")
    text = said("compare one same")
    assert "the same" in text.partition("Verdicts")[0]
    assert "1 the same, 0 not\n" in text


def test_the_only_cases_of_an_experiment_stand_beside_each_other(said, here):
    """What `run --set activation=gelu` makes of one case has another name than that case."""
    results(here / "one", 100.0, "supported", case="tanh")
    results(here / "other", 150.0, "not supported", steps=9, case="gelu")
    lines = compared(said, "one other --figure both.png")
    assert "e/tanh→gelu: the only case of A beside the only one of B" in lines
    assert not any(line.startswith("only in") for line in lines)
    assert "e.cases.tanh→gelu.training.steps 6 9" in lines
    assert "0 the same, 1 not" in lines
    assert "e c tanh→gelu supported (100) not supported (150)" in lines
    assert "e/tanh→gelu, width 5, learning rate 0.01 100 125 1.25" in lines


def test_cases_of_one_side_are_named_and_their_verdicts_counted(said, here):
    results(here / "one", 100.0, "supported", case="a")
    results(here / "two", 100.0, "supported", case=["a", "b"])
    lines = compared(said, "one two")
    assert "only in B: e/b" in lines
    assert "1 the same, 0 not, 1 in B alone" in lines
    assert not any(line.endswith(" –") and line.startswith("e c") for line in lines)
    assert "e/b, width 5, learning rate 0.01 – 100 –" in lines
    assert "1 the same, 0 not, 1 in A alone" in compared(said, "two one")


def lose(root: Path, *steps: int, seeds: int) -> None:
    """Runs of the results diverge at these steps, so many each; nothing is measured after 3."""
    path = next(root.glob("tables/e/summary/*.parquet"))
    table = read_table(path)
    loss = table.assign(quantity="loss", mean=np.nan)
    marks = table.iloc[: len(steps)].assign(quantity="diverged_step", step=steps, seeds=seeds)
    write_table(path, pd.concat([table[table["step"] <= 3], loss, marks], ignore_index=True))


def test_runs_that_diverged_have_no_level_and_are_named(said, here):
    results(here / "one", 100.0, "supported", steps=9)
    results(here / "lost", 40.0, "not supported", steps=9)
    lose(here / "lost", 2, 3, seeds=2)
    lines = [" ".join(line.split()) for line in said("compare one lost").splitlines()]
    assert "e/a, width 5, learning rate 0.01 83.33 – –" in lines
    assert "B e/a, width 5, learning rate 0.01: 4 of 5 diverged at steps 2 to 3" in lines
    assert not any(line.startswith("A e/a") for line in lines)
    lose(here / "one", 3, seeds=1)
    assert "1 of 5 diverged at step 3" in said("compare one lost --figure lost.png")
    assert "Diverged" not in said("compare lost lost").partition("Curves")[0]


def test_results_that_cannot_be_compared_are_named(refused, here):
    results(here / "one", 100.0, "supported")
    assert "quantity 'speed'" in refused("compare one one --quantity speed")
    results(here / "two", 100.0, "supported")
    (here / "two" / "claims.parquet").write_bytes(b"x")
    assert "two/claims.parquet" in refused("compare one two")


class Browser:
    """A browser that has no window."""

    def __init__(self):
        self.opened = []

    def open(self, address):
        self.opened.append(address)
        return True


def page_of(name: str) -> Path:
    page = Path("results") / name / PAGE
    page.parent.mkdir(parents=True)
    page.write_text("")
    return page


def test_where_there_is_no_browser_the_page_is_named(here, capsys, monkeypatch):
    page = page_of("demo")

    def none():
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr("webbrowser.get", none)
    assert run_command(["open"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("Error: There is no browser")
    assert str(page.resolve()) in message
    assert message.count("\n") == 1


def test_the_newest_page_is_opened(said, here, monkeypatch):
    browser = Browser()
    monkeypatch.setattr("webbrowser.get", lambda: browser)
    for age, name in ((2, "old"), (1, "new")):
        page = page_of(name)
        os.utime(page, (1e9 - age, 1e9 - age))
    assert said("open").strip() == f"results/new/{PAGE}"
    said("open results/old")
    assert [address.split("/")[-3] for address in browser.opened] == ["new", "old"]
    assert "report" in VOUCHED
