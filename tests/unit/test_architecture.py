"""The floors of the library, and what may know what."""

import ast
import re
from pathlib import Path

import pytest

from sharpflow.config.digest import _imports

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "sharpflow"
FLOORS = (
    "parts",
    "storage",
    "data",
    "losses",
    "initialisations",
    "models",
    "curvature",
    "optimisers",
    "schedules",
    "training",
    "integrations",
    "symmetry",
    "flows",
    "measurements",
    "statistics",
    "results",
    "claims",
    "figures",
    "report",
)
"""Packages, bottom floor first: a module imports from its own floor and those below it."""
APART = ("config", "cost", "cli")
"""Read by the Snakefile and the command line alone."""


def imported(path: Path) -> set[str]:
    """Dotted modules of sharpflow that a file imports anywhere, also inside functions."""
    found = _imports(ast.parse(path.read_text(encoding="utf-8")))
    return {i.module for i in found if not i.level and i.module.startswith("sharpflow")} | {
        f"{i.module}.{i.name}" for i in found if i.module == "sharpflow"
    }


def packages(modules: set[str]) -> set[str]:
    return {module.split(".")[1] for module in modules if "." in module}


def test_every_package_has_its_floor():
    found = {path.parent.name for path in LIBRARY.glob("*/__init__.py")}
    assert found == {*FLOORS, *APART}


def test_the_page_on_architecture_lists_the_floors():
    page = (ROOT / "docs" / "background" / "architecture.md").read_text(encoding="utf-8")
    for heading, listed in (("floor", reversed(FLOORS)), ("apart", APART)):
        _, _, table = page.partition(f"| {heading} | holds |\n|---|---|\n")
        rows = table.partition("\n\n")[0].splitlines()
        assert [re.match(r"\| `(\w+)` \| ", row)[1] for row in rows] == list(listed)


@pytest.mark.parametrize("package", FLOORS)
def test_a_floor_imports_only_from_below(package):
    allowed = {*FLOORS[: FLOORS.index(package) + 1], "arguments", "errors", "devices"}
    for path in (LIBRARY / package).rglob("*.py"):
        assert packages(imported(path)) <= allowed, path.relative_to(ROOT)


def test_the_configuration_imports_nothing_heavy_of_the_library():
    light_cost = [
        LIBRARY / "cost" / f"{name}.py" for name in ("__init__", "model", "work", "sweep")
    ]
    for path in [*(LIBRARY / "config").glob("*.py"), *light_cost]:
        modules = {m for m in imported(path) if m.startswith("sharpflow.")}
        light = (
            "sharpflow.config",
            "sharpflow.cost",
            "sharpflow.parts",
            "sharpflow.errors",
            "sharpflow.storage.files",
            "sharpflow.storage.seal",
        )
        assert all(module.startswith(light) for module in modules), path.name


def test_the_engine_knows_no_paper():
    """A docstring may name one as its source; nothing else may, nor a rule, script or template."""
    keys = [path.parent.name for path in ROOT.glob("papers/*/paper.yaml")]
    named = re.compile(rf"\b({'|'.join(keys)})\b")
    for path in (*LIBRARY.rglob("*.py"), *ROOT.glob("scripts/*.py")):
        tree = ast.parse(path.read_text())
        texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            words = getattr(node, "id", "") or getattr(node, "attr", "")
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words = "" if id(node) in texts else node.value
            assert not named.search(str(words)), f"{path.relative_to(ROOT)}: {words}"
    for path in (ROOT / "Snakefile", *ROOT.glob("rules/*.smk"), *LIBRARY.rglob("*.html")):
        assert not named.search(path.read_text()), path.name


def test_scripts_read_files_through_the_storage_that_checks_them():
    unchecked = re.compile(
        r"\bopen\(|\bread_(?:csv|parquet|text)\b|\.read_bytes\b|safe_open|load_file"
    )
    for path in ROOT.glob("scripts/*.py"):
        assert not unchecked.search(path.read_text()), path.name


def test_capabilities_are_declared_and_never_probed():
    """`hasattr` on a network or an optimiser is a capability that nobody declared."""
    probed = re.compile(r"hasattr\((?:self\.)?(?:problem\.)?(?:model|optimiser|loss)\b")
    for path in LIBRARY.rglob("*.py"):
        assert not probed.search(path.read_text()), path.relative_to(ROOT)


def test_papers_import_the_library_and_themselves_only():
    for path in ROOT.glob("papers/**/*.py"):
        for item in _imports(ast.parse(path.read_text())):
            assert not item.module.startswith("papers"), path.relative_to(ROOT)
