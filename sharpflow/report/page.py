"""Builds the page from plain inputs: pictures as bytes, tables as data frames, settings as dicts.

The same inputs give the same text: the page carries no date, no path and nothing from outside.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jinja2
import numpy as np
import pandas as pd

CLAIM_COLUMNS = (
    "claim",
    "paper",
    "figure",
    "experiment",
    "case",
    "statement",
    "statistic",
    "low",
    "high",
    "confidence",
    "method",
    "band_low",
    "band_high",
    "verdict",
    "seeds",
)

VERDICTS = {
    "supported": ("yes", "✓"),
    "not supported": ("no", "✗"),
    "inconclusive": ("open", "?"),
}

PAPERS = {
    "li2022": (
        "Wang, Li and Li (NeurIPS 2022)",
        "Analyzing Sharpness along GD Trajectory: Progressive Sharpening and Edge of Stability",
    ),
    "ziyin2024": (
        "Ziyin, Wang, Li and Wu (NeurIPS 2024)",
        "Parameter Symmetry and Noise Equilibrium of Stochastic Gradient Descent",
    ),
}

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class FigureEntry:
    """A figure as the page shows it.

    Attributes
    ----------
    name, paper : str
        Name of the figure and key of its paper; together they are unique on a page.
    title, caption : str
        Plain text.
    png : bytes
        The picture.
    experiments : list of str
        Names of the experiments that it draws.
    command : str
        Command that rebuilds this figure alone.
    """

    name: str
    paper: str
    title: str
    caption: str
    png: bytes
    experiments: list[str] = field(default_factory=list)
    command: str = ""

    @property
    def anchor(self) -> str:
        """Fragment identifier of the figure's section."""
        return _anchor("figure", self.paper, self.name)


def build(
    figures: Sequence[FigureEntry],
    claims: pd.DataFrame,
    experiments: Mapping[str, Mapping[str, Any]],
    provenance: Mapping[str, str],
    tables: Sequence[tuple[str, pd.DataFrame]] = (),
) -> str:
    """Page with all figures, claims and verdicts, as one HTML text that needs no other file.

    Parameters
    ----------
    figures : sequence of FigureEntry
        In the order in which a paper's section shows them.
    claims : DataFrame
        One row a claim and case, with the columns ``CLAIM_COLUMNS``; may be empty.
    experiments : dict
        Settings of each experiment by its name.
    provenance : dict
        Package versions, device, configuration, commit: shown as they are.
    tables : sequence of (title, DataFrame)
        Further tables to show after the papers.

    Raises
    ------
    ValueError
        If a column of the claims is missing, a figure appears twice or is no PNG, or a figure
        names an experiment whose settings are not given.
    """
    claims = _checked_claims(claims)
    _check_figures(figures, experiments)
    anchors = {(figure.paper, figure.name): figure.anchor for figure in figures}
    rows = [_claim_row(record, anchors) for record in claims.to_dict("records")]
    papers = dict.fromkeys([f.paper for f in figures] + [row["paper"] for row in rows])
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sharpflow", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html").render(
        papers=[_paper_section(paper, figures, rows) for paper in papers],
        total=_counts(rows),
        figures=[_figure_section(figure, rows, experiments) for figure in figures],
        provenance=sorted((str(key), str(value)) for key, value in provenance.items()),
        tables=[_plain_table(i, title, frame) for i, (title, frame) in enumerate(tables)],
    )


def settings_digest(settings: Mapping[str, Any]) -> str:
    """First 16 hexadecimal digits of the SHA-256 of an experiment's settings as sorted JSON."""
    text = json.dumps(settings, sort_keys=True, default=str, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def number(value: Any) -> str:
    """A value as text: numbers with four significant digits, a dash for what is missing."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{int(value):,}"
    if isinstance(value, float | np.floating):
        if np.isinf(value):
            return "∞" if value > 0 else "−∞"
        rounded = float(f"{float(value):.4g}")
        if abs(rounded) < 1e7 and rounded == int(rounded):
            return f"{int(rounded):,}".replace("-", "−")
        return f"{rounded:g}".replace("-", "−")
    return str(value)


def band(low: float, high: float) -> str:
    """A claim's band as text; a missing or infinite end makes it one-sided."""
    below, above = pd.notna(low) and np.isfinite(low), pd.notna(high) and np.isfinite(high)
    if below and above:
        return f"{number(float(low))} to {number(float(high))}"
    if below:
        return f"≥ {number(float(low))}"
    return f"≤ {number(float(high))}" if above else "–"


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Settings as (dotted key, value) pairs, in the order given."""
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(_setting(entry) for entry in value) or "(none)"
        else:
            yield name, _setting(value)


def _setting(value: Any) -> str:
    if value is None or value == {}:
        return "(none)"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _checked_claims(claims: pd.DataFrame) -> pd.DataFrame:
    missing = [column for column in CLAIM_COLUMNS if column not in claims.columns]
    if claims.empty:
        return pd.DataFrame(columns=list(CLAIM_COLUMNS))
    if missing:
        raise ValueError(f"claims has no column {', '.join(missing)}, which the page needs")
    return claims


def _check_figures(
    figures: Sequence[FigureEntry], experiments: Mapping[str, Mapping[str, Any]]
) -> None:
    seen: set[str] = set()
    for figure in figures:
        if figure.anchor in seen:
            raise ValueError(f"figures has {figure.paper}/{figure.name} twice; names must differ")
        seen.add(figure.anchor)
        if not figure.png.startswith(_PNG_SIGNATURE):
            raise ValueError(f"png of figure {figure.name!r} is not a PNG picture")
        for name in figure.experiments:
            if name not in experiments:
                raise ValueError(
                    f"experiments has no {name!r}, which figure {figure.name!r} draws; "
                    f"given: {', '.join(sorted(experiments)) or 'none'}"
                )


def _anchor(*parts: str) -> str:
    """Fragment identifier, safe in a link, and different for different parts."""
    text = "-".join(parts)
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", text)
    return safe if safe == text else f"{safe}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _claim_row(record: Mapping[str, Any], anchors: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    verdict = str(record["verdict"])
    style, symbol = VERDICTS.get(verdict, ("other", "–"))
    confidence = record["confidence"]
    stated = pd.notna(record["low"]) and pd.notna(record["high"])
    paper, figure = str(record["paper"]), str(record["figure"])
    return {
        "claim": str(record["claim"]),
        "paper": paper,
        "figure": figure,
        "anchor": anchors.get((paper, figure)),
        "experiment": number(record["experiment"]),
        "case": number(record["case"]),
        "statement": str(record["statement"]),
        "statistic": number(record["statistic"]),
        "interval": f"[{number(record['low'])}, {number(record['high'])}]" if stated else "",
        "confidence": f"{100 * float(confidence):.4g} %" if pd.notna(confidence) else "",
        "method": number(record["method"]),
        "band": band(record["band_low"], record["band_high"]),
        "verdict": verdict,
        "style": style,
        "symbol": symbol,
        "seeds": number(record["seeds"]),
    }


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    counts = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in VERDICTS}
    return counts | {"other": len(rows) - sum(counts.values()), "all": len(rows)}


def _paper_section(
    paper: str, figures: Sequence[FigureEntry], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    authors, title = PAPERS.get(paper, ("", paper))
    own = [row for row in rows if row["paper"] == paper]
    return {
        "key": paper,
        "anchor": _anchor("paper", paper),
        "authors": authors,
        "title": title,
        "counts": _counts(own),
        "claims": own,
        "figures": [figure.anchor for figure in figures if figure.paper == paper],
    }


def _figure_section(
    figure: FigureEntry,
    rows: Sequence[Mapping[str, Any]],
    experiments: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    return {
        "anchor": figure.anchor,
        "name": figure.name,
        "title": figure.title,
        "caption": figure.caption,
        "image": base64.b64encode(figure.png).decode("ascii"),
        "size": _png_size(figure.png),
        "command": figure.command,
        "claims": [row for row in rows if row["anchor"] == figure.anchor],
        "experiments": [
            {
                "name": name,
                "digest": settings_digest(experiments[name]),
                "settings": list(flatten(experiments[name])),
            }
            for name in figure.experiments
        ],
    }


def _png_size(png: bytes) -> tuple[int, int] | None:
    """Width and height in pixels, from the header; None if the header is cut off."""
    if len(png) < 24:
        return None
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def _plain_table(position: int, title: str, frame: pd.DataFrame) -> dict[str, Any]:
    return {
        "anchor": f"table-{position + 1}",
        "title": str(title),
        "columns": [str(column) for column in frame.columns],
        "numeric": [pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes],
        "rows": [[number(value) for value in row] for row in frame.itertuples(index=False)],
    }
