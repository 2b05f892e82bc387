"""Make docs/gallery.md and its small pictures from the figures of a finished run.

python docs/gallery.py [RESULTS]
"""

import argparse
import sys
from pathlib import Path

import yaml
from PIL import Image

from sharpflow.errors import DataError, exit_status
from sharpflow.storage.seal import read_bytes, read_json

ROOT = Path(__file__).resolve().parents[1]
WIDTH, COLOURS = 560, 64
"""Pixels and colours of a small picture."""

HEAD = """# Figures

What `make run` draws, made small. The page of a run has each large, with its caption, its numbers
and its verdicts. This page is made from a finished run by `python docs/gallery.py results`.
"""


def shrink(source: Path, target: Path) -> None:
    """Write a sealed PNG `WIDTH` pixels wide, in `COLOURS` colours."""
    read_bytes(source)
    picture = Image.open(source).convert("RGB")
    height = round(picture.height * WIDTH / picture.width)
    small = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
    small.quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)


def entry(paper: str, figure: str, words: dict) -> str:
    """The lines of one figure: heading, its number in the publication, picture."""
    published = f" ({words['published']} of the paper)" if words.get("published") else ""
    alt = words.get("alt") or words["title"]
    picture = f"images/gallery/{paper}_{figure}.png"
    return f"### {words['title']}\n\n`{figure}`{published}\n\n![{alt}]({picture})\n"


def make(results: Path, docs: Path) -> None:
    """Write page and pictures of every figure that the papers list and the results hold.

    Raises:
        DataError: there is no figure.
    """
    pictures = docs / "images" / "gallery"
    pictures.mkdir(parents=True, exist_ok=True)
    lines = [HEAD]
    for file in sorted(ROOT.glob("papers/*/paper.yaml")):
        paper = yaml.safe_load(file.read_text(encoding="utf-8"))
        folder = results / "figures" / paper["key"]
        drawn = [name for name in paper["figures"] if (folder / f"{name}.png").is_file()]
        if drawn:
            lines.append(f"## {paper['title']}\n\n[The paper's page](papers/{paper['key']}.md)\n")
        for name in drawn:
            shrink(folder / f"{name}.png", pictures / f"{paper['key']}_{name}.png")
            lines.append(entry(paper["key"], name, read_json(folder / f"{name}.json")))
    if len(lines) == 1:
        raise DataError(f"{results}/figures holds no figure of a paper; run the workflow first.")
    (docs / "gallery.md").write_text("\n".join(lines), encoding="utf-8")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, default=ROOT / "results")
    make(parser.parse_args().results, ROOT / "docs")


if __name__ == "__main__":
    sys.exit(exit_status(main))
