"""Whatever a reader is given, it answers with the right contents or with an error of ours.

`SHARPFLOW_FUZZ=20` multiplies the number of inputs, and then draws new ones at every run.
"""

import gzip
import io
import os
import re
import resource
import signal
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from config_folder import EXPERIMENT, PAPER, ConfigFolder
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from specs import part

from sharpflow.config import Settings, load, make_plan
from sharpflow.config.types import Types
from sharpflow.data import cifar10
from sharpflow.data.cifar_records import read_records
from sharpflow.data.download import unpack
from sharpflow.errors import ConfigError, DataError, IntegrityError
from sharpflow.storage.checkpoint import Checkpoint
from sharpflow.storage.seal import BLANK, sealed_path, write_json
from sharpflow.storage.tables import read_table, write_table
from sharpflow.storage.tensors import read_tensors, write_tensors
from sharpflow.verify import differences

FACTOR = int(os.environ.get("SHARPFLOW_FUZZ", "1"))
GIB = 2**30


def fuzzed(examples, *strategies):
    """Hypothesis over that many inputs, times `SHARPFLOW_FUZZ`."""

    def decorate(function):
        chosen = hypothesis_settings(
            max_examples=examples * FACTOR,
            deadline=None,
            derandomize=FACTOR == 1,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        return chosen(given(*strategies)(function))

    return decorate


def _hung(*_):
    raise TimeoutError("one input took a minute")


@pytest.fixture(autouse=True)
def _bounded():
    """No input may hang or take a gibibyte; 4 GiB more than now cannot be had at all."""
    used = (
        int(re.search(r"VmData:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))[1])
        * 1024
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (used + 4 * GIB, hard))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    handler = signal.signal(signal.SIGALRM, _hung)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown * 1024 < GIB


def mutated(content, changes):
    """Bytes with spans flipped, cut, repeated, replaced or moved."""
    raw = bytearray(content)
    for kind, position, extent, new in changes:
        at = position % (len(raw) + 1)
        span = raw[at : at + extent]
        if kind == "flip" and at < len(raw):
            raw[at] ^= 1 << (extent % 8)
        elif kind == "cut":
            del raw[at:]
        elif kind == "remove":
            del raw[at : at + extent]
        elif kind == "insert":
            raw[at:at] = new
        elif kind == "replace":
            raw[at : at + len(new)] = new
        elif kind == "repeat":
            raw[at:at] = span * 3
        elif kind == "move":
            del raw[at : at + extent]
            raw.extend(span)
    return bytes(raw)


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["flip", "flip", "cut", "remove", "insert", "replace", "repeat", "move"]),
        st.integers(0, 2**31),
        st.integers(1, 600),
        st.binary(min_size=1, max_size=12)
        | st.sampled_from(
            [b"\xff" * 8, b"\x00" * 8, b"\x7f" * 4, b"99999999999", b"-1", b"{", b"\n"]
        ),
    ),
    min_size=1,
    max_size=4,
)

# --- configurations

WORDS = st.sampled_from(
    ["tanh", "mlp", "cnn", "gaussian", "whitened", "cifar10", "photos", "adam", "nan", "1e999"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.sampled_from([0, 1, -1, 2**31, 10**9, 10**400, 0.0, -0.0, 5e-324, 1e308, 1e-400])
    | st.floats()
    | WORDS
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(), inner, max_size=3)
    ),
    max_leaves=5,
)
RICH = EXPERIMENT | {
    "seeds": 4,
    "dtype": "float32",
    "loss": {"kind": "mse"},
    "model": {
        "kind": "mlp",
        "hidden_layers": 2,
        "bias": False,
        "initialisation": {"kind": "kaiming"},
    },
    "optimiser": {"kind": "heavy_ball", "momentum": 0.5},
    "schedule": {"kind": "warmup", "learning_rate": 0.1, "until": 3},
    "training": {"steps": 30, "batch": None, "frozen": 0, "clip_norm": 2.0},
}
TOP = {
    "results": "results/test",
    "papers": [str(PAPER)],
    "experiments": "all",
    "leave_out": ["dense"],
    "overrides": {"dense": {"seeds": 2}},
    "device": "cpu",
    "threads_per_job": 1,
    "confidence": 0.9,
    "cifar10_path": None,
}


def _paths(document, above=()):
    for key, value in document.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from _paths(value, (*above, key))


def _replaced(document, changes):
    document = yaml.safe_load(yaml.safe_dump(document))
    for path, value in changes:
        inner = document
        for key in path[:-1]:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner[path[-1]] = value
    return document


def _changed(document):
    paths = [
        *_paths(document),
        ("spare",),
        ("data", "path"),
        ("data", "inputs"),
        ("data", "source"),
        ("experiments_folder",),
    ]
    return st.lists(st.tuples(st.sampled_from(paths), VALUES), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return ConfigFolder(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(autouse=True)
def _types_made_once(monkeypatch):
    """The types of one list of papers are always the same, and take most of a reading's time."""
    made = {}

    def types_of(registry):
        return made.setdefault(tuple(registry.papers.items()), Types(registry))

    monkeypatch.setitem(load.__globals__, "Types", types_of)


def settings_or_refusal(folder):
    """What `load` says, which must be settings or a message that names a file."""
    signal.alarm(60)
    try:
        settings = load(folder.file)
        make_plan(settings)
    except ConfigError as error:
        settings, message = None, str(error)
    finally:
        signal.alarm(0)
    assert isinstance(settings, Settings) or str(folder.file.parent) in message
    return settings


def test_what_is_changed_below_is_right(folder):
    folder.write()
    folder.dense.write_text(yaml.safe_dump(RICH), encoding="utf-8")
    assert settings_or_refusal(folder) is not None
    document = {"experiments_folder": str(folder.experiments)} | TOP
    folder.file.write_text(yaml.safe_dump(document), encoding="utf-8")
    assert settings_or_refusal(folder) is not None


@fuzzed(500, _changed(RICH))
def test_experiments_with_values_of_any_kind(folder, changes):
    folder.write()
    folder.dense.write_text(yaml.safe_dump(_replaced(RICH, changes)), encoding="utf-8")
    settings_or_refusal(folder)


@fuzzed(400, _changed(TOP))
def test_configurations_with_values_of_any_kind(folder, changes):
    folder.write()
    document = {"experiments_folder": str(folder.experiments)} | TOP
    folder.file.write_text(yaml.safe_dump(_replaced(document, changes)), encoding="utf-8")
    settings_or_refusal(folder)


YAML = yaml.safe_dump({k: RICH[k] for k in ("seeds", "data", "model", "widths", "cases")}).encode()


@fuzzed(500, CHANGES)
def test_experiments_with_damaged_text(folder, changes):
    folder.write()
    folder.dense.write_bytes(mutated(YAML, changes))
    settings_or_refusal(folder)


@fuzzed(
    500, st.binary(max_size=60) | st.text(max_size=60) | st.text("[]{}:-&*!|>%@`'\"#\t\n ,?a1.")
)
def test_any_text_for_a_configuration(folder, content):
    folder.write()
    raw = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    folder.file.write_bytes(raw)
    settings_or_refusal(folder)


# --- our own files


def _frame():
    rng = np.random.default_rng(0)
    values = rng.normal(size=40)
    values[[3, 17]] = np.nan, np.inf
    return pd.DataFrame(
        {"case": np.repeat(["tanh", "relu"], 20), "step": np.arange(40), "value": values}
    )


def _tensors():
    generator = torch.Generator().manual_seed(0)
    return {"a": torch.randn(3, 4, generator=generator), "b": torch.arange(5), "c": torch.ones(())}


def _same(found, metadata):
    wanted = _tensors()
    return (
        metadata == {"steps": [0, 7]}
        and found.keys() == wanted.keys()
        and all(torch.equal(found[name], wanted[name]) for name in wanted)
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A folder, and the bytes of one file of each kind."""
    root = tmp_path_factory.mktemp("files")
    write_table(root / "table", _frame(), "job")
    write_tensors(root / "tensors", _tensors(), {"steps": [0, 7]})
    Checkpoint(root / "checkpoint", "key", 0).offer(lambda: (_tensors(), {"steps": [0, 7]}))
    return root, {path.name: path.read_bytes() for path in root.iterdir()}


@fuzzed(600, CHANGES)
def test_damaged_tables_are_refused_or_right(written, changes):
    root, contents = written
    (root / "table").write_bytes(mutated(contents["table"], changes))
    try:
        found, message = read_table(root / "table", "job"), ""
    except IntegrityError as error:
        found, message = None, str(error)
    assert str(root / "table") in message if found is None else found.equals(_frame())


@fuzzed(800, CHANGES)
def test_damaged_tensors_are_refused_or_right(written, changes):
    root, contents = written
    (root / "tensors").write_bytes(mutated(contents["tensors"], changes))
    try:
        found, message = read_tensors(root / "tensors"), ""
    except IntegrityError as error:
        found, message = None, str(error)
    assert str(root / "tensors") in message if found is None else _same(*found)


@fuzzed(500, CHANGES)
def test_damaged_checkpoints_are_ignored_or_right(written, changes):
    root, contents = written
    (root / "checkpoint").write_bytes(mutated(contents["checkpoint"], changes))
    found = Checkpoint(root / "checkpoint", "key").load()
    assert found is None or _same(*found)


@fuzzed(
    500, st.binary(max_size=80), st.sampled_from([b"", b"PAR1", b"\x08" + bytes(7) + b"{}      "])
)
def test_any_bytes_for_a_table_or_tensors(written, content, start):
    root, _ = written
    path = root / "any"
    path.write_bytes(start + content + start)
    for read in (read_table, read_tensors):
        with pytest.raises(IntegrityError, match="any"):
            read(path)


MANIFEST = {"commit": "unknown", "sha256": {"data/a": "00", "figures/b.png": "11"}}


@fuzzed(500, CHANGES)
def test_damaged_manifests_are_refused(written, changes):
    root, _ = written
    path = root / "manifest.json"
    write_json(path, MANIFEST)
    whole = path.read_bytes()
    path.write_bytes(mutated(whole, changes))
    if path.read_bytes() == whole:
        assert differences(root) == [f"{root}/{name}: missing" for name in MANIFEST["sha256"]]
        return
    with pytest.raises(IntegrityError, match=r"manifest\.json is not what a run wrote"):
        differences(root)


@pytest.mark.parametrize(
    "text",
    [
        f'["{BLANK}"]',
        f'{{"a": "{BLANK}"}}',
        f'{{"a": "{BLANK}", "sha256": []}}',
        f'{{"a": "{BLANK}", "sha256": null}}',
        f'{{"a": "{BLANK}", "sha256": "x"}}',
        f'["{BLANK}"' + ", [" * 100_000,
        f'["{BLANK}", {"9" * 5000}]',
        "{}",
    ],
)
def test_manifests_of_another_form_are_refused(tmp_path, text):
    if BLANK in text:
        with sealed_path(tmp_path / "manifest.json") as path:
            path.write_text(text)
    else:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(IntegrityError, match=r"manifest\.json is not what a run wrote"):
        differences(tmp_path)


def test_manifests_of_impossible_names_are_reported_on(tmp_path):
    names = {"a" * 5000: "0", "b\0": "0"}
    write_json(tmp_path / "manifest.json", {"sha256": names})
    assert len(differences(tmp_path)) == 2


# --- CIFAR-10


def _records(labels):
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 3073), dtype=np.uint8)
    pixels[:, 0] = labels
    return pixels.tobytes()


@fuzzed(
    800, st.binary(max_size=20), st.lists(st.integers(0, 12), max_size=4), CHANGES, st.booleans()
)
def test_any_bytes_for_a_batch(tmp_path_factory, content, labels, changes, damage):
    folder = tmp_path_factory.getbasetemp() / "batches"
    folder.mkdir(exist_ok=True)
    path = folder / "data_batch_1.bin"
    whole = _records(labels)
    raw = mutated(whole, changes) if damage else whole + content
    path.write_bytes(raw)
    try:
        found, pixels = read_records(path, "CIFAR-10", (10,))
        assert found.shape == (len(raw) // 3073, 1)
        assert pixels.shape == (len(raw) // 3073, 3, 32, 32)
        assert found.max() <= 9
        pairs = zip(found, pixels, strict=True)
        assert b"".join(label.tobytes() + p.tobytes() for label, p in pairs) == raw
        spec = part("data", "cifar10", path=str(folder), samples=2)
        assert cifar10.generate(spec)[0]["targets"].flatten().tolist() == [1.0, -1.0]
    except DataError as error:
        message = str(error)
    else:
        return
    assert str(folder) in message


def _tar(form):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, size in (("long/" * 30 + "data_batch_1.bin", 3073), ("a/data_batch_2.bin", 700)):
            info = tarfile.TarInfo(name)
            info.size = size
            info.mtime = 0.5
            archive.addfile(info, io.BytesIO(bytes(size)))
    return buffer.getvalue()


TARS = [_tar(form) for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]


REMOTE = replace(cifar10.REMOTE, unpacked_limit=10**6)


def unpacked_or_refused(root, content):
    """Unpack; whatever comes, only plain batches are written, and only into their folder."""
    signal.alarm(60)
    archive, out = root / "archive.tar.gz", root / "out"
    archive.write_bytes(content)
    try:
        files, message = unpack(archive, out, REMOTE), ""
    except DataError as error:
        files, message = [], str(error)
    finally:
        signal.alarm(0)
    assert (
        message.startswith("archive.tar.gz ") if not files else {f.parent for f in files} == {out}
    )
    for path in out.iterdir() if out.exists() else []:
        assert re.fullmatch(r"data_batch_[0-9]{1,2}\.bin", path.name)
        assert path.is_file()
        assert not path.is_symlink()
        path.unlink()
    assert {path.name for path in root.iterdir()} <= {"archive.tar.gz", "out"}


@fuzzed(800, st.sampled_from(TARS), CHANGES)
def test_damaged_archives_are_refused_or_unpacked_safely(tmp_path_factory, tar, changes):
    root = tmp_path_factory.getbasetemp() / "archives"
    root.mkdir(exist_ok=True)
    unpacked_or_refused(root, gzip.compress(mutated(tar, changes), 1, mtime=0))


HEADER = st.tuples(
    st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, "L", "K", "x", "g", "S", "V", "\0", "Z"]),
    st.sampled_from(
        ["data_batch_1.bin", "../data_batch_1.bin", "/data_batch_1.bin", "..", "", "."]
    ),
    st.sampled_from([0, 1, 511, 512, 3073, 10**6, 2**33 - 1, 2**60, -1, -512]),
    st.binary(max_size=40)
    | st.sampled_from([b"30 path=../../x/data_batch_1.bin\n", b"9 size=-1\n"]),
)


@fuzzed(800, st.lists(HEADER, max_size=6), CHANGES, st.booleans())
def test_archives_of_odd_headers_are_refused_or_unpacked_safely(
    tmp_path_factory, headers, changes, damage
):
    raw = b""
    for kind, name, size, content in headers:
        info = tarfile.TarInfo(name)
        info.type, info.size = str(kind).encode(), size
        raw += info.tobuf(tarfile.GNU_FORMAT) + content.ljust(512, b"\0")
    packed = gzip.compress(raw, 1, mtime=0)
    root = tmp_path_factory.getbasetemp() / "archives"
    root.mkdir(exist_ok=True)
    unpacked_or_refused(root, mutated(packed, changes) if damage else packed)


def test_chains_of_headers_are_refused(tmp_path):
    """Each extended header makes tarfile call itself once more."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 0
    unpacked_or_refused(tmp_path, gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) * 1900))
