"""`sharpflow`, or `python -m sharpflow`: the command line."""

import os
import signal
import sys
from importlib.util import find_spec
from typing import NoReturn

from sharpflow.clone import lead, other

NEEDED = ("click", "pydantic", "yaml", "snakemake")


def _interrupted(*_: object) -> NoReturn:
    """End at a Ctrl-C, in whatever import or computation it comes."""
    print("\nInterrupted.", file=sys.stderr, flush=True)
    os._exit(128 + signal.SIGINT)


def _as_the_clone() -> int:
    """Be the command line of the clone that is worked in, if this is another copy's.

    Returns:
        1, with a sentence, where this Python loads another copy than it is told to; else 0.
    """
    clone = other()
    if clone is None:
        return 0
    before = os.environ.get("PYTHONPATH")
    lead(clone)
    if os.environ["PYTHONPATH"] == before:
        print(
            f"Error: this folder has a sharpflow of its own, and {sys.executable} loads "
            f"{os.path.dirname(__file__)} all the same: install it with `pip install -e .`.",
            file=sys.stderr,
        )
        return 1
    os.execv(sys.executable, [sys.executable, "-P", "-m", "sharpflow", *sys.argv[1:]])


def main() -> int:
    """Run the command line; 1, with what to install, where the library alone is there."""
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:  # as in the background of a script
        signal.signal(signal.SIGINT, _interrupted)
    if status := _as_the_clone():
        return status
    if sys.argv[1:] == ["--version"]:  # the library alone has one too
        from sharpflow.version import VERSION

        print(f"sharpflow, version {VERSION}")
        return 0
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"Error: the command line needs {', '.join(missing)}; "
            "`pip install 'sharpflow[workflow]'` brings what it needs.",
            file=sys.stderr,
        )
        return 1
    from sharpflow.cli.app import run_command

    return run_command()


if __name__ == "__main__":
    sys.exit(main())
