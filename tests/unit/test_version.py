"""Which commit a result was made with."""

import subprocess
from pathlib import Path

from sharpflow import version


def git(folder: Path, *words: str) -> str:
    own = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *own, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_clone_has_its_commit_and_says_that_it_was_changed(tmp_path):
    assert version.commit_of(tmp_path) == "unknown"
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("a")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "a")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert version.commit_of(tmp_path) == head
    (tmp_path / "b").mkdir()
    assert version.commit_of(tmp_path / "b") == "unknown"  # the commit is of the folder around it
    (tmp_path / "b" / "c").write_text("c")
    assert version.commit_of(tmp_path) == f"{head}+changes"
