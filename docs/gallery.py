"""Make docs/gallery.md and its small pictures from the tables of a finished run.

python docs/gallery.py [--configfile FILE] [RESULTS]
"""

import argparse
import io
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Drawing
from PIL import Image

from sharpflow.config import Plan, load, make_plan
from sharpflow.config.plan import Figure
from sharpflow.errors import exit_status
from sharpflow.figures import base, style
from sharpflow.results.tables import ExperimentTable
from sharpflow.storage.parts import read_parts

ROOT = Path(__file__).resolve().parents[1]
WIDTH, COLOURS = 620, 96
"""Pixels and colours of a small picture."""

HEAD = """# Figures

What `make run` draws, made small. The page of a run has each large, with its caption, its numbers
and its verdicts. This page is made from a finished run by `python docs/gallery.py results`.
"""


def tables_of(plan: Plan, figure: Figure, results: Path, confidence: float) -> dict:
    """The tables that a figure is drawn from, by experiment."""
    found = {}
    for name in figure.experiments:
        runs, summary = (
            read_parts(sorted((results / "tables" / name / kind).glob("*.parquet")))
            for kind in ("runs", "summary")
        )
        found[name] = ExperimentTable(runs, summary, plan.settings[name], confidence)
    return found


def save(figure: Drawing, path: Path) -> None:
    """Write a figure `WIDTH` pixels wide, in `COLOURS` colours."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=150)
    picture = Image.open(drawn).convert("RGB")
    height = round(picture.height * WIDTH / picture.width)
    small = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
    few = small.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


def entry(figure: Figure, words: Mapping[str, Any]) -> str:
    """The lines of one figure: heading, its number in the publication, picture."""
    number = f", {words['published']} of the paper" if words["published"] else ""
    picture = f"images/gallery/{figure.paper}_{figure.name}.png"
    return f"### {words['title']}\n\n`{figure.name}`{number}\n\n![{words['alt']}]({picture})\n"


def make(configuration: str, results: Path, docs: Path) -> None:
    """Write page and pictures of every figure of a configuration."""
    settings = load(configuration)
    plan = make_plan(settings)
    pictures = docs / "images" / "gallery"
    pictures.mkdir(parents=True, exist_ok=True)
    lines, paper = [HEAD], ""
    for figure in plan.figures:
        if figure.paper != paper:
            paper = figure.paper
            title = plan.papers[paper]["title"]
            lines.append(f"## {title}\n\n[What the paper says](papers/{paper}.md)\n")
        module = import_module(figure.module)
        tables = tables_of(plan, figure, results, settings.configuration.confidence)
        drawing = style.house(base.checked)(module.draw(tables), figure.module)
        save(drawing, pictures / f"{paper}_{figure.name}.png")
        lines.append(entry(figure, base.words(module, tables)))
    (docs / "gallery.md").write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=ROOT / "results")
    parser.add_argument("--configfile", default=str(ROOT / "config" / "config.yaml"))
    options = parser.parse_args()
    make(options.configfile, options.results, ROOT / "docs")


if __name__ == "__main__":
    sys.exit(exit_status(main))
