"""A sealed file is read by its usual readers, and no changed byte passes."""

import hashlib
import io
import json
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import load_file

from sharpflow.errors import IntegrityError
from sharpflow.figures.style import save
from sharpflow.storage import seal
from sharpflow.storage.seal import BLANK, check, read_bytes, read_json, sealed_path, write_json
from sharpflow.storage.tables import read_table, write_table
from sharpflow.storage.tensors import read_tensors, write_tensors

FRAME = pd.DataFrame({"case": ["tanh", "relu"], "value": [0.5, np.nan]})
WORDS = {"title": "A title – größer", "caption": "What it shows."}
PAGE = "<!doctype html>\n<html><head><title>A page</title></head><body></body></html>\n"


def write_figure(folder: Path) -> None:
    figure = Figure(figsize=(1, 1))
    figure.subplots().plot([0, 1], [1, 0])
    with (
        sealed_path(folder / "a.png") as png,
        sealed_path(folder / "a.pdf") as pdf,
        sealed_path(folder / "a.svg") as svg,
    ):
        save(figure, png, pdf, svg)


def write_csv(path: Path) -> None:
    with sealed_path(path) as temporary:
        FRAME.to_csv(temporary, index=False)


def write_page(path: Path) -> None:
    with sealed_path(path) as temporary:
        temporary.write_text(PAGE)


WRITERS = {
    "a.parquet": lambda path: write_table(path, FRAME, "a job"),
    "a.safetensors": lambda path: write_tensors(path, {"x": torch.arange(5.0)}, {"steps": [0]}),
    "a.json": lambda path: write_json(path, WORDS),
    "a.png": lambda path: write_figure(path.parent),
    "a.pdf": lambda path: write_figure(path.parent),
    "a.svg": lambda path: write_figure(path.parent),
    "a.html": write_page,
    "a.csv": write_csv,
    "a.csv.sha256": lambda path: write_csv(path.with_suffix("")),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, bytes]:
    """What stands in one file of each kind."""
    folder = tmp_path_factory.mktemp("sealed")
    for name, write in WRITERS.items():
        write(folder / name)
    return {name: (folder / name).read_bytes() for name in WRITERS}


@pytest.fixture(scope="module")
def folder(written, tmp_path_factory) -> Path:
    """A place where tests may spoil the files; each puts back what it took."""
    folder = tmp_path_factory.mktemp("spoilt")
    for name, content in written.items():
        (folder / name).write_bytes(content)
    return folder


def test_the_usual_readers_read_sealed_files(folder, written):
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "a.parquet"), FRAME)
    pd.testing.assert_frame_equal(pd.read_csv(folder / "a.csv"), FRAME)
    assert torch.equal(load_file(folder / "a.safetensors")["x"], torch.arange(5.0))
    digest = check(folder / "a.json")
    assert json.loads(written["a.json"]) == {"seal": f"{BLANK[:-64]}{digest}"} | WORDS
    with Image.open(folder / "a.png") as picture:
        picture.verify()  # reads the checksum of every chunk, and closes the file
    with Image.open(folder / "a.png") as picture:
        picture.load()
        assert picture.info["Comment"] == f"{BLANK[:-64]}{check(folder / 'a.png')}"
    assert written["a.html"].startswith(PAGE.encode())
    assert ElementTree.fromstring(written["a.svg"]).tag == "{http://www.w3.org/2000/svg}svg"
    pdf = written["a.pdf"]  # readers look for these in the last kibibyte
    assert pdf.rindex(b"%%EOF") > len(pdf) - 1024
    table = int(pdf.rpartition(b"startxref\n")[2].partition(b"\n")[0])
    assert pdf[table:].startswith(b"xref")


def test_our_readers_read_sealed_files(folder, written):
    pd.testing.assert_frame_equal(read_table(folder / "a.parquet", "a job"), FRAME)
    tensors, metadata = read_tensors(folder / "a.safetensors")
    assert torch.equal(tensors["x"], torch.arange(5.0))
    assert metadata == {"steps": [0]}
    assert read_json(folder / "a.json") == WORDS
    assert read_bytes(folder / "a.png") == written["a.png"]


def test_sha256sum_checks_a_csv_table(folder):
    run = subprocess.run(["sha256sum", "-c", "a.csv.sha256"], cwd=folder, capture_output=True)
    assert run.stdout == b"a.csv: OK\n"


@pytest.mark.parametrize("name", WRITERS)
def test_the_seal_is_the_checksum_with_zeros_in_its_place(folder, written, name):
    plain = hashlib.sha256()
    digest = check(folder / name, plain)
    assert plain.digest() == hashlib.sha256(written[name]).digest()
    if ".csv" in name:
        assert digest == hashlib.sha256(written["a.csv"]).hexdigest()
        return
    assert written[name].count(digest.encode()) == written[name].count(b"sharpflow-sha256:") == 1
    before, after = written[name].split(digest.encode())
    zeros = 64 if name != "a.png" else 68  # with the checksum of the chunk
    blank = before + b"0" * zeros + after[zeros - 64 :]
    assert digest == hashlib.sha256(blank).hexdigest()


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_contents_give_the_same_bytes(tmp_path, written, name):
    WRITERS[name](tmp_path / name)
    assert (tmp_path / name).read_bytes() == written[name]


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=150)
@given(data=st.data())
def test_no_changed_byte_passes(folder, written, name, data):
    """Anywhere, within the seal, and around it."""
    whole = written[name]
    mark = whole.find(b"sharpflow-sha256:")
    ranges = [(0, len(whole) - 1)] + ([(mark, mark + 84)] if mark >= 0 else [])
    low, high = data.draw(st.sampled_from(ranges))
    position = data.draw(st.integers(low, min(high, len(whole) - 1)))
    change = data.draw(st.sampled_from(["flip", "cut", "insert", "drop"]))
    flip = data.draw(st.integers(1, 255))
    middle = {"flip": bytes([whole[position] ^ flip]), "insert": bytes([whole[position], flip])}
    after = b"" if change == "cut" else whole[position + 1 :]
    spoilt = whole[:position] + middle.get(change, b"") + after
    (folder / name).write_bytes(spoilt)
    try:
        if spoilt == whole:
            return
        with pytest.raises(IntegrityError, match="was altered since its job wrote it; delete it"):
            check(folder / name)
    finally:
        (folder / name).write_bytes(whole)


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_missing_or_foreign_is_refused_in_a_sentence(tmp_path, name):
    path = tmp_path / name
    for make in (lambda: None, path.mkdir):
        make()
        with pytest.raises(IntegrityError, match=r"a\..* cannot be read \("):
            check(path)
    path.rmdir()
    if name == "a.csv":
        path.write_bytes(b"without its neighbour")
        with pytest.raises(IntegrityError, match="cannot be read"):
            check(path)
    else:
        path.write_bytes(b"")
        with pytest.raises(IntegrityError):
            check(path)


def test_a_whole_file_of_another_kind_is_refused(folder, written):
    for read, kind in ((read_table, "Parquet"), (read_tensors, "safetensors"), (read_json, "JSON")):
        path = folder / "other"
        path.write_bytes(written["a.png"])
        with pytest.raises(IntegrityError, match=f"other is not a {kind} file of sharpflow"):
            read(path)


@pytest.mark.parametrize("size", [0, 2**16, 2**17 - 1, 2**17, 2**17 + 1, 3_000_000])
@pytest.mark.parametrize("front", [True, False])
def test_large_files_are_sealed_at_either_end(tmp_path, size, front):
    padding = np.random.default_rng(0).bytes(size)
    parts = (BLANK.encode(), padding)
    with sealed_path(tmp_path / "large") as path:
        path.write_bytes(b"".join(parts if front else parts[::-1]))
    digest = check(tmp_path / "large")
    content = (tmp_path / "large").read_bytes()
    blank = b"".join(parts if front else parts[::-1])
    assert digest == hashlib.sha256(blank).hexdigest()
    for position in {0, len(content) // 2, len(content) - 1}:
        spoilt = bytearray(content)
        spoilt[position] ^= 1
        with pytest.raises(IntegrityError):
            seal._check_handle(io.BytesIO(spoilt), "large")


@pytest.mark.parametrize("text", ["no mark", f"{BLANK} and {BLANK}"])
def test_a_writer_that_forgets_the_mark_or_doubles_it_is_told(tmp_path, text):
    with pytest.raises(ValueError, match="marks of a seal"), sealed_path(tmp_path / "a") as path:
        path.write_text(text)
    assert list(tmp_path.iterdir()) == []
