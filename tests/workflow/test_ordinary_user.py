"""An ordinary user on an unfriendly machine: odd paths, names and locale, and folders of others.

Where the tests run as root, the workflow runs as `nobody`, for whom permissions count.
"""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from trees import Tree, copy_project

from sharpflow.storage.files import sha256_of
from sharpflow.verify import differences

LINEAR = """\
    seeds: 2
    seeds_per_job: 2
    data: {samples: 60}
    widths: [20]
    learning_rates: [0.005]
    training: {steps: 60}
"""  # as in config/smoke.yaml
CONFIG = f"""\
results: results/smoke
papers: [papers/li2022]
experiments: [linear, linear-twice]
overrides:
  linear:
{LINEAR}  linear-twice:
{LINEAR}"""
ROOT = os.getuid() == 0


@dataclass(frozen=True)
class User:
    """A clone of somebody who is not root, and what comes before a command of theirs."""

    project: Path
    prefix: list[str]
    name: str

    def run(self, *arguments: str, locale: str = "C") -> subprocess.CompletedProcess:
        """A Python command in the clone; standard error and output come together."""
        home = str(self.project.parent)
        plain = {"PATH": os.environ["PATH"], "HOME": home, "LC_ALL": locale, "PYTHONUTF8": "0"}
        return subprocess.run(
            [*self.prefix, sys.executable, *arguments],
            cwd=self.project,
            env=plain,
            umask=0o077,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )

    def owns(self, path: Path) -> None:
        """Give the user a path, and all in it."""
        if ROOT:
            for each in (path, *path.rglob("*")):
                shutil.chown(each, self.name, None)


def _prefix(name: str) -> list[str]:
    """What runs a command as this user; skips where nothing does or they reach no Python."""
    user = pwd.getpwnam(name)
    become = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    # root's Python may lie where others may not look: this lets them read all, and write no more
    reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    inner = "import os, sys; os.execv(sys.executable, [sys.executable, '-c', 'import snakemake'])"
    probe = [sys.executable, "-c", inner]  # the first start is still with root's rights
    for prefix in (become, [*become, *reading]) if shutil.which("setpriv") else ():
        if not subprocess.run([*prefix, *probe], capture_output=True).returncode:
            return prefix
    pytest.skip("no other user can run this Python")


@pytest.fixture(scope="module")
def user():
    """A clone in a path with spaces and umlauts."""
    name = "nobody" if ROOT else pwd.getpwuid(os.getuid()).pw_name
    prefix = _prefix(name) if ROOT else []
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        home = Path(folder) / "Müßige Läufe"
        tree = copy_project(home / "mein sharpflow")
        own = tree.root / "config" / "experiments"
        own.mkdir()
        text = (tree.root / "papers/li2022/experiments/linear.yaml").read_text(encoding="utf-8")
        (own / "linear-twice.yaml").write_text("paper: li2022\n" + text, encoding="utf-8")
        (tree.root / "config" / "größer.yaml").write_text(CONFIG, encoding="utf-8")
        user = User(tree.root, prefix, name)
        user.owns(home)
        yield user


OPTIONS = ("--cores", "2", "--configfile", "config/größer.yaml")


def test_odd_paths_names_masks_and_locales_change_no_byte(user: User, tree: Tree):
    run = user.run("-m", "sharpflow.launch", *OPTIONS)
    assert run.returncode == 0, run.stdout[-3000:]
    made = user.project / "results" / "smoke"
    assert differences(made) == []
    assert (made / "figures").is_dir()
    for path in made.rglob("*"):
        assert not path.stat().st_mode & 0o077, path
    same = [
        str(path.relative_to(made))
        for path in made.rglob("*.*")
        if path.is_file()
        and "linear" in path.relative_to(made).parts[1:2]
        and path.relative_to(made).parts[0] in ("runs", "tables")
    ]
    assert len(same) == 5
    for name in same:
        assert sha256_of(made / name) == sha256_of(tree.results / name), name
    again = user.run("-m", "snakemake", "-n", *OPTIONS)
    assert "Nothing to be done" in again.stdout, again.stdout


OTHERS = {
    "records": (".snakemake", "keeps its records"),
    "locks": (".snakemake/locks", "keeps its records"),
    "results": ("results/smoke", "cannot be made or written"),
}


@pytest.mark.skipif(not ROOT, reason="only root can make a folder of another user")
@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("start", ["snakemake", "sharpflow.launch"])
def test_a_folder_of_another_user_is_one_paragraph(user: User, kind, start):
    for made in ("results", ".snakemake"):
        shutil.rmtree(user.project / made, ignore_errors=True)
    name, words = OTHERS[kind]
    folder = user.project / name
    folder.mkdir(parents=True)
    user.owns(user.project)
    shutil.chown(folder, 0)
    run = user.run("-m", start, *OPTIONS, locale="C.UTF-8")
    assert run.returncode == 1
    assert "Traceback" not in run.stdout, run.stdout
    (message,) = [line for line in run.stdout.splitlines() if line.startswith("Error: ")]
    assert words in message
    assert name in message
    assert list(folder.iterdir()) == []
