"""The documentation site: no warning, no link that leads nowhere, no page or name left out."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docs_blocks import pages

pytest.importorskip("sphinx")

from sphinx.util.inventory import InventoryFile

from sharpflow.config import load, make_plan

ROOT = Path(__file__).resolve().parents[2]
PUBLIC = ("sharpflow.curvature", "sharpflow.symmetry", "sharpflow.flows")


def build(source: Path, target: Path) -> subprocess.CompletedProcess:
    """As `make docs` does; what Sphinx says is on standard error."""
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    return subprocess.run(
        [*command, "-c", source / "docs", "-d", target / "doctrees", source, target / "html"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    target = tmp_path_factory.mktemp("site")
    built = build(ROOT, target)
    assert built.returncode == 0, built.stderr[-3000:]
    return target / "html"


def test_every_page_is_in_the_site(site):
    pages = [*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "config" / "README.md"]
    assert len(pages) > 20
    for page in pages:
        if "_build" not in page.parts:
            made = (site / page.relative_to(ROOT)).with_suffix(".html")
            assert made.is_file(), made


def test_the_reference_has_every_public_name(site):
    listed = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    names = {name for kind, found in listed.items() if kind.startswith("py:") for name in found}
    for module in PUBLIC:
        for name in importlib.import_module(module).__all__:
            assert f"{module}.{name}" in names


def test_nothing_is_loaded_from_a_network(site):
    loading = re.compile(r'(?:<(?:script|img|iframe)[^>]+src|<link[^>]+href)="(?:https?:)?//')
    for page in site.rglob("*.html"):
        assert not loading.search(page.read_text(encoding="utf-8")), page


WRONG = {
    "a page that is not there": "[x](absent.md)",
    "a heading of another page that is not there": "[x](other.md#absent)",
    "a heading of the same page that is not there": "[x](#absent-here)",
    "a picture that is not there": "![x](images/absent.png)",
}


def test_a_wrong_link_fails_the_build(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    shutil.copy(ROOT / "docs" / "conf.py", docs)
    (docs / "index.md").write_text("# Home\n\n```{toctree}\nother\nlinks\n```\n")
    (docs / "other.md").write_text("# Other\n")
    (docs / "links.md").write_text("# Links\n\n" + "\n\n".join(WRONG.values()) + "\n")
    built = build(tmp_path, tmp_path / "built")
    assert built.returncode != 0
    for target in ("absent.md", "'absent'", "absent-here", "images/absent.png"):
        assert target in built.stderr, built.stderr
    (docs / "links.md").write_text("# Links\n\n[x](other.md#other) [y](#links)\n")
    built = build(tmp_path, tmp_path / "mended")
    assert built.returncode == 0, built.stderr


def test_the_gallery_has_every_figure_of_the_default_and_is_small():
    figures = make_plan(load(str(ROOT / "config" / "config.yaml"))).figures
    names = {f"{figure.paper}_{figure.name}.png" for figure in figures}
    pictures = {path.name: path.stat().st_size for path in ROOT.glob("docs/images/gallery/*.png")}
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert pictures.keys() == names
    assert names == set(re.findall(r"\(images/gallery/([^)]+)\)", page))
    assert sum(pictures.values()) < 700_000


def test_every_file_that_the_pages_name_is_there():
    """Tests, scripts and modules; results and files of the reader have other folders."""
    named = re.compile(r"(?<![\w/])(?:tests|scripts|rules|sharpflow)/[\w/.-]+\.\w+\b")
    found = {}
    for page in pages():
        if page != "CHANGELOG.md":
            for name in named.findall((ROOT / page).read_text(encoding="utf-8")):
                found[name] = page
    assert len(found) > 30
    assert {n: page for n, page in found.items() if not (ROOT / n).is_file()} == {}


def test_every_page_that_code_or_text_names_is_there():
    named = re.compile(r"\bdocs/[\w/-]+\.md\b")
    parts = ("sharpflow", "rules", "scripts", "profiles", "papers", "tests", "benchmarks", "config")
    files = [p for part in parts for p in (ROOT / part).rglob("*") if p.suffix != ".pyc"]
    files += [*ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "Snakefile"]
    found = set()
    for path in files:
        if path.is_file() and path.suffix not in (".png", ".npz"):
            found |= set(named.findall(path.read_text(encoding="utf-8", errors="ignore")))
    assert len(found) > 10
    assert [name for name in sorted(found) if not (ROOT / name).is_file()] == []
