"""Files are whole, verified, or absent."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpflow.errors import IntegrityError, SharpflowError
from sharpflow.storage.files import atomic_path, sha256_of, write_bytes, write_json
from sharpflow.storage.tables import read_table, write_table
from sharpflow.storage.tensors import TensorFile, read_tensors, write_tensors


def frame():
    rng = np.random.default_rng(0)
    values = rng.normal(size=60)
    values[[3, 17]] = np.nan, np.inf
    return pd.DataFrame(
        {
            "case": np.repeat(["tanh", "relu", "elu"], 20),
            "step": np.arange(60),
            "quantity": ["loss", "norm_squared"] * 30,
            "value": values,
        }
    )


def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "00000000/weight0": torch.randn(3, 4, 5, generator=generator),
        "00000000/weight1": torch.randn(3, 5, 1, dtype=torch.float64, generator=generator),
        "count": torch.tensor([], dtype=torch.int64),
        "scalar": torch.tensor(float("nan")),
    }


def same_tensors(a, b):
    return a.keys() == b.keys() and all(
        a[k].dtype == b[k].dtype and torch.allclose(a[k], b[k], rtol=0, atol=0, equal_nan=True)
        for k in a
    )


# --- atomic writes


def test_atomic_write_replaces_and_leaves_only_the_file(tmp_path):
    path = tmp_path / "new" / "file.bin"
    write_bytes(path, b"one")
    write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]
    assert sha256_of(path) == "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"


def write_and_fail(path, written, failure):
    with atomic_path(path) as temporary:
        temporary.write_bytes(written)
        raise failure


@pytest.mark.parametrize("failure", [RuntimeError("stop"), KeyboardInterrupt()])
@pytest.mark.parametrize("written", [b"", b"half"])
def test_failed_write_leaves_the_old_file_and_no_temporary(tmp_path, failure, written):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(failure)):
        write_and_fail(path, written, failure)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_full_disk_is_a_message_that_names_the_file(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    full = OSError(28, "No space left on device")
    with pytest.raises(SharpflowError, match=r"file\.bin could not be written: No space left"):
        write_and_fail(path, b"half", full)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.bin"]


def test_a_folder_in_the_way_is_a_message(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(SharpflowError, match="taken could not be written"):
        write_bytes(tmp_path / "taken", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]
    (tmp_path / "plain").write_bytes(b"a file, not a folder")
    with pytest.raises(SharpflowError, match="could not be written"):
        write_bytes(tmp_path / "plain" / "below", b"x")


@pytest.mark.parametrize("write", [write_table, write_tensors])
def test_failed_table_or_tensors_leave_the_old_file(tmp_path, write):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    bad = pd.DataFrame({"a": [object()]}) if write is write_table else {"a": "not a tensor"}
    with pytest.raises(Exception):  # noqa: B017
        write(path, bad)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_json_has_sorted_keys_and_fixed_bytes(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [2.5]})
    write_json(tmp_path / "b.json", {"a": [2.5], "b": 1})
    text = (tmp_path / "a.json").read_text()
    assert text == (tmp_path / "b.json").read_text()
    assert text.endswith("\n")
    assert text.index('"a"') < text.index('"b"')
    assert json.loads(text) == {"a": [2.5], "b": 1}


# --- round trips


def test_table_round_trip_and_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_table(tmp_path / name, frame())
    pd.testing.assert_frame_equal(read_table(tmp_path / "a"), frame(), check_exact=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_nan_of_a_table_reads_as_nan(tmp_path):
    """On x86 inf − inf is a NaN with its sign bit set."""
    signs = np.copysign(np.array([np.nan, np.nan, 1.0]), [-1.0, 1.0, 1.0])
    write_table(tmp_path / "t", pd.DataFrame({"value": signs}))
    assert read_table(tmp_path / "t")["value"].isna().tolist() == [True, True, False]


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.text(max_size=5), st.integers(-(2**63), 2**63 - 1), st.floats(width=64)),
        max_size=20,
    )
)
def test_table_round_trip_of_any_contents(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("table") / "t.parquet"
    table = pd.DataFrame(
        {
            "case": pd.Series([r[0] for r in rows], dtype="str"),
            "step": np.array([r[1] for r in rows], dtype=np.int64),
            "value": np.array([r[2] for r in rows], dtype=np.float64),
        }
    )
    try:
        write_table(path, table)
    except UnicodeEncodeError:  # a lone surrogate is not text
        return
    pd.testing.assert_frame_equal(read_table(path), table, check_exact=True)


def test_tensors_round_trip_and_same_bytes(tmp_path):
    metadata = {"steps": [0, 10], "source": "photos", "nested": {"a": None}}
    for name in ("a", "b"):
        write_tensors(tmp_path / name, tensors(), metadata)
    back, found = read_tensors(tmp_path / "a")
    assert found == metadata
    assert same_tensors(back, tensors())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    transposed = torch.arange(6.0).reshape(2, 3).T
    write_tensors(tmp_path / "c", {"t": transposed})
    assert torch.equal(read_tensors(tmp_path / "c")[0]["t"], transposed)


def test_tensor_file_reads_what_is_asked(tmp_path):
    write_tensors(tmp_path / "a", tensors())
    file = TensorFile(tmp_path / "a")
    assert file.names() == sorted(tensors())
    assert set(file.read(["scalar"])) == {"scalar"}
    with pytest.raises(IntegrityError, match="cannot be read"):
        file.read(["absent"])


# --- damage

KINDS = {
    "table": (
        lambda path: write_table(path, frame()),
        read_table,
        lambda got: got.equals(frame()),
    ),
    "tensors": (
        lambda path: write_tensors(path, tensors(), {"steps": [0]}),
        read_tensors,
        lambda got: same_tensors(got[0], tensors()) and got[1] == {"steps": [0]},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_byte_is_found_or_harmless(tmp_path, kind):
    write, read, unchanged = KINDS[kind]
    path = tmp_path / "file"
    write(path)
    good = path.read_bytes()
    rng = np.random.default_rng(1)
    found = 0
    for position in sorted({0, len(good) - 1, *rng.integers(0, len(good), 250).tolist()}):
        damaged = bytearray(good)
        damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(damaged))
        try:
            contents, message = read(path), ""
        except IntegrityError as error:
            contents, message = None, str(error)
        found += contents is None
        good_or_named = str(path) in message if contents is None else unchanged(contents)
        assert good_or_named, f"byte {position}: {message or 'read as good'}"
    assert found > 100


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_refused(tmp_path, kind):
    write, read, _ = KINDS[kind]
    path = tmp_path / "file"
    write(path)
    good = path.read_bytes()
    for size in sorted({0, 1, 4, 8, *range(16, len(good), len(good) // 40), len(good) - 1}):
        path.write_bytes(good[:size])
        with pytest.raises(IntegrityError, match="file") as caught:
            read(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_missing_or_foreign_is_refused(tmp_path, kind):
    _, read, _ = KINDS[kind]
    path = tmp_path / "file"
    with pytest.raises(IntegrityError, match=str(path)):
        read(path)
    path.write_bytes(b"not a file of ours " * 10)
    with pytest.raises(IntegrityError, match=str(path)):
        read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(IntegrityError, match=str(path)):
        read(path)


def test_files_without_a_checksum_are_refused(tmp_path):
    frame().to_parquet(tmp_path / "plain.parquet")
    with pytest.raises(IntegrityError, match=r"plain\.parquet"):
        read_table(tmp_path / "plain.parquet")
    from safetensors.torch import save_file

    save_file({"a": torch.ones(2)}, tmp_path / "plain.safetensors")
    with pytest.raises(IntegrityError, match=r"plain\.safetensors"):
        read_tensors(tmp_path / "plain.safetensors")


def test_a_swapped_tensor_is_refused(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    write_tensors(tmp_path / "a", {"x": torch.zeros(4)})
    with safe_open(tmp_path / "a", framework="pt") as handle:
        record = handle.metadata()
    save_file({"x": torch.tensor([0.0, 0.0, 1e-30, 0.0])}, tmp_path / "a", metadata=record)
    with pytest.raises(IntegrityError, match="was altered since its job wrote it"):
        read_tensors(tmp_path / "a")
    save_file({"y": torch.zeros(4)}, tmp_path / "a", metadata=record)
    with pytest.raises(IntegrityError, match="was altered since its job wrote it"):
        read_tensors(tmp_path / "a")
