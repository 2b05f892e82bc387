"""Reads what `sharpflow.report.packing.pack` writes, as its docstring describes the form."""

import base64
import gzip
import json
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Curve:
    """A curve as the page has it: `values` at `steps`, each off by at most `within`."""

    quantity: str
    index: int
    run: int
    bins: int
    joined: bool
    steps: np.ndarray
    values: np.ndarray
    within: np.ndarray


def read(content: bytes | str) -> tuple[dict[str, Any], list[Curve]]:
    """Header and curves."""
    packed = base64.b64decode(content) if isinstance(content, str) else content
    data = gzip.decompress(packed)
    length = int.from_bytes(data[:4], "little")
    header = json.loads(data[4 : 4 + length])
    sections, at = [], 4 + length
    for size in header["sections"]:
        sections.append(np.frombuffer(data, np.uint8, size, at))
        at += size
    assert at == len(data)
    scales = sections[0].reshape(4, -1).T.copy().view(">f4").ravel().astype(float)
    words, places = (
        part.reshape(2, -1).T.copy().view(">u2").ravel().astype(int) for part in sections[2:4]
    )
    reader = _Reader(scales, sections[1], words, places, sections[4])
    grids = [_steps(grid) for grid in header["grids"]]
    curves = []
    starts: list[dict[str, int]] = []
    for block in header["blocks"]:
        same = block.get("same")
        steps = grids[block["grid"]]
        rows, after = reader.block(block, steps, None if same is None else starts[same])
        starts.append(after)
        curves += rows
    for name, stream in (("kind", reader.kinds), ("word", words), ("place", places)):
        assert reader.at[name] == len(stream), f"{name}: not all was read"
    return header, curves


def _steps(grid) -> np.ndarray:
    if isinstance(grid, dict):
        return np.cumsum(grid["differences"])
    first, stride, number = grid
    return first + stride * np.arange(number)


class _Reader:
    def __init__(self, scales, kinds, words, places, gaps):
        self.scales, self.kinds, self.words = scales, kinds, words
        self.places, self.gaps = places, gaps
        self.at = {"scale": 0, "kind": 0, "word": 0, "place": 0, "gap": 0}

    def take(self, name: str, stream: np.ndarray, *shape: int) -> np.ndarray:
        begin = self.at[name]
        self.at[name] = begin + int(np.prod(shape))
        return stream[begin : self.at[name]].reshape(shape)

    def block(self, block, steps, same) -> tuple[list[Curve], dict[str, int]]:
        runs = np.cumsum(block["runs"])
        low, high = self.take("scale", self.scales, 2, runs.size)
        kept, start = dict(self.at), dict(self.at)
        if same is not None:
            self.at = {**same, "scale": self.at["scale"]}
            start = same
        kinds = self.take("kind", self.kinds, runs.size)
        if block["bins"]:
            times, found = self.extremes(block["bins"], runs.size, steps)
        else:
            folded = self.take("word", self.words, runs.size, steps.size)
            found = [_unfold(row, kind % 4) for row, kind in zip(folded, kinds, strict=True)]
            times = [steps] * runs.size
        if same is not None:
            self.at = kept
        curves = []
        for row, run in enumerate(runs):
            share = np.where(found[row] == 65535, np.nan, found[row] / 65534)
            values = low[row] + (high[row] - low[row]) * share
            half = (high[row] - low[row]) / 65534 / 2
            within = np.full(values.shape, half)
            if kinds[row] >= 4:
                values = np.exp(values)
                within = values * np.expm1(half)
            entry = block["quantity"], block["index"], int(run), block["bins"], block["joined"]
            curves.append(Curve(*entry, times[row], values, within))
        return curves, start

    def extremes(self, bins: int, rows: int, steps: np.ndarray):
        low, high = (self.take("word", self.words, rows, bins + 2) for _ in range(2))
        widths = self.take("place", self.places, rows, bins)
        at_low, at_high = (self.take("place", self.places, rows, bins + 2) for _ in range(2))
        times, found = [], []
        for row in range(rows):
            cuts = np.concatenate([[0, 1], 1 + np.cumsum(widths[row])])
            assert cuts[-1] == steps.size - 1
            times.append(steps[np.concatenate([cuts + at_low[row], cuts + at_high[row]])])
            found.append(np.concatenate([_unfold(low[row], 1), _unfold(high[row], 1)]))
        return times, found


def _unfold(folded: np.ndarray, kind: int) -> np.ndarray:
    differences = np.where(folded & 1, -(folded + 1) // 2, folded // 2)
    words: list[int] = []
    for difference in differences.tolist():
        before, second = ([0, 0, *words][-1], [0, 0, *words][-2])
        guess = (0, before, 2 * before - second, second)[kind]
        words.append((difference + guess) % 65536)
    return np.array(words)
