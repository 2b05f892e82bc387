"""A results root that would mix with files of another kind is refused."""

import subprocess
from pathlib import Path

import pytest

from sharpflow.config.limits import OWN, check_results
from sharpflow.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
BAD = ["/etc", "/usr/share/x", "/", ".git", "sharpflow", "config/x", ".venv", str(ROOT)]
BAD += [str(ROOT.parent), str(Path.home()), "results/x/.git/y"]


@pytest.mark.parametrize("results", BAD)
@pytest.mark.parametrize("linked", [False, True])
def test_refused_by_its_own_name_and_through_a_link(results, linked, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    if linked:
        (tmp_path / "link").symlink_to(ROOT / results)
    with pytest.raises(ConfigError, match=r"c\.yaml: results = .* give a folder of its own"):
        check_results(str(tmp_path / "link") if linked else results, "c.yaml")


def test_a_link_to_itself(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(ConfigError, match="is a link to itself"):
        check_results(str(tmp_path / "loop" / "x"), "c.yaml")


def test_folders_of_their_own_are_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    for results in ("results", "results/paper", str(tmp_path / "x"), "/dev/shm/x", "/scratch/me"):
        check_results(results, "c.yaml")


def test_every_folder_of_the_project_is_listed():
    command = ["git", "ls-tree", "-d", "--name-only", "HEAD"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git here")
    assert {name for name in listed.stdout.split() if not name.startswith(".")} <= OWN
