"""Starting the workflow, and saying what came out."""

import os
import signal
import subprocess
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from sharpflow.clone import lead
from sharpflow.config.home import HOME, SNAKEFILE
from sharpflow.config.load import Settings
from sharpflow.config.plan import Plan
from sharpflow.cost import shipped
from sharpflow.cost.sweep import EVALUATE, TRAIN, Sweep
from sharpflow.errors import ConfigError, ResourceError
from sharpflow.forkserver import sigint_blocked
from sharpflow.progress import span
from sharpflow.storage.files import PAGE, VOUCHED


def snakemake(arguments: Sequence[str]) -> int:
    """Run the workflow in this folder through `sharpflow.launch`; Snakemake's exit status.

    Ctrl-C reaches Snakemake by itself, which ends its jobs; a SIGTERM is passed on. The copy of
    sharpflow that this is works on, whatever lies in this folder.
    """
    here = Path("Snakefile").resolve() == SNAKEFILE.resolve()
    which = [] if here else ["--snakefile", str(SNAKEFILE)]
    lead(HOME)
    before = signal.getsignal(signal.SIGINT)
    if before != signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)
    with sigint_blocked():
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "sharpflow.launch", *which, *arguments]
        )
    ended = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    try:
        status = child.wait()
        return status if status >= 0 else 128 - status
    finally:
        signal.signal(signal.SIGTERM, ended)
        signal.signal(signal.SIGINT, before)


def cores() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


_AROUND = 12.0
"""CPU seconds of Snakemake and of the interpreter that jobs are forked from (the demo's)."""


def estimate(settings: Settings, plan: Plan, cores: int) -> str:
    """What a configuration takes from nothing, by the cost model, as a line."""
    sized = {name: job for name, (_, job) in Sweep(settings, plan).jobs().items()}
    times = {name: shipped().time(job) for name, job in sized.items() if job is not None}
    used = sum(times.values()) + _AROUND
    folders = [shard.folder for shard in plan.shards.values()]
    chains = (
        sum(
            seconds
            for stage in (TRAIN, EVALUATE)
            if (seconds := times.get(f"{folder}/{stage}.tsv"))
        )
        for folder in folders
    )
    passed = max(used / cores, *chains)
    about = "about" if len(times) == len(sized) else "at least"
    return (
        f"Estimate: {about} {span(used)} of processor time, so {about} {span(passed)} on {cores} "
        f"idle core{'s' if cores > 1 else ''}; what is made already is not made again."
    )


def verdicts(results: Path, plan: Plan) -> list[str]:
    """A line for each claim that was judged: its sign, its name, and what was found.

    They stand in the page's order: by paper, and in that by what the paper says.

    Raises:
        IntegrityError: the claims are missing, or not what their job wrote.
    """
    from sharpflow.report.answer import statements
    from sharpflow.report.verdicts import claim_entries
    from sharpflow.storage.tables import read_table

    order = {name: place for place, name in enumerate(plan.settings)}
    found = claim_entries(read_table(results / "claims.parquet"))
    found.sort(key=lambda entry: order[entry["experiment"]])
    entries = [
        entry
        for key, paper in plan.papers.items()
        for group in statements(paper, [each for each in found if each["paper"] == key])
        for entry in group["entries"]
    ]
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


def browse(page: Path) -> None:
    """Open a page in the browser.

    Raises:
        ResourceError: there is none.
    """
    try:
        opened = webbrowser.get().open(page.resolve().as_uri())
    except webbrowser.Error:
        opened = False
    if not opened:
        raise ResourceError(
            f"There is no browser here that could open it: the page is {page.resolve()}, one file "
            "that any browser shows, also from a copy."
        )


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
