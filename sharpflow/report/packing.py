"""Curves packed into few bytes: sixteen-bit words, whole or as the extremes of bins of records.

A curve is stored between its own least and greatest value, evenly or, where it is positive and
spans more than two decades, in its logarithm. Where it has too many records it is cut into bins,
and of each the least and the greatest value are kept, with their places: an alternation of period
two keeps its envelope. `explorer.js` reads what `pack` writes.
"""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

LEVELS = 65534
"""The word of a curve's greatest value; that of its least is 0."""
GAP = 65535
"""The word of what is no finite number."""
DECADES = 100.0
"""A positive curve whose values span more than this factor is stored in its logarithm."""
EVENLY = 1.0
"""Share of the bins that is spread evenly, over the share that follows a curve's movement."""
_BYTES = 6
"""What a bin takes, roughly: a curve that takes no more than its bins would is kept whole."""
_BITS = np.log2(np.arange(65536, dtype=np.float32) + 1) + 1
"""What a folded difference takes, roughly."""
_COLUMNS = ("runs", "words", "low", "high", "logarithmic")
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Block:
    """Curves of one quantity that were recorded at the same steps.

    Attributes:
        quantity, index: what was recorded.
        steps: shape (n,), ascending.
        runs: number of each curve's run, shape (rows,).
        words: shape (rows, n), 0 to `LEVELS`, or `GAP`.
        low, high: ends of each curve's range (of its logarithm's), shape (rows,), float32.
        logarithmic: whether a curve is stored in its logarithm, shape (rows,).
        weight: it is kept in this many times as many bins as other curves.
        joined: whether it was recorded as often as anything of its runs; what was recorded more
            rarely is drawn as points.
    """

    quantity: str
    index: int
    steps: np.ndarray
    runs: np.ndarray
    words: np.ndarray
    low: np.ndarray
    high: np.ndarray
    logarithmic: np.ndarray
    weight: int = 1
    joined: bool = True

    def rows(self, keep: np.ndarray) -> "Block":
        """The curves that a mask of shape (rows,) keeps."""
        return replace(self, **{name: getattr(self, name)[keep] for name in _COLUMNS})

    def renumbered(self, numbers: np.ndarray) -> "Block":
        """The same curves with other numbers for their runs, by the old ones."""
        return replace(self, runs=numbers[self.runs])

    @staticmethod
    def together(blocks: "Sequence[Block]") -> "Block":
        """The curves of blocks of one quantity and the same steps, in the order of their runs."""
        order = np.argsort(np.concatenate([block.runs for block in blocks]), kind="stable")
        columns = {
            name: np.concatenate([getattr(block, name) for block in blocks])[order]
            for name in _COLUMNS
        }
        return replace(blocks[0], **columns)


def quantise(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Words, low, high and logarithmic of `Block`, from values of shape (rows, n).

    A value is off by at most half of (high − low)/`LEVELS`, in the logarithm where that is stored.
    What is not finite, or beyond single precision's range, becomes a gap.
    """
    finite = np.isfinite(values) & (np.abs(values) <= _LARGEST)
    least = np.where(finite, values, np.inf).min(axis=1)
    greatest = np.where(finite, values, -np.inf).max(axis=1)
    known = np.asarray(finite.any(axis=1))
    least, greatest = np.where(known, least, 0.0), np.where(known, greatest, 0.0)
    logarithmic = (least > 0) & (greatest / DECADES > least)
    stored = np.where(finite, values, 1.0)
    logs = np.log(stored, out=np.zeros_like(stored), where=logarithmic[:, None] & (stored > 0))
    stored = np.where(logarithmic[:, None], logs, stored)
    stored = np.where(finite, stored, np.nan)
    low, high = _ends(stored, known)
    span = high.astype(float) - low.astype(float)
    scaled = (stored - low[:, None].astype(float)) / np.where(span > 0, span, 1.0)[:, None]
    words = np.where(finite, np.rint(scaled * LEVELS), GAP)
    return words.astype(np.uint16), low, high, logarithmic


def _ends(stored: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The range of each row in single precision, rounded outwards."""
    least = np.where(known, np.fmin.reduce(stored, axis=1), 0.0)
    greatest = np.where(known, np.fmax.reduce(stored, axis=1), 0.0)
    low, high = least.astype(np.float32), greatest.astype(np.float32)
    with np.errstate(over="ignore"):  # what leaves the range is brought back below
        low = np.where(low > least, np.nextafter(low, np.float32(-np.inf)), low)
        high = np.where(high < greatest, np.nextafter(high, np.float32(np.inf)), high)
    return np.clip(low, -_LARGEST, _LARGEST), np.clip(high, -_LARGEST, _LARGEST)


def edges(words: np.ndarray, bins: int) -> np.ndarray:
    """Where the bins of each curve begin: short where its two-step average moves, else long.

    Args:
        words: shape (rows, n), n > bins + 2.
        bins: their number, beside those of the first and the last record, which stand alone.

    Returns:
        Shape (rows, bins + 3), ascending from 0 to n; bin i holds the records from entry i to
        entry i + 1.
    """
    rows, records = words.shape
    level = (words[:, 1:].astype(float) + words[:, :-1]) / 2
    moved = np.abs(np.diff(level, axis=1))
    weight = moved + EVENLY * moved.mean(axis=1, keepdims=True) + 1e-9
    done = np.cumsum(weight, axis=1)
    done = done / done[:, -1:]
    inner = np.empty((rows, bins + 1), np.int64)
    for row in range(rows):
        inner[row] = 1 + np.searchsorted(done[row], np.arange(bins + 1) / bins)
    place = np.arange(bins + 1)
    inner = np.maximum.accumulate(inner - place, axis=1) + place
    inner = np.minimum(inner, records - 1 - bins + place)
    inner[:, 0], inner[:, -1] = 1, records - 1
    ends = np.zeros((rows, 1), np.int64), np.full((rows, 1), records)
    return np.concatenate([ends[0], inner, ends[1]], axis=1)


def binned(words: np.ndarray, cuts: np.ndarray) -> tuple[np.ndarray, ...]:
    """The extremes of every bin.

    Args:
        words: shape (rows, n).
        cuts: of `edges`.

    Returns:
        Least and greatest word, their places in the bin, and whether the bin has a gap: each of
        shape (rows, bins + 2). Where a bin is nothing but a gap both words are `GAP`.
    """
    rows, records = words.shape
    flat, shape = words.ravel().astype(np.int32), (rows, cuts.shape[1] - 1)
    starts = (cuts[:, :-1] + records * np.arange(rows)[:, None]).ravel()
    widths = np.diff(cuts, axis=1).ravel()
    place = np.arange(flat.size) - np.repeat(starts, widths)
    gap = flat == GAP
    low = np.minimum.reduceat(flat, starts)
    high = np.maximum.reduceat(np.where(gap, -1, flat), starts)
    found = [low, np.where(high < 0, GAP, high)]
    for extreme in tuple(found):
        here = flat == np.repeat(extreme, widths)
        found.append(np.minimum.reduceat(np.where(here, place, records), starts))
    gaps = np.maximum.reduceat(gap.astype(np.uint8), starts)
    return (*(part.astype(np.uint16).reshape(shape) for part in found), gaps.reshape(shape))


@dataclass(frozen=True)
class Detail:
    """How much of the curves is kept.

    Attributes:
        first: bins of the curves of each network's first run; None keeps every record.
        others: bins of all other curves.
        seeds, networks: of each network every so many-th run, and of each experiment every so
            many-th network is kept.
    """

    first: int | None = None
    others: int | None = None
    seeds: int = 1
    networks: int = 1


class _Streams:
    """What is written, by kind: bytes of one kind lie together, for they compress together."""

    def __init__(self):
        self.scales: list[np.ndarray] = []
        self.kinds: list[np.ndarray] = []
        self.words: list[np.ndarray] = []
        self.places: list[np.ndarray] = []
        self.gaps: list[np.ndarray] = []

    def sections(self) -> list[bytes]:
        return [
            _planes(_joined(self.scales, np.float32).view(np.uint32), 4),
            _joined(self.kinds, np.uint8).tobytes(),
            _planes(_joined(self.words, np.uint16), 2),
            _planes(_joined(self.places, np.uint16), 2),
            _joined(self.gaps, np.uint8).tobytes(),
        ]


def pack(
    header: Mapping[str, Any], blocks: Sequence[Block], first: np.ndarray, detail: Detail
) -> bytes:
    """Curves and what is said of them, compressed.

    The bytes are gzip of: the length of a JSON text (four bytes, little-endian), the text, then
    five sections whose lengths it gives, each in the order of the blocks. Scales: low and high of
    each curve, as single precision; kinds: a byte a curve (predictor, plus 4 where logarithmic);
    words, two bytes each; places, two bytes each: the widths of a block's bins but for the first
    and the last, then the places of the extremes in them; gaps of bins. Numbers of several bytes
    are stored byte by byte, the most significant of all first. Words are the differences from a
    prediction (`predicted`; of bins, the word before), wrapped to sixteen bits, folded so that
    small ones of either sign are small.

    Args:
        header: JSON of whatever else the reader needs.
        blocks: of the curves; what `detail` leaves out has been left out.
        first: whether a run, by its number, is its network's first.
        detail: how many bins.

    Returns:
        The same bytes for the same arguments.
    """
    streams = _Streams()
    entries: list[dict[str, Any]] = []
    seen: dict[tuple[Any, ...], int] = {}
    grids: dict[bytes, int] = {}
    listed: list[Any] = []
    for block in blocks:
        for piece in _parts(block, first, detail):
            bins, part = piece[:2]
            key = part.steps.tobytes()
            if key not in grids:
                grids[key] = len(listed)
                listed.append(_grid(part.steps))
            entry: dict[str, Any] = {
                "quantity": part.quantity,
                "index": part.index,
                "grid": grids[key],
                "runs": np.diff(part.runs, prepend=0).tolist(),
                "bins": bins,
                "joined": part.joined,
            }
            streams.scales += [part.low, part.high]
            same = (bins, part.words.shape, part.words.tobytes(), part.logarithmic.tobytes())
            if same in seen:
                entry["same"] = seen[same]
            else:
                seen[same] = len(entries)
                entry["gaps"] = _write(streams, piece)
            entries.append(entry)
    sections = streams.sections()
    whole = {
        **header,
        "grids": listed,
        "blocks": entries,
        "sections": [len(section) for section in sections],
    }
    text = json.dumps(whole, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    content = b"".join([len(text).to_bytes(4, "little"), text, *sections])
    return gzip.compress(content, 9, mtime=0)


_Part = tuple[int, Block, np.ndarray, np.ndarray]


def _parts(block: Block, first: np.ndarray, detail: Detail) -> list[_Part]:
    """The block's curves by the number of their bins, 0 for those that are whole.

    With each part come the prediction of its curves and what it leaves (`predicted`).
    """
    leading = first[block.runs]
    bins = np.zeros(block.runs.size, np.int64)
    for number, which in ((detail.first, leading), (detail.others, ~leading)):
        if number is not None and block.steps.size > 2 * number * block.weight + 2:
            bins[which] = number * block.weight
    kinds, folded = predicted(block.words)
    whole = _BITS[folded].sum(axis=1) / 8
    bins[whole <= _BYTES * bins] = 0
    parts = []
    for number in np.unique(bins):
        own = bins == number
        parts.append((int(number), block.rows(own), kinds[own], folded[own]))
    return parts


def _write(streams: _Streams, part: _Part) -> bool:
    """Write the curves of a block; whether any bin has a gap."""
    bins, block, kinds, folded = part
    logarithmic = 4 * block.logarithmic.astype(np.uint8)
    if not bins:
        streams.kinds.append(kinds + logarithmic)
        streams.words.append(folded.ravel())
        return False
    cuts = edges(block.words, bins)
    low, high, at_low, at_high, gaps = binned(block.words, cuts)
    streams.kinds.append(logarithmic + 1)
    for words in (low, high):
        streams.words.append(_fold(_differences(words.astype(np.int32), 1)).ravel())
    widths = np.diff(cuts[:, 1:-1], axis=1)
    streams.places += [widths.ravel(), at_low.ravel(), at_high.ravel()]
    if gaps.any():
        streams.gaps.append(gaps.ravel())
    return bool(gaps.any())


def predicted(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row as differences from the prediction that leaves least of it.

    Predictions are 0: nothing, 1: the word before, 2: the straight line through the two before,
    3: the word before that, for an alternation of period two. Words before the first are 0.

    Returns:
        The prediction of each row, and the folded differences, of the shape of `words`.
    """
    wide = words.astype(np.int32)
    choices = np.stack([_fold(_differences(wide, kind)) for kind in range(4)])
    best = _BITS[choices].sum(axis=2).argmin(axis=0)
    return best.astype(np.uint8), choices[best, np.arange(len(words))]


def _differences(words: np.ndarray, kind: int) -> np.ndarray:
    before, second = (np.roll(words, by, axis=1) for by in (1, 2))
    before[:, :1] = 0
    second[:, :2] = 0
    return words - (np.zeros_like(words), before, 2 * before - second, second)[kind]


def _fold(differences: np.ndarray) -> np.ndarray:
    wrapped = differences.astype(np.int16).astype(np.int32)
    return ((wrapped << 1) ^ (wrapped >> 15)).astype(np.uint16)


def _joined(parts: list[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate(parts).astype(kind) if parts else np.empty(0, kind)


def _planes(words: np.ndarray, size: int) -> bytes:
    return b"".join(
        (words >> (8 * place) & 255).astype(np.uint8).tobytes() for place in reversed(range(size))
    )


def _grid(steps: np.ndarray) -> list[int] | dict[str, list[int]]:
    """Steps as [first, stride, number] where they are even, else as their differences."""
    gaps = np.diff(steps)
    if gaps.size and (gaps == gaps[0]).all():
        return [int(steps[0]), int(gaps[0]), int(steps.size)]
    return {"differences": np.diff(steps, prepend=0).tolist()}
