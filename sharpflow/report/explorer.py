"""The runs themselves, for the part of the page on which a reader picks and compares curves.

`collect` reads run tables a piece at a time and keeps the curves as words of sixteen bits;
`ExplorerData.payload` packs them into at most so many bytes and says what had to give. The page's
script (`explorer.js`) unpacks and draws them.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sharpflow.report.packing import LEVELS, Block, Detail, pack, quantise
from sharpflow.report.tables import SHARPNESS
from sharpflow.report.text import anchor
from sharpflow.results.edge import entries
from sharpflow.results.phases import WINDOW, phases
from sharpflow.results.tables import (
    CONVERGED,
    IN_THE_METRIC,
    RUN_COLUMNS,
    check_run_table,
    of_training,
    usable,
)

BUDGET = 600_000
"""Bytes of the page that the curves may take."""
MATRIX = 8
"""A quantity of more entries than this is a matrix, and no curve."""
WEIGHTS = {"sharpness": 4, "loss": 2}
"""How many times as many bins as others a curve is kept in, by the end of its quantity's name."""
KEPT = 256_000_000
"""Bytes of curves in memory; beyond them runs are left out while tables are read."""
THRESHOLD = "stability_threshold"
_PRODUCTS = "_products"
_RUN = ["case", "width", "learning_rate", "seed"]

_BINS = (400, 200, 150, 100, 75, 60, 50, 42, 36, 32, 28, 24, 22, 20, 19, 18, 17, 16, 15, 14, 13, 12)
DETAILS = (
    Detail(),
    *(Detail(None, bins) for bins in _BINS),
    *(Detail(bins, 12) for bins in (100, 50, 25, 12)),
    *(Detail(12, 12, 2**power) for power in range(1, 13)),
    *(Detail(12, 12, 2**12, 2**power) for power in range(1, 21)),
)
"""From all records of all runs to the fewest; the first that fits is used."""


@dataclass(eq=False)
class _Runs:
    """The runs of an experiment: every one seen, in the order of the tables."""

    keys: list[tuple[str, int, float, int]] = field(default_factory=list)
    number: dict[tuple[str, int, float, int], int] = field(default_factory=dict)
    networks: dict[tuple[str, int, float], int] = field(default_factory=dict)
    network: list[int] = field(default_factory=list)
    rank: list[int] = field(default_factory=list)
    seeds: dict[int, int] = field(default_factory=dict)

    def add(self, key: tuple[str, int, float, int]) -> int:
        """The number of a run, which is new or has been seen."""
        if key not in self.number:
            self.number[key] = len(self.keys)
            self.keys.append(key)
            network = self.networks.setdefault(key[:3], len(self.networks))
            self.network.append(network)
            self.rank.append(self.seeds.get(network, 0))
            self.seeds[network] = self.rank[-1] + 1
        return self.number[key]

    def kept(self, detail: Detail) -> np.ndarray:
        """Whether each run is kept."""
        ranks, networks = np.asarray(self.rank), np.asarray(self.network)
        return (ranks % detail.seeds == 0) & (networks % detail.networks == 0)

    @property
    def first(self) -> np.ndarray:
        """Whether each run is its network's first."""
        return np.asarray(self.rank) == 0


@dataclass(eq=False)
class Curves:
    """The curves of one experiment.

    Attributes:
        runs: all runs of the tables, also those whose curves were left out.
        blocks: curves, of which those of one quantity and index that were recorded at the same
            steps are together.
        spans: of each run by its number, (phase, first step, last step) in their order.
        matrices: quantities of more than `MATRIX` entries, which are no curves.
    """

    runs: _Runs = field(default_factory=_Runs)
    blocks: list[Block] = field(default_factory=list)
    spans: dict[int, list[tuple[int, int, int]]] = field(default_factory=dict)
    matrices: set[str] = field(default_factory=set)


class Payload(NamedTuple):
    """What goes into the page.

    Attributes:
        text: base64 of `packing.pack`.
        detail: how much was kept.
        notes: sentences that say what was left out.
    """

    text: str
    detail: Detail
    notes: list[str]


@dataclass(frozen=True, eq=False)
class ExplorerData:
    """The curves of experiments, with their settings.

    Attributes:
        curves: by experiment.
        settings: of each experiment: title, and `cases` with their set-ups.
        detail: what had to be left out already while the tables were read.
    """

    curves: Mapping[str, Curves]
    settings: Mapping[str, Mapping[str, Any]]
    detail: Detail = field(default_factory=Detail)

    @property
    def drawn(self) -> dict[str, Curves]:
        """The experiments that have a curve."""
        return {name: curves for name, curves in self.curves.items() if curves.blocks}

    def payload(self, budget: int = BUDGET) -> Payload:
        """The curves in at most `budget` bytes of text, in as much detail as fits.

        Where not even the least detail fits it is taken all the same, and a note says so.
        """
        allowed = [d for d in DETAILS if d.seeds >= self.detail.seeds]
        allowed = [d for d in allowed if d.networks >= self.detail.networks]

        def text(detail: Detail) -> str:
            return base64.b64encode(self._packed(detail)).decode("ascii")

        low, high, best = 0, len(allowed) - 1, ""
        while low < high:
            middle = (low + high) // 2
            found = text(allowed[middle])
            if len(found) <= budget:
                high, best = middle, found
            else:
                low = middle + 1
        best = best or text(allowed[low])
        notes = self._notes(allowed[low])
        if len(best) > budget:
            notes.append(
                f"The curves take {_kilobytes(len(best))} of the page and not the "
                f"{_kilobytes(budget)} that were asked for: there is no less detail."
            )
        return Payload(best, allowed[low], notes)

    def section(self, budget: int = BUDGET) -> dict[str, Any] | None:
        """What `explorer.html` shows, with the curves in `budget` bytes; None without a curve."""
        if not self.drawn:
            return None
        payload = self.payload(budget)
        kept = (int(curves.runs.kept(payload.detail).sum()) for curves in self.drawn.values())
        return {
            "payload": payload.text,
            "notes": payload.notes,
            "runs": sum(kept),
            "experiments": [
                {"name": name, "title": str(self.settings.get(name, {}).get("title", ""))}
                for name in self.drawn
            ],
        }

    def _packed(self, detail: Detail) -> bytes:
        listed, blocks, leading, offset = [], [], [], 0
        for name, curves in self.drawn.items():
            kept = curves.runs.kept(detail)
            number = offset + np.cumsum(kept) - 1
            listed.append(self._experiment(name, curves, kept))
            leading.append(curves.runs.first[kept])
            for block in curves.blocks:
                part = block.rows(kept[block.runs])
                if part.runs.size:
                    blocks.append(part.renumbered(number))
            offset += int(kept.sum())
        first = np.concatenate(leading) if leading else np.empty(0, bool)
        header = {
            "experiments": listed,
            "threshold": THRESHOLD,
            "sharpness": SHARPNESS,
            "in_the_metric": sorted(IN_THE_METRIC),
            "levels": LEVELS,
        }
        return pack(header, blocks, first, detail)

    def _experiment(self, name: str, curves: Curves, kept: np.ndarray) -> dict[str, Any]:
        settings = self.settings.get(name, {})
        cases = settings.get("cases") or {}
        present = {key[0] for key in curves.runs.keys}
        names = [*(case for case in cases if case in present), *sorted(present - set(cases))]
        shown = [key for key, keep in zip(curves.runs.keys, kept, strict=True) if keep]
        columns = zip(*shown, strict=True)
        case, width, rate, seed = (list(column) for column in columns)
        numbers = np.cumsum(kept) - 1
        return {
            "name": name,
            "anchor": anchor("experiment", name),
            "cases": [
                {
                    "name": each,
                    "symbol": cases.get(each, {}).get("threshold_symbol", "2/η"),
                    "preconditioned": bool(cases.get(each, {}).get("preconditioned", False)),
                }
                for each in names
            ],
            "case": [names.index(each) for each in case],
            "width": width,
            "rate": [f"{each:.12g}" for each in rate],
            "seed": seed,
            "phases": {
                str(numbers[run]): [list(span) for span in spans]
                for run, spans in curves.spans.items()
                if kept[run]
            },
        }

    def _notes(self, detail: Detail) -> list[str]:
        """What the reader has to know of what was left out."""
        notes = [] if detail.others is None else [_said_of_bands(detail.first, detail.others)]
        total = sum(len(curves.runs.keys) for curves in self.drawn.values())
        shown = sum(int(curves.runs.kept(detail).sum()) for curves in self.drawn.values())
        if shown < total:
            which = (
                f"the first seed of every {_ordinal(detail.networks)} setting"
                if detail.networks > 1
                else f"every {_ordinal(detail.seeds)} seed of a setting, from its first on"
            )
            notes.append(
                f"Runs are left out to keep the page small: shown are {shown:,} of {total:,}, "
                f"{which}. All of them are in the tables."
            )
        matrices = sorted(set().union(*(curves.matrices for curves in self.curves.values())))
        if matrices:
            notes.append(
                f"Matrices of more than {MATRIX} entries are in the tables alone: "
                f"{', '.join(matrices)}."
            )
        return notes


def _said_of_bands(first: int | None, others: int) -> str:
    def bins(number: int) -> str:
        more = ", ".join(f"{weight * number} for {end}" for end, weight in WEIGHTS.items())
        return f"{number} bins of records ({more})"

    subject, many = "A curve", bins(others)
    if first is None:
        subject = "The first run of each setting has its curves whole. A curve of another"
    elif first != others:
        many = f"{bins(first)} in the first run of each setting, {bins(others)} in another"
    return (
        f"{subject} is drawn as a band, between the least and the greatest value of each of {many},"
        " unless it is short or smooth enough to be kept whole."
    )


def _kilobytes(size: int) -> str:
    return f"{size / 1000:,.3g} kB"


def _ordinal(number: int) -> str:
    tail = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10)
    return f"{number:,}{tail or 'th'}"


def collect(
    pieces: Iterable[tuple[str, pd.DataFrame]],
    settings: Mapping[str, Mapping[str, Any]],
    kept_bytes: int = KEPT,
) -> ExplorerData:
    """The curves of run tables.

    A curve has at least two records; what was recorded once is in the tables alone, and so are the
    solvers' own notes (products, residuals, whether they converged). A value that did not converge
    is a gap.

    Args:
        pieces: name of an experiment and rows of its run table (`RUN_COLUMNS`), in any number; the
            rows of one run are together. Those of what ran beside training are left out.
        settings: of each experiment, by its name.
        kept_bytes: of curves in memory, beyond which runs are left out: at first seeds, then
            whole networks.

    Returns:
        The curves, experiment by experiment in the order in which they came.

    Raises:
        ValueError: a column is missing.
    """
    found: dict[str, Curves] = {}
    thinned = iter([d for d in DETAILS if d.seeds > 1])
    detail, held = Detail(), dict[str, int]()
    for name, frame in pieces:
        check_run_table(frame)
        frame = of_training(frame)
        curves = found.setdefault(name, Curves())
        cases = settings.get(name, {}).get("cases") or {}
        added = _blocks(frame, curves, cases)
        held[name] = held.get(name, 0) + sum(block.words.nbytes for block in added)
        while sum(held.values()) > kept_bytes and (following := next(thinned, None)):
            detail = following
            held = {each: _thin(own, detail) for each, own in found.items()}
        if detail.seeds > 1:
            held[name] = _thin(curves, detail)
    for curves in found.values():
        curves.blocks = _merged(curves.blocks)
    return ExplorerData(found, settings, detail)


def _thin(curves: Curves, detail: Detail) -> int:
    """Leave out the curves of runs that a detail leaves out; bytes of those that stay."""
    kept = curves.runs.kept(detail)
    thinned = (block.rows(kept[block.runs]) for block in curves.blocks)
    curves.blocks = [block for block in thinned if block.runs.size]
    curves.spans = {run: spans for run, spans in curves.spans.items() if kept[run]}
    return sum(block.words.nbytes for block in curves.blocks)


def _merged(blocks: Sequence[Block]) -> list[Block]:
    """Blocks of one quantity and the same steps put together, in order of their names and runs."""
    alike: dict[tuple[Any, ...], list[Block]] = {}
    for block in blocks:
        key = (block.quantity, block.index, block.joined, block.steps.tobytes())
        alike.setdefault(key, []).append(block)
    whole = [Block.together(parts) for parts in alike.values()]
    return sorted(whole, key=lambda b: (b.quantity, b.index, int(b.runs[0]), b.steps.size))


def _blocks(frame: pd.DataFrame, curves: Curves, cases: Mapping[str, Any]) -> list[Block]:
    """Add a piece's runs, curves and phases to those of its experiment; the new blocks."""
    rows = _readable(frame, curves)
    if rows.empty:
        return []
    found = list(_curves(rows, curves.runs))
    strides: dict[int, float] = {}
    for curve in found:
        strides[curve.run] = min(strides.get(curve.run, np.inf), curve.stride)
    alike: dict[tuple[Any, ...], list[_Curve]] = {}
    for curve in found:
        joined = curve.stride <= strides[curve.run]
        key = (curve.quantity, curve.index, joined, curve.steps.tobytes())
        alike.setdefault(key, []).append(curve)
    added = []
    for (quantity, index, joined, _), group in alike.items():
        words, low, high, logarithmic = quantise(np.stack([curve.values for curve in group]))
        runs = np.array([curve.run for curve in group])
        steps = group[0].steps
        weight = next((w for end, w in WEIGHTS.items() if quantity.endswith(end)), 1)
        ranges = words, low, high, logarithmic
        added.append(Block(quantity, index, steps, runs, *ranges, weight, joined))
    curves.blocks += added
    curves.spans |= _spans(found, curves.runs, cases)
    return added


def _readable(frame: pd.DataFrame, curves: Curves) -> pd.DataFrame:
    """The rows of what is drawn, with a gap for each value that did not converge."""
    names = pd.Series(frame["quantity"].unique().astype(str))
    solvers = [n.removesuffix(_PRODUCTS) for n in names if n.endswith(_PRODUCTS)]
    notes = {f"{stem}{end}" for stem in solvers for end in (_PRODUCTS, "_residual")}
    notes |= {n for n in names if n.endswith(CONVERGED)}
    most = frame.groupby("quantity", sort=False)["index"].nunique()
    matrices = set(most.index[most > MATRIX])
    curves.matrices |= matrices
    flags = frame["quantity"].str.endswith(CONVERGED) & (frame["value"] == 0)
    rows = frame
    if flags.any():
        failed = frame[flags]
        stems = failed["quantity"].str.removesuffix(CONVERGED)
        rows = pd.concat([usable(frame), failed.assign(quantity=stems, value=np.nan)])
    return rows.loc[~rows["quantity"].isin(notes | matrices), list(RUN_COLUMNS)]


class _Curve(NamedTuple):
    run: int
    quantity: str
    index: int
    steps: np.ndarray
    values: np.ndarray

    @property
    def stride(self) -> float:
        return float(np.sort(np.diff(self.steps))[(len(self.steps) - 1) // 2])


def _curves(rows: pd.DataFrame, runs: _Runs) -> Iterator[_Curve]:
    """Every curve of at least two records, by run, quantity and index."""
    names, quantities = pd.factorize(rows["quantity"])
    which = rows.groupby(_RUN, sort=False, observed=True).ngroup().to_numpy()
    firsts = np.unique(which, return_index=True)[1]
    keys = rows[_RUN].iloc[firsts].itertuples(index=False, name=None)
    numbers = [runs.add((str(c), int(w), float(r), int(s))) for c, w, r, s in keys]
    index, step = rows["index"].to_numpy(np.int64), rows["step"].to_numpy(np.int64)
    wide = int(index.max()) + 1
    group = (which * len(quantities) + names) * wide + index
    order = np.lexsort((step, group))
    group, step, value = group[order], step[order], rows["value"].to_numpy(float)[order]
    cuts = np.concatenate([[0], np.flatnonzero(np.diff(group)) + 1, [group.size]])
    for begin, end in pairwise(cuts):
        if end - begin > 1:
            key, entry = divmod(int(group[begin]), wide)
            run, name = divmod(key, len(quantities))
            yield _Curve(
                numbers[run], str(quantities[name]), entry, step[begin:end], value[begin:end]
            )


def _spans(
    found: Sequence[_Curve], runs: _Runs, cases: Mapping[str, Any]
) -> dict[int, list[tuple[int, int, int]]]:
    """The phases of each run whose sharpness was measured and compares with its threshold."""
    thresholds = {c.run: c for c in found if c.quantity == THRESHOLD}
    spans = {}
    for curve in found:
        setup = cases.get(runs.keys[curve.run][0], {})
        threshold = thresholds.get(curve.run)
        if (curve.quantity, curve.index) != (SHARPNESS, 0) or threshold is None:
            continue
        if setup.get("preconditioned", False):
            continue
        kept = ~np.isnan(curve.values)
        steps = curve.steps[kept]
        last = np.searchsorted(threshold.steps, steps, side="right") - 1
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = curve.values[kept] / threshold.values[np.clip(last, 0, None)]
        window = entries(steps, WINDOW)
        labels = phases(shares, 1.0, window)
        if labels.size:
            spans[curve.run] = _stretches(labels, steps[window // 2 :])
    return spans


def _stretches(labels: np.ndarray, steps: np.ndarray) -> list[tuple[int, int, int]]:
    """Equal labels that follow one another, as label, first step and last."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(labels)) + 1])
    ends = np.concatenate([starts[1:], [labels.size - 1]])
    return [
        (int(labels[a]), int(steps[a]), int(steps[b])) for a, b in zip(starts, ends, strict=True)
    ]
