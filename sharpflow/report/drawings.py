"""Small drawings as inline SVG, in the colours of the page's style sheet."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from xml.etree import ElementTree

from markupsafe import Markup, escape

from sharpflow.report.text import number

WIDTH, HEIGHT = 160, 22
_MARGIN = 0.12
_SCALE = 1.4
"""Size of a figure on the page, in pixels a point."""
_LONG = re.compile(r"-?\d+\.\d{3,}")
_LINK = re.compile(r"url\(#([^)]+)\)")


def interval(raw: Mapping[str, float], runs: bool, band: str) -> Markup:
    """A measurement against its band: the shaded band, the line of the interval, its centre.

    Args:
        raw: numbers of a row of `claims.csv`. A mean is drawn with its interval; for a statement
            on every run, the median with the least and the largest run.
        runs: whether the statement is about every run.
        band: the band, in words.

    Returns:
        An `svg` element; empty where nothing was measured.
    """
    names = ("median", "least", "largest") if runs else ("statistic", "low", "high")
    centre, low, high = (raw[name] for name in names)
    if not math.isfinite(centre):
        return Markup("")
    ends = [raw["band_low"], raw["band_high"]]
    seen = [v for v in (centre, low, high, *ends) if math.isfinite(v)]
    span = (max(seen) - min(seen)) or 0.1 * (abs(centre) or 1.0)
    start, stop = min(seen) - _MARGIN * span, max(seen) + _MARGIN * span

    def place(value: float) -> str:
        share = (min(max(value, start), stop) - start) / (stop - start)
        return f"{1 + share * (WIDTH - 2):.1f}"

    shaded = float(place(ends[1])) - float(place(ends[0]))
    left, middle, right = place(low), place(centre), place(high)
    what = "runs from" if runs else "interval from"
    words = f"{what} {number(low)} to {number(high)} about {number(centre)}; band {band}"
    return Markup(
        '<svg class="interval" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" '
        'aria-label="{words}"><rect class="band" x="{x}" y="1" width="{width:.1f}" height="20"/>'
        '<path d="M{a} 11H{b}M{a} 7v8M{b} 7v8"/><circle cx="{c}" cy="11" r="3.5"/></svg>'
    ).format(
        w=WIDTH, h=HEIGHT, words=words, x=place(ends[0]), width=shaded, a=left, b=right, c=middle
    )


def layers(edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Nodes of an acyclic graph in layers: each stands one layer past the last of its sources."""
    pairs = list(edges)
    depth = dict.fromkeys((node for pair in pairs for node in pair), 0)
    for _ in depth:
        for source, target in pairs:
            depth[target] = max(depth[target], depth[source] + 1)
    found: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for node, layer in depth.items():
        found[layer].append(node)
    return found


def graph(edges: Sequence[tuple[str, str]], label: str) -> Markup:
    """An acyclic graph, from left to right.

    Args:
        edges: pairs of source and target.
        label: what it is, for who cannot see it.
    """
    columns, rows = layers(edges), 0
    wide, high, gap = 132, 30, 30
    places = {}
    for column, nodes in enumerate(columns):
        rows = max(rows, len(nodes))
        for row, node in enumerate(nodes):
            places[node] = (column * (wide + gap), row * (high + 26))
    if not places:
        return Markup("")
    tallest = rows * (high + 26) - 26
    for nodes in columns:
        lift = (tallest - (len(nodes) * (high + 26) - 26)) / 2
        for node in nodes:
            places[node] = (places[node][0], places[node][1] + lift)
    parts, lowest = [], tallest
    for source, target in edges:
        (x, y), (u, v) = places[source], places[target]
        x, y, v = x + wide, y + high / 2, v + high / 2
        bend = gap * 0.6
        if u - x > gap:  # over the layers between, below their boxes
            low = tallest + 6 + (u - x) / 30
            lowest = max(lowest, low)
            line = f"M{x:g} {y:g}C{x + gap:g} {low:g} {x + gap:g} {low:g} {(x + u) / 2:g} {low:g}"
            parts.append(f'<path d="{line}S{u - gap:g} {low:g} {u:g} {v:g}"/>')
            continue
        parts.append(f'<path d="M{x:g} {y:g}C{x + bend:g} {y:g} {u - bend:g} {v:g} {u:g} {v:g}"/>')
    for node, (x, y) in places.items():
        parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{wide}" height="{high}" rx="5"/>'
            f'<text x="{x + wide / 2:g}" y="{y + high / 2 + 4:g}">{escape(node)}</text>'
        )
    width, height = len(columns) * (wide + gap) - gap, lowest + 2
    told = escape(label)
    return Markup(
        f'<svg class="graph" viewBox="-2 -2 {width + 4} {height + 4:g}" width="{width + 4}" '
        f'height="{height + 4:g}" role="img" aria-label="{told}">{"".join(parts)}</svg>'
    )


def inline(svg: bytes, prefix: str, alt: str) -> Markup:
    """A figure's SVG as an element of the page: its ids its own, its paper that of the page.

    Coordinates are rounded to a hundredth of a point.

    Args:
        svg: the file.
        prefix: goes before every id that something refers to; the others are left out.
        alt: what is seen.

    Raises:
        ValueError: it is no SVG.
    """
    try:
        root = ElementTree.fromstring(svg)
    except ElementTree.ParseError as error:
        raise ValueError(f"no SVG: {error}") from error
    if _plain(root.tag) != "svg":
        raise ValueError("no SVG: its root is another element")
    asked = set(_LINK.findall(svg.decode())) | {
        value[1:] for e in root.iter() for k, value in e.items() if _plain(k) == "href"
    }
    for element in root.iter():
        element.tag = _plain(element.tag)
        for child in [c for c in element if _plain(c.tag) in ("metadata", "title", "desc")]:
            element.remove(child)
        kept = {_plain(k): v for k, v in element.items() if _plain(k) != "id" or v in asked}
        element.attrib.clear()
        for key, value in kept.items():
            if key == "id":
                value = f"{prefix}-{value}"
            elif key == "href" and value.startswith("#"):
                value = f"#{prefix}-{value[1:]}"
            if key in ("d", "x", "y", "points"):
                value = _LONG.sub(lambda found: f"{float(found[0]):.2f}", value)
            element.set(key, _LINK.sub(rf"url(#{prefix}-\1)", value))
        if element.tag == "style":
            element.text = re.sub(r"([^{}]+)\{", rf"#{prefix} \1{{", element.text or "")
    box = root.get("viewBox", "").split()
    if len(box) == 4:
        root.set("width", f"{_SCALE * float(box[2]):.0f}")
        root.set("height", f"{_SCALE * float(box[3]):.0f}")
    root.attrib |= {"id": prefix, "class": "plot", "role": "img", "aria-label": alt}
    text = ElementTree.tostring(root, encoding="unicode")
    return Markup(text.replace("#ffffff", "var(--plot)"))


def _plain(name: str) -> str:
    return name.rpartition("}")[2]
