"""`python -m sharpflow.launch ARGUMENTS`: Snakemake, once an ownerless lock is out of the way.

A killed Snakemake leaves its lock behind. Here each start also holds an operating-system lock,
which dies with its process: whoever gets it knows that no other start of this kind is alive.
"""

import fcntl
import os
import sys
from pathlib import Path

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


def main(arguments: list[str]) -> int:
    """Take the lock, clear what a killed run left, and become Snakemake."""
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
