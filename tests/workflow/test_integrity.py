"""A file that is not what was written is found, named, and rebuilt or refused."""

import os
import shutil

import pytest
from conftest import Tree

from sharpflow.errors import IntegrityError
from sharpflow.verify import differences


@pytest.fixture(scope="module")
def copy(tree, tmp_path_factory) -> Tree:
    """A finished tree that tests may spoil; each puts back what it took."""
    root = tmp_path_factory.mktemp("integrity") / "project"
    shutil.copytree(tree.root, root, symlinks=True)
    return Tree(root)


def _files(tree: Tree) -> list:
    folders = ("data", "runs", "tables", "claims", "figures", "report")
    return sorted(p for f in folders for p in (tree.results / f).rglob("*") if p.is_file())


def test_verify_names_every_flipped_byte_and_every_cut_tail(copy):
    assert differences(copy.results) == []
    for path in _files(copy):
        whole = path.read_bytes()
        spoilt = bytearray(whole)
        spoilt[len(whole) // 2] ^= 1
        for wrong in (bytes(spoilt), whole[:-1]):
            path.write_bytes(wrong)
            assert differences(copy.results) == [f"{path}: altered"]
        path.write_bytes(whole)
    path.unlink()
    assert differences(copy.results) == [f"{path}: missing"]
    path.write_bytes(whole)
    extra = copy.results / "tables" / "extra.parquet"
    extra.write_bytes(b"?")
    assert differences(copy.results) == [f"{extra}: not in the manifest"]
    extra.unlink()


def test_verify_without_a_manifest_is_a_message(tmp_path):
    with pytest.raises(IntegrityError, match=r"manifest\.json cannot be read"):
        differences(tmp_path)


def _refused(copy: Tree, *words: str) -> None:
    run = copy.snakemake("--cores", "2")
    assert run.returncode != 0
    assert "Traceback" not in run.stdout
    message = next(line for line in run.stdout.splitlines() if line.startswith("Error: "))
    for word in words:
        assert word in message


@pytest.mark.parametrize("name", ["states.safetensors", "trajectory.parquet"])
def test_a_spoilt_file_is_refused_by_name_and_remade_once_it_is_gone(copy, name):
    path = sorted(copy.results.glob(f"runs/dense/tanh/**/{name}"))[0]
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    _refused(copy, str(path.relative_to(copy.root)))
    path.unlink()
    run = copy.snakemake("--cores", "2")
    assert run.returncode == 0, run.stdout[-3000:]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("name", ["states.safetensors", "trajectory.parquet"])
def test_two_seeds_files_swapped_are_refused(copy, name):
    first, second = sorted(copy.results.glob(f"runs/dense/tanh/**/{name}"))[:2]
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    _refused(copy, "another")
    first.write_bytes(a)
    second.write_bytes(b)
    run = copy.snakemake("--cores", "2")
    assert run.returncode == 0, run.stdout[-3000:]


def test_an_old_state_put_back_with_its_old_date_is_found(copy):
    path = sorted(copy.results.glob("runs/dense/tanh/**/states.safetensors"))[0]
    whole, status = path.read_bytes(), path.stat()
    twin = sorted(copy.results.glob("runs/dense/tanh/**/states.safetensors"))[1]
    path.write_bytes(twin.read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert differences(copy.results) == [f"{path}: altered"]
    path.write_bytes(whole)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert differences(copy.results) == []
