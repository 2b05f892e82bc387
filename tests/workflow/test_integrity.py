"""A file that is not what was written is found, named, and rebuilt or refused."""

import os

import pytest
import yaml
from trees import CONFIG, Tree, copy_project

from sharpflow.errors import IntegrityError
from sharpflow.verify import differences


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Tree:
    """One experiment in two shards, run; tests may spoil it, and each puts back what it took."""
    copy = copy_project(tmp_path_factory.mktemp("integrity") / "project")
    file = copy.root / CONFIG
    smoke = yaml.safe_load(file.read_text())
    linear = smoke["overrides"]["linear"] | {"seeds_per_job": 1}
    changes = {"experiments": ["linear"], "overrides": {"linear": linear}}
    file.write_text(yaml.safe_dump(smoke | changes))
    run = copy.snakemake("--cores", "2")
    assert run.returncode == 0, run.stdout[-3000:]
    return copy


def _files(tree: Tree) -> list:
    folders = ("data", "runs", "tables", "claims", "figures", "report")
    below = (p for f in folders for p in (tree.results / f).rglob("*") if p.is_file())
    return sorted([*below, *tree.results.glob("claims.*")])


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
    with pytest.raises(IntegrityError, match=r"holds no manifest\.json"):
        differences(tmp_path)


def _refused(copy: Tree, *words: str) -> None:
    run = copy.snakemake("--cores", "2")
    assert run.returncode != 0
    assert "Traceback" not in run.stdout
    message = next(line for line in run.stdout.splitlines() if line.startswith("Error: "))
    for word in words:
        assert word in message


KINDS = {
    "dataset": "data/*.safetensors",
    "trajectory": "runs/**/trajectory.parquet",
    "states": "runs/**/states.safetensors",
    "measurements": "runs/**/measurements.parquet",
    "table": "tables/*/runs/*.parquet",
    "summary": "tables/*/summary/*.parquet",
    "verdicts": "claims/*.parquet",
    "all verdicts": "claims.parquet",
    "claims.csv": "claims.csv",
    "its checksum": "claims.csv.sha256",
    "values": "claims/seeds/*.parquet",
    "values.csv": "claims_by_seed.csv",
    "their checksum": "claims_by_seed.csv.sha256",
    "picture": "figures/*/*.png",
    "PDF": "figures/*/*.pdf",
    "SVG": "figures/*/*.svg",
    "caption": "figures/*/*.json",
    "page": "report/index.html",
    "manifest": "manifest.json",
}


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _cut(content: bytes) -> bytes:
    return content[:-7]


def _improved(content: bytes) -> bytes:
    for verdict in (b"not supported", b"undefined", b"straddles"):
        content = content.replace(verdict, b"supported")
    return content


DAMAGES = [(spoil, kept) for spoil in (_flipped, _cut) for kept in (True, False)]


def _rounds(results) -> list[list[tuple]]:
    """Each kind of file in each damage, over as few runs as there are files of a kind."""
    rounds: list[list[tuple]] = []
    for kind, pattern in KINDS.items():
        files = sorted(results.glob(pattern))
        assert files, kind
        damages = [*DAMAGES, (_improved, False)] if kind in ("claims.csv", "page") else DAMAGES
        for place, damage in enumerate(damages):
            number, file = divmod(place, len(files))
            rounds += [[] for _ in range(number + 1 - len(rounds))]
            rounds[number].append((files[file], *damage))
    return rounds


def _spoil(path, spoil, kept: bool) -> None:
    whole, status = path.read_bytes(), path.stat()
    assert spoil(whole) != whole
    path.write_bytes(spoil(whole))
    if kept:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_rerun_names_and_repairs_damage_to_every_kind_of_file(copy):
    """To the same bytes, in one run, and nothing is built from what is damaged."""
    manifest = copy.results / "manifest.json"
    whole = {path: path.read_bytes() for path in [*_files(copy), manifest]}
    for number, spoilt in enumerate(_rounds(copy.results)):
        for damage in spoilt:
            if damage[0] != manifest:
                _spoil(*damage)
        files = sorted((path for path, *_ in spoilt), key=str)
        found = differences(copy.results)
        assert found == [f"{path}: altered" for path in files if path != manifest]
        for damage in spoilt:
            if damage[0] == manifest:
                _spoil(*damage)
                with pytest.raises(IntegrityError, match=r"manifest\.json was altered"):
                    differences(copy.results)
        said = {
            f"{path.relative_to(copy.root)} was altered since its job wrote it" for path in files
        }
        if number == 0:
            before = {path: path.read_bytes() for path in files}
            planned = copy.snakemake("-n")
            lines = {line for line in planned.stdout.splitlines() if "was altered" in line}
            assert lines == {f"{text}: a run makes it again" for text in said}
            assert {path: path.read_bytes() for path in files} == before
        run = copy.snakemake("--cores", "2")
        assert run.returncode == 0, run.stdout[-3000:]
        lines = {line for line in run.stdout.splitlines() if "was altered" in line}
        assert lines == {f"{text}: deleted, to be made again" for text in said}
        changed = [path for path, content in whole.items() if path.read_bytes() != content]
        assert not changed
        assert differences(copy.results) == []
    assert "Nothing to be done" in copy.snakemake("--cores", "2").stdout


@pytest.mark.parametrize("name", ["states.safetensors", "trajectory.parquet"])
def test_two_seeds_files_swapped_are_refused(copy, name):
    first, second = sorted(copy.results.glob(f"runs/linear/**/{name}"))[:2]
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    _refused(copy, "another")
    first.write_bytes(a)
    second.write_bytes(b)
    run = copy.snakemake("--cores", "2")
    assert run.returncode == 0, run.stdout[-3000:]


def test_an_old_state_put_back_with_its_old_date_is_found(copy):
    path = sorted(copy.results.glob("runs/linear/**/states.safetensors"))[0]
    whole, status = path.read_bytes(), path.stat()
    twin = sorted(copy.results.glob("runs/linear/**/states.safetensors"))[1]
    path.write_bytes(twin.read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert differences(copy.results) == [f"{path}: altered"]
    path.write_bytes(whole)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert differences(copy.results) == []
