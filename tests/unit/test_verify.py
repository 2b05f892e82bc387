"""What is vouched for is looked at once, and what is not what a job wrote is found and deleted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sharpflow import verify
from sharpflow.errors import IntegrityError
from sharpflow.storage import ledger, seal
from sharpflow.storage.files import is_leftover, sha256_of
from sharpflow.storage.ledger import altered, examine
from sharpflow.storage.seal import sealed_path, write_json
from sharpflow.verify import differences, repair

NAMES = ["data/a.json", "figures/p/b.json", "tables/c.json"]


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"value", b"valve"))


@pytest.fixture
def root(tmp_path) -> Path:
    """A results folder of three files and a manifest."""
    root = tmp_path / "results"
    for name in NAMES:
        write_json(root / name, {"value": name})
    write_json(root / "manifest.json", {"sha256": examine(root, NAMES).whole})
    return root


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The names of the files whose seals are checked while a test runs."""
    names = []
    check = seal.check

    def noted(path, *plain):
        names.append(Path(path).name)
        return check(path, *plain)

    monkeypatch.setattr(seal, "check", noted)
    return names


def test_only_what_changed_is_read_again(root, read):
    whole = {name: sha256_of(root / name) for name in NAMES}
    assert examine(root, NAMES) == (whole, {})
    assert read == []
    os.utime(root / NAMES[1], ns=(1, 1))
    assert examine(root, NAMES) == (whole, {})
    assert read == ["b.json"]
    assert examine(root, NAMES) == (whole, {})
    assert read == ["b.json"]


def test_damage_with_the_time_kept_is_found_at_every_look(root):
    path = root / NAMES[0]
    status = path.stat()
    spoil(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    for _ in range(2):
        assert altered(root, NAMES) == [NAMES[0]]


@pytest.mark.parametrize("content", [b"", b"[]", b"no ledger", None])
def test_a_ledger_that_is_damaged_or_gone_is_made_anew(root, read, content):
    path = root / ledger.NAME
    path.unlink() if content is None else path.write_bytes(content)
    assert set(examine(root, NAMES).whole) == set(NAMES)
    assert len(read) == 3
    assert set(examine(root, NAMES).whole) == set(NAMES)
    assert len(read) == 3


def test_a_look_at_some_files_keeps_what_is_known_of_the_others(root, read):
    assert set(examine(root, NAMES[:1]).whole) == set(NAMES[:1])
    os.utime(root / NAMES[0], ns=(1, 1))
    examine(root, NAMES[:1])
    assert set(examine(root, NAMES).whole) == set(NAMES)
    assert read == ["a.json"]


def test_a_missing_file_is_not_an_altered_one(root):
    (root / NAMES[0]).unlink()
    assert altered(root, NAMES) == []
    assert str(examine(root, NAMES).wrong[NAMES[0]]) == f"{root}/{NAMES[0]} is missing."


def test_a_folder_that_cannot_be_written_is_looked_at_all_the_same(root, monkeypatch):
    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "replace", refuse)
    (root / ledger.NAME).unlink()
    spoil(root / NAMES[2])
    assert altered(root, NAMES) == [NAMES[2]]
    assert not (root / ledger.NAME).exists()


# --- the manifest


def manifest(root: Path, names: list[str]) -> subprocess.CompletedProcess:
    """The manifest's script by itself."""
    spec = {
        "vouched": names,
        "states": [],
        "configuration": {},
        "experiments": {},
        "benchmarks": {},
    }
    command = [sys.executable, "scripts/manifest.py", "--spec", json.dumps(spec)]
    command += ["--files", *(str(root / name) for name in names)]
    return subprocess.run(
        [*command, "--manifest", str(root / "manifest.json"), "--page", str(root / "run.html")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )


def test_the_manifest_does_not_vouch_for_what_no_job_wrote(root):
    (root / "manifest.json").unlink()
    spoil(root / NAMES[1])
    run = manifest(root, NAMES)
    assert run.returncode == 1
    message = f"{root}/{NAMES[1]} was altered since its job wrote it; delete it and it will be made"
    assert run.stderr == f"Error: {message} again.\n"
    assert not (root / "manifest.json").exists()


def test_the_manifest_removes_what_killed_jobs_left(root):
    left = [root / "figures" / "p" / ".b.json.123.tmp", root / "data" / ".tmpAb3dEf"]
    for path in left:
        path.write_bytes(b"half")
    assert differences(root) == []
    run = manifest(root, NAMES)
    assert run.returncode == 0, run.stderr
    assert not any(path.exists() for path in left)
    assert differences(root) == []


@pytest.mark.parametrize(
    ("name", "left"),
    [
        (".figure.png.4711.tmp", True), (".figure.png.node_1-4711.tmp", True),
        (".tmpA1b2C3", True), ("notes.tmp", False),
        (".hidden", False), (".train.checkpoint", False), (".tmp", False),
    ],
)  # fmt: skip
def test_temporary_files_are_known_by_their_names(name, left):
    assert is_leftover(Path("results") / name) == left


# --- repair


def test_repair_deletes_what_no_job_wrote_and_nothing_else(root, tmp_path):
    spoil(root / NAMES[0])
    (root / NAMES[1]).unlink()
    write_json(root / "runs" / "unfinished.json", {"value": 1})
    (root / "runs" / "foreign.json").write_text("{}")
    (root / "runs" / ".d.json.12.tmp").write_text("half")
    (root / "notes.txt").write_text("mine")
    assert repair(root) == [
        f"{root}/{NAMES[0]}: altered, deleted",
        f"{root}/{NAMES[1]}: missing",
        f"{root}/runs/foreign.json: not in the manifest, deleted",
        f"{root}/runs/.d.json.12.tmp: left by a killed job, deleted",
    ]
    there = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    assert there == {
        NAMES[2], "runs/unfinished.json", "notes.txt", "manifest.json", ledger.NAME
    }  # fmt: skip


@pytest.mark.parametrize("state", ["spoilt", "gone"])
def test_repair_without_a_manifest_goes_by_the_seals(root, state):
    spoil(root / NAMES[2])
    path = root / "manifest.json"
    path.unlink() if state == "gone" else path.write_bytes(b"{}")
    with sealed_path(root / "claims.csv") as table:
        table.write_text("claim,verdict\na,not supported\n")
    (root / "claims.csv").write_text("claim,verdict\na,supported\n")
    deleted = {line.split(":")[0] for line in repair(root)}
    names = [NAMES[2], "claims.csv"] + ["manifest.json"] * (state == "spoilt")
    assert deleted == {f"{root}/{name}" for name in names}
    assert not any(Path(name).exists() for name in deleted)


def test_repair_deletes_nothing_outside_the_folder(root, tmp_path):
    (tmp_path / "mine").write_text("mine")
    names = {"../mine": "0", str(tmp_path / "mine"): "0"}
    write_json(root / "manifest.json", {"sha256": examine(root, NAMES).whole | names})
    repair(root)
    assert (tmp_path / "mine").read_text() == "mine"


def test_repair_of_no_folder_is_a_message(tmp_path):
    with pytest.raises(IntegrityError, match="absent is not a folder"):
        repair(tmp_path / "absent")


def run(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["verify", *map(str, arguments)])
    return verify.main()


def test_verify_looks_at_one_file_by_its_seal(root, monkeypatch, capsys):
    path = root / NAMES[0]
    assert run(monkeypatch, path) == 0
    spoil(path)
    assert run(monkeypatch, path) == 1
    assert capsys.readouterr().err.startswith(f"Error: {path} was altered since its job wrote it")


def test_verify_and_repair_say_what_they_found(root, monkeypatch, capsys):
    spoil(root / NAMES[0])
    assert run(monkeypatch, root) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{root}/{NAMES[0]}: altered"
    assert said[1].startswith("--repair deletes what differs")
    assert run(monkeypatch, "--repair", root) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{root}/{NAMES[0]}: altered, deleted"
    assert said[1].startswith("Run the same configuration again")
    assert run(monkeypatch, root) == 1
    assert capsys.readouterr().out.startswith(f"{root}/{NAMES[0]}: missing\n")


def test_a_whole_tree_has_nothing_to_repair(root, monkeypatch, capsys):
    assert run(monkeypatch, "--repair", root) == 0
    assert capsys.readouterr().out == f"{root}: there is nothing to repair\n"
