"""Starting the workflow, and saying what came out."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sharpflow.config.home import SNAKEFILE
from sharpflow.errors import ConfigError
from sharpflow.storage.files import PAGE, VOUCHED


def snakemake(arguments: Sequence[str]) -> int:
    """Run the workflow in this folder through `sharpflow.launch`; Snakemake's exit status.

    Ctrl-C reaches Snakemake by itself, which ends its jobs; a SIGTERM is passed on.
    """
    here = Path("Snakefile").resolve() == SNAKEFILE.resolve()
    which = [] if here else ["--snakefile", str(SNAKEFILE)]
    child = subprocess.Popen([sys.executable, "-m", "sharpflow.launch", *which, *arguments])
    before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    try:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue  # Snakemake got it too, and says what it does
    finally:
        signal.signal(signal.SIGTERM, before)


def cores() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def verdicts(results: Path) -> list[str]:
    """A line for each claim that was judged: its sign, its name, and what was found.

    Raises:
        IntegrityError: the claims are missing, or not what their job wrote.
    """
    from sharpflow.report.verdicts import claim_entries
    from sharpflow.storage.tables import read_table

    entries = claim_entries(read_table(results / "claims.parquet"))
    names = [f"{entry['experiment']}: {entry['claim']}" for entry in entries]
    width = max(map(len, names), default=0)
    return [
        f"{entry['symbol']} {name.ljust(width)}  {entry['verdict'].ljust(13)}  {_why(entry)}"
        for name, entry in zip(names, entries, strict=True)
    ]


def _why(entry: dict) -> str:
    """What was found for a claim, over its one case or all of them."""
    if entry["cases"]:
        counts = entry["case_counts"]
        return f"{counts['supported']} of {counts['all']} cases"
    found = f"{entry['result']} {entry['interval']}, wanted {entry['band']}"
    return f"{entry['result']} runs in the band" if "runs" in entry["estimand"] else found


def newest(folder: Path = Path("results")) -> Path:
    """The results folder below `folder`, or itself, whose page is the newest.

    Raises:
        ConfigError: there is no page.
    """
    places = [folder / PAGE, *folder.glob(f"*/{PAGE}")]
    pages = [page for page in places if page.is_file()]
    if not pages:
        raise ConfigError(
            f"There is no page in {folder} or in a folder of it. `sharpflow demo` makes one in a "
            "minute; the folder of other results is the argument."
        )
    return max(pages, key=lambda page: page.stat().st_mtime).parent.parent


def finished(results: str | Path) -> Path:
    """A results folder.

    Raises:
        ConfigError: it is none.
    """
    root = Path(results)
    if not any((root / name).is_dir() for name in VOUCHED):
        raise ConfigError(f"{root} is no results folder: it has none of {', '.join(VOUCHED)}.")
    return root
