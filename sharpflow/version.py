"""The version of the package and its commit; no result depends on them."""

import subprocess
from pathlib import Path

VERSION = "0.1.0"
_PACKAGE = Path(__file__).resolve().parent
COMMIT_FILE = "_workflow/COMMIT"
"""Where a wheel says, inside the package, which commit it was built from."""


def commit_of(folder: Path) -> str:
    """The git commit of a clone, `+changes` if it is not clean; `unknown` of another folder."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(folder), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if not folder.samefile(git("rev-parse", "--show-toplevel")):
            return "unknown"  # of a repository around this one
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def commit() -> str:
    """The commit of this code: of the wheel that it came in, or of the clone that it lies in."""
    try:
        return (_PACKAGE / COMMIT_FILE).read_text(encoding="utf-8").strip()
    except OSError:
        return commit_of(_PACKAGE.parent)
