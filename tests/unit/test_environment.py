"""Files that say the same thing twice say the same thing; registries; the jobs' entry point."""

import argparse
import ast
import json
import re
import subprocess
import sys
import tomllib
import typing
import zipfile
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import installed
import lock
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from specs import PAPERS, TYPES, measurements

from sharpflow.claims.base import load_claim
from sharpflow.config.reference import readme, schema
from sharpflow.errors import DataError
from sharpflow.jobs import run_job
from sharpflow.measurements.evaluate import evaluate
from sharpflow.models.activations import ACTIVATIONS
from sharpflow.parts.options import Activation
from sharpflow.training import train
from sharpflow.version import COMMIT_FILE, VERSION, commit_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "sharpflow"
SNAKEMAKE = {
    "snakemake_executor_plugin_slurm": "snakemake-executor-plugin-slurm",
    "snakemake_interface_logger_plugins": "snakemake",
    "smart_open": "snakemake",
}
"""Packages by module: Snakemake itself depends on all but the first."""


def pins(lines):
    """Versions by package; every line must be an exact pin."""
    found = {}
    for line in lines:
        line = line.partition("#")[0].strip()
        if line and not line.startswith("-c "):
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line), line
            name, _, number = line.partition("==")
            assert name not in found, f"{name} is pinned twice"
            found[name] = number
    return found


def numbers(text):
    return [int(part) for part in text.split(".")]


@pytest.fixture(scope="module")
def requirements():
    return pins((ROOT / "requirements.txt").read_text().splitlines())


def test_the_three_lists_of_packages_agree(requirements):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = project["optional-dependencies"]
    assert pins([*groups["workflow"], *groups["slurm"], *groups["dev"]]) == requirements
    oldest = pins((ROOT / "tests" / "oldest.txt").read_text().splitlines())
    for line in project["dependencies"]:
        name, _, bound = line.partition(">=")
        assert oldest[name].startswith(f"{bound}."), "the bound is what is tested"
        assert numbers(requirements[name]) >= numbers(bound)
    assert pins((ROOT / "tests" / "browser.txt").read_text().splitlines())
    peers = pins((ROOT / "tests" / "peers.txt").read_text().splitlines())
    for line in (*groups["lightning"], *groups["huggingface"]):
        name, _, bound = line.partition(">=")
        assert numbers(peers[name]) >= numbers(bound)
    tested = pins((ROOT / "tests" / "storage.txt").read_text().splitlines())
    for extra, profile in (("storage", "s3"), ("batch", "pbs")):
        listed = ROOT / "profiles" / profile / "requirements.txt"
        assert pins(groups[extra]) == pins(listed.read_text().splitlines())
        assert pins(groups[extra]).items() <= tested.items()
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = (part["pip"] for part in environment["dependencies"] if isinstance(part, dict))
    assert pins(pip) == requirements
    (python,) = (
        part.split("=")[1]
        for part in environment["dependencies"]
        if isinstance(part, str) and part.startswith("python=")
    )
    assert project["requires-python"] == f">={python}"


def test_the_tests_run_on_the_pinned_versions(requirements):
    for name in ("torch", "numpy", "pandas", "pydantic"):
        assert version(name).partition("+")[0] == requirements[name]


def test_what_the_packages_bring_along_is_locked():
    locked = pins((ROOT / "constraints.txt").read_text().splitlines())
    here = lock.brought(lock.listed())
    others = {name: number for name, number in here.items() if locked.get(name) != number}
    cuda = {name for name in others if name.startswith(("nvidia-", "cuda-", "triton"))}
    assert not others.keys() - cuda, "install by the lists again, or `make lock`"
    for name in lock.LISTS:
        for package, number in pins((ROOT / name).read_text().splitlines()).items():
            assert locked[canonicalize_name(package)] == number


def test_the_lock_follows_what_is_asked_for_in_turn():
    """torch asks for sympy, and sympy for mpmath; what is only named as an extra is not taken."""
    found = lock.brought([Requirement("torch")])
    assert {"torch", "sympy", "mpmath"} <= found.keys()
    assert not {"snakemake", "opt-einsum"} & found.keys()
    assert lock.brought([Requirement("no-such-package")]) == {}


def imports(path):
    """Top-level packages that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


def test_the_library_itself_imports_only_what_it_depends_on(requirements):
    names = {"yaml": "pyyaml", "sklearn": "scikit-learn", "PIL": "pillow", **SNAKEMAKE}
    extras = {
        "sharpflow/config/places.py": ("botocore",),
        "sharpflow/integrations/huggingface.py": ("transformers",),
        "sharpflow/integrations/lightning.py": ("lightning", "pytorch_lightning"),
    }
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "papers").rglob("*.py")]
    for path in files:
        for top in imports(path):
            if top not in sys.stdlib_module_names and top != "sharpflow":
                known = names.get(top, top) in requirements
                extra = extras.get(path.relative_to(ROOT).as_posix(), ())
                assert known or top in extra, f"{path.name} imports {top}"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of what it is made of."""
    return installed.wheel(tmp_path_factory.mktemp("wheel"))


def test_the_wheel_asks_for_three_packages_and_is_typed(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (n for n in names if n.endswith("METADATA"))
        lines = archive.read(metadata).decode().splitlines()
    asked = [line.removeprefix("Requires-Dist: ") for line in lines if "Requires-Dist" in line]
    plain = {re.split(r"[<>=!~; ]", each)[0] for each in asked if "extra ==" not in each}
    assert plain == {"numpy", "scipy", "torch"}
    assert {"sharpflow/py.typed", "sharpflow/report/templates/page.html"} <= set(names)
    assert not [name for name in names if name.startswith(("papers/", "tests/"))]


def test_the_wheel_brings_the_workflow(wheel):
    """Every file of it as it lies at the top, nothing that was made from one, and its commit."""
    with zipfile.ZipFile(wheel) as archive:
        inside = "sharpflow/_workflow/"
        found = {n.removeprefix(inside): archive.read(n) for n in archive.namelist() if inside in n}
    places = [p for part in installed.WORKFLOW for p in (ROOT / part, *(ROOT / part).rglob("*"))]
    files = {p.relative_to(ROOT).as_posix(): p.read_bytes() for p in places if p.is_file()}
    commit = found.pop(COMMIT_FILE.rpartition("/")[2]).decode().strip()
    assert commit == commit_of(wheel.parent / "source")
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert found == {name: text for name, text in files.items() if "__pycache__" not in name}
    assert {"Snakefile", "papers/li2022/paper.yaml", "profiles/default/config.yaml"} <= found.keys()


def test_the_version_is_said_once():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == VERSION
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dynamic"] == ["version"]


def test_the_installed_library_needs_nothing_of_the_workflow(wheel, tmp_path):
    """In a folder of its own, where what only the workflow needs cannot be imported."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path]
    assert subprocess.run([*command, wheel]).returncode == 0
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    workflow = set(pins(extra["optional-dependencies"]["workflow"])) - {"numpy", "scipy", "torch"}
    modules = {"pyyaml": "yaml", "scikit-learn": "sklearn", "pillow": "PIL"}
    blocked = sorted(modules.get(name, name) for name in workflow)
    code = f"""
import sys
sys.modules.update(dict.fromkeys({blocked!r}))
import torch, sharpflow.curvature as c, sharpflow.symmetry
assert c.__file__.startswith({str(tmp_path)!r}), c.__file__
model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.GELU(), torch.nn.Linear(2, 1))
print(c.sharpness(model, torch.nn.functional.mse_loss, torch.randn(8, 3), torch.randn(8, 1)) > 0)
"""
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.stdout.strip() == "True", done.stderr


def test_jobs_of_runs_start_without_pandas():
    """Its import is a fifth of a job of a small network."""
    modules = "sharpflow.training", "sharpflow.measurements.evaluate", "sharpflow.storage.tables"
    lines = [*(f"import {module}" for module in modules), "import sys", "print(*sys.modules)"]
    done = subprocess.run(
        [sys.executable, "-c", "; ".join(lines)], cwd=ROOT, capture_output=True, text=True
    )
    loaded = done.stdout.split()
    assert "pyarrow" in loaded, done.stderr
    assert "pandas" not in loaded


def test_schema_and_reference_are_in_step_with_the_types():
    hint = "run `make config-reference`"
    assert (ROOT / "config" / "schema.json").read_text() == schema(TYPES), hint
    assert (ROOT / "config" / "README.md").read_text() == readme(TYPES), hint


def test_the_schema_describes_every_key():
    definitions = json.loads(schema(TYPES))["$defs"]
    assert {"Configuration", "Experiment"} <= definitions.keys()
    for name, part in definitions.items():
        for key, field in part.get("properties", {}).items():
            described = field.get("description") or field.get("$ref")
            assert described, f"{name}.{key} has no description"
        if "properties" in part:
            assert part["additionalProperties"] is False, name


# --- registries: what is declared is there


def test_every_measurement_gives_what_it_says(make_problem):
    """Of the library's: the quantities of a run are those that its options promise."""
    chosen = measurements(
        gauss_newton={"every": 5, "k": 2, "output_layer": True, "trained_layers": True},
        hessian={"every": 5},
        preconditioned_hessian={"every": 5},
        batch_sharpness={"every": 5, "draws": 3},
    )
    problem = make_problem(
        training={"steps": 10, "batch": 4, "frozen": 1},
        optimiser={"kind": "adam"},
        learning_rate=0.001,
    )
    states = train(problem).states
    table = evaluate(problem, sorted(states), lambda step: states[step], chosen).table
    promised = set()
    for name, options in chosen.items():
        promised |= TYPES.options("measurements")[name](**options).gives()
    assert set(table["quantity"]) == promised


def test_every_activation_is_known():
    assert set(typing.get_args(Activation)) == set(ACTIVATIONS)


def test_every_claim_can_be_loaded_and_is_as_it_was_read():
    registry = TYPES.registry
    for paper in ("", *PAPERS):
        for name, declared in registry.declared("claims", paper).items():
            found = load_claim(declared.part.module, name)
            assert (found.name, found.reads) == (name, declared.reads)
            assert (found.cases, found.scope) == (declared.cases, declared.scope)
            assert found.statistic.__doc__


def test_every_figure_can_be_loaded_and_says_what_it_reads():
    for paper in PAPERS:
        for name, declared in TYPES.registry.declared("figures", paper).items():
            module = import_module(declared.part.module)
            assert module.TITLE
            assert callable(module.caption)
            assert declared.reads, name
            assert tuple(module.READS) == declared.reads


@pytest.mark.parametrize("paper", PAPERS)
def test_a_papers_page_order_names_its_figures(paper):
    listed = yaml.safe_load((PAPERS[paper] / "paper.yaml").read_text())["figures"]
    drawn = set()
    for file in (PAPERS[paper] / "experiments").glob("*.yaml"):
        figures = yaml.safe_load(file.read_text()).get("figures", [])
        drawn |= set(figures)
    assert sorted(listed) == sorted(drawn)


@pytest.mark.parametrize("paper", PAPERS)
def test_a_shipped_papers_folder_is_named_by_its_key(paper):
    assert PAPERS[paper].name == paper


# --- jobs


def script():
    return {"__doc__": "Do something."}


def started(tmp_path, monkeypatch, *arguments):
    """The job that a command line gives."""
    seen = []
    monkeypatch.setattr(sys, "argv", ["script.py", *arguments])
    run_job(seen.append, script(), ["dataset"], ["table"], "anything")
    (job,) = seen
    return job


def test_a_job_from_the_command_line(tmp_path, monkeypatch):
    spec = tmp_path / "spec.json"
    spec.write_text('{"seeds": [0, 1]}')
    paths = ["--dataset", "d.safetensors", "--table", "t.parquet"]
    for text in (str(spec), '{"seeds": [0, 1]}'):
        job = started(tmp_path, monkeypatch, *paths, "--spec", text, "--threads", "3")
        assert job.inputs["dataset"] == "d.safetensors"
        assert job.outputs["table"] == "t.parquet"
        assert job.spec == {"seeds": [0, 1]}
        assert job.threads == 3


@pytest.mark.parametrize("spec", ["{not json", "absent.json"])
def test_a_bad_spec_on_the_command_line_ends_with_usage(tmp_path, monkeypatch, capsys, spec):
    with pytest.raises(SystemExit) as caught:
        started(tmp_path, monkeypatch, "--dataset", "d", "--table", "t", "--spec", spec)
    assert caught.value.code == 2
    assert "--spec is neither a JSON file nor JSON text" in capsys.readouterr().err


def test_help_has_the_docstring(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit) as caught:
        started(tmp_path, monkeypatch, "--help")
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert "Do something." in shown
    assert "--dataset" in shown
    assert argparse.ArgumentParser().prog in shown


class Params(dict):
    """Named values, as Snakemake has them."""

    __getattr__ = dict.__getitem__


def snakemake(log):
    """What Snakemake gives a script."""
    return SimpleNamespace(
        input={"dataset": "d", "tables": ("a", "b")},
        output={"table": "t"},
        params=Params(spec={"n": 1}, code="digest"),
        threads=2,
        log=[str(log)] if log else [],
    )


def test_a_job_from_snakemake_writes_its_log(tmp_path, capsys):
    seen = []

    def main(job):
        seen.append(job)
        print("said")

    log = tmp_path / "job.log"
    run_job(main, script() | {"snakemake": snakemake(log)}, [], [], "")
    assert (seen[0].inputs, seen[0].outputs) == (
        {"dataset": "d", "tables": ["a", "b"]},
        {"table": "t"},
    )
    assert (seen[0].spec, seen[0].threads) == ({"n": 1}, 2)
    assert log.read_text() == "said\n"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("logged", [True, False])
def test_a_users_mistake_ends_with_its_message_and_status_1(tmp_path, capsys, logged):
    def main(job):
        raise DataError("The dataset is gone.")

    log = tmp_path / "job.log" if logged else None
    with pytest.raises(SystemExit) as caught:
        run_job(main, script() | {"snakemake": snakemake(log)}, [], [], "")
    assert caught.value.code == 1
    assert capsys.readouterr().err == "Error: The dataset is gone.\n"
    if logged:
        assert log.read_text() == "Error: The dataset is gone.\n"


def test_a_bug_is_not_dressed_up_as_a_mistake(tmp_path):
    def main(job):
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        run_job(main, script() | {"snakemake": snakemake(tmp_path / "log")}, [], [], "")
