"""Sweeps of many shards: parts of tables, what is held in memory, what is printed."""

import logging

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from sharpflow import console
from sharpflow.config.gaps import gaps
from sharpflow.config.parts import SHARDS, in_parts
from sharpflow.errors import IntegrityError
from sharpflow.results.summaries import summarise, summarise_pieces
from sharpflow.storage.parts import read_parts, read_pieces, remove_others, shared_out, write_part


def run(seed: int, case: str = "tanh", steps: int = 20) -> pd.DataFrame:
    values = np.random.default_rng(seed).normal(size=2 * steps)
    values[seed % steps] = np.inf
    return pd.DataFrame(
        {
            "case": case,
            "width": 5,
            "learning_rate": 0.1,
            "seed": seed,
            "step": np.tile(np.arange(steps), 2),
            "quantity": np.repeat(["loss", "trace"], steps),
            "index": 0,
            "value": values,
        }
    )


def arrow(frames):
    return (pa.Table.from_pandas(frame, preserve_index=False) for frame in frames)


def test_a_part_is_what_was_written_and_opens_in_one_call(tmp_path):
    frames = [run(seed) for seed in range(7)]
    folder = tmp_path / "runs"
    write_part(folder / "1-of-2.parquet", arrow(frames[:5]), rows=90)
    write_part(folder / "2-of-2.parquet", arrow(frames[5:]), rows=90)
    whole = pd.concat(frames, ignore_index=True)
    paths = sorted(folder.iterdir())
    pd.testing.assert_frame_equal(read_parts(paths), whole)
    pd.testing.assert_frame_equal(pd.read_parquet(folder), whole)
    losses = whole[whole["quantity"] == "loss"].reset_index(drop=True)
    pd.testing.assert_frame_equal(read_parts(paths, ["loss"]), losses)
    found = pd.read_parquet(folder, filters=[("quantity", "==", "loss")])
    pd.testing.assert_frame_equal(found, losses)
    assert [len(piece) for piece in read_pieces(paths[0])] == [80, 80, 40]  # whole runs


def test_a_spoilt_part_is_refused_by_name(tmp_path):
    path, twin = tmp_path / "1-of-1.parquet", tmp_path / "twin.parquet"
    write_part(path, arrow([run(0)]))
    whole = path.read_bytes()
    for wrong in (whole[:-7], whole[: len(whole) // 4] + b"?" + whole[len(whole) // 4 + 1 :]):
        path.write_bytes(wrong)
        with pytest.raises(IntegrityError, match=r"1-of-1\.parquet"):
            read_parts(path)
    run(1).to_parquet(twin)
    with pytest.raises(IntegrityError, match=r"twin\.parquet"):
        read_parts(twin)


@pytest.mark.parametrize("rows", [40, 100, 10_000])
def test_the_summary_of_pieces_is_that_of_the_whole_to_the_bit(tmp_path, rows):
    frames = [run(seed, case) for case in ("relu", "tanh") for seed in range(9)]
    path = tmp_path / "part.parquet"
    write_part(path, arrow(frames), rows)
    pieces = summarise_pieces(lambda: read_pieces(path), 0.9)
    whole = summarise(pd.concat(frames, ignore_index=True), 0.9)
    pd.testing.assert_frame_equal(pieces, whole, check_exact=True)


def test_what_is_held_does_not_grow_with_the_shards(tmp_path):
    """Counted in Arrow's own allocations, for it is these tables that a sweep has thousands of."""

    def peak(count: int) -> int:
        before, most = pa.total_allocated_bytes(), 0

        def shards():
            nonlocal most
            for seed in range(count):
                yield next(arrow([run(seed, steps=500)]))
                most = max(most, pa.total_allocated_bytes() - before)

        write_part(tmp_path / f"{count}.parquet", shards(), rows=5_000)
        for _ in read_pieces(tmp_path / f"{count}.parquet"):
            most = max(most, pa.total_allocated_bytes() - before)
        return most

    assert 0 < peak(200) < 2 * peak(20)


def networks(count: int, seeds: int):
    return [((f"case{n}",), (n, seed)) for n in range(count) for seed in range(seeds)]


def test_a_small_table_is_one_part_and_a_large_one_is_cut_by_network():
    assert list(in_parts(networks(SHARDS, 1))) == ["1-of-1"]
    parts = in_parts(networks(100, 8))
    assert len(parts) == 16
    owners = {}
    for part, shards in parts.items():
        for network, _ in shards:
            assert owners.setdefault(network, part) == part
    assert sorted(shard for shards in parts.values() for shard in shards) == sorted(
        shard for _, shard in networks(100, 8)
    )


def test_another_network_changes_its_own_part_alone():
    before, after = in_parts(networks(100, 8)), in_parts(networks(101, 8))
    assert [part for part in after if after[part] != before.get(part)] == [
        part for part, shards in after.items() if (100, 0) in shards
    ]


def test_parts_that_a_table_no_longer_has_are_removed(tmp_path):
    for name in ("1-of-1", "1-of-2", "2-of-2"):
        (tmp_path / f"{name}.parquet").touch()
    remove_others(tmp_path / "1-of-2.parquet", ["1-of-2.parquet", "2-of-2.parquet"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1-of-2.parquet", "2-of-2.parquet"]


def test_paths_are_shared_out_in_order():
    assert shared_out(["a", "b", "c"], {"x": 2, "y": 1}) == {"x": ["a", "b"], "y": ["c"]}


def test_a_gap_is_a_missing_file_whose_product_is_there():
    files = [("data", "states"), ("states", "table"), ("table", "manifest")]
    assert gaps(files, {"states", "table", "manifest"}.__contains__) == ["data"]
    assert gaps(files, {"table", "manifest"}.__contains__) == ["states"]
    assert gaps(files, {"data"}.__contains__) == []


def test_lines_of_a_job_are_short_and_say_how_many_files_there_are():
    record = logging.makeLogRecord(
        {"input": [f"results/{n}" for n in range(30_000)], "log": ["one"], "reason": "why " * 999}
    )
    assert console.shorten(record)
    assert ", ".join(record.input) == "results/0, results/1, results/2, and 29,997 more"
    assert record.log == ["one"]
    assert len(record.reason) <= console.LONGEST + 2
    assert console.shorten(logging.makeLogRecord({}))
