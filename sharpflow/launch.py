"""`python -m sharpflow.launch ARGUMENTS`: Snakemake, once an ownerless lock is out of the way.

The configuration is checked first: Snakemake parses the file that it is given before any code of
ours can see how large or how deep it is.

A killed Snakemake leaves its lock behind. Here each start also holds an operating-system lock,
which dies with its process: whoever gets it knows that no other start of this kind is alive.
"""

import fcntl
import os
import sys
from itertools import takewhile
from pathlib import Path

from sharpflow.config import load
from sharpflow.errors import ConfigError, SharpflowError

STATE = Path(".snakemake")


def others() -> list[int]:
    """Process numbers of Snakemakes, of any kind of start, that work in this folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            same = (process / "cwd").resolve() == Path.cwd()
        except OSError:
            continue
        named = any(word.split(b"/")[-1] == b"snakemake" for word in words[:3])
        if same and named and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def configurations(arguments: list[str]) -> list[str]:
    """The files that Snakemake's arguments name as configurations."""
    found = []
    for at, argument in enumerate(arguments):
        option, _, value = argument.partition("=")
        if option in ("--configfile", "--configfiles"):
            following = takewhile(lambda text: not text.startswith("-"), arguments[at + 1 :])
            found += [value] if value else list(following)
    return found


def check_configuration(file: str) -> None:
    """Refuse a configuration that is wrong, or whose results could not be written.

    Raises:
        ConfigError: one paragraph that names the file.
    """
    results = load(file).configuration.results
    folder = Path(results).absolute()
    while not folder.exists():
        folder = folder.parent
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise ConfigError(
            f"{file}: results = {results!r} cannot be made or written, for {folder} is read-only "
            "or not a folder; give another folder."
        )


def main(arguments: list[str]) -> int:
    """Check the configuration, take the lock, clear what a killed run left, become Snakemake."""
    try:
        for file in configurations(arguments):
            check_configuration(file)
    except SharpflowError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    STATE.mkdir(exist_ok=True)
    handle = os.open(STATE / "sharpflow.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("Error: another run is at work in this folder; wait for it to end.", file=sys.stderr)
        return 1
    stale = list((STATE / "locks").glob("*.lock"))
    if stale and (alive := others()):
        print(
            f"Error: Snakemake is at work in this folder (process {alive[0]}); wait for it to end.",
            file=sys.stderr,
        )
        return 1
    for lock in stale:
        lock.unlink(missing_ok=True)
    os.set_inheritable(handle, True)  # Snakemake holds it on; its jobs do not get it
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
