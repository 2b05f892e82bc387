"""What Snakemake prints, kept to lines that can be read, and one line of how far the run is."""

import csv
import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from snakemake.common import NOTHING_TO_BE_DONE_MSG
from snakemake_interface_logger_plugins.common import LogEvent
from tqdm import tqdm

from sharpflow.claims.columns import worst
from sharpflow.progress import Event, Failure, Outcome, Planned, Run, ending
from sharpflow.storage.files import CLAIMS, PAGE
from sharpflow.storage.heartbeat import Beat, beat_path, read_beat

SHOWN = 3
LONGEST = 200
WIDEST = 280
"""Characters of a line on the console, a colour's beside them."""
REDRAWN, LOGGED = 1.0, 60.0
"""Seconds between two states of the line on a terminal, and between two lines elsewhere."""
_SHARE = 20
"""Times as long as it takes to work the line out that it is left alone: of a sweep, a tenth of a
second."""
LIGHT = 3.0, 1.0
"""Seconds of a job that only joins what others made, and to begin: no model foretells them."""
_LISTS = ("input", "output", "log")
_OURS = "sharpflow_progress"
_TOLD_BY_THE_LINE = {
    LogEvent.JOB_INFO,
    LogEvent.JOB_STARTED,
    LogEvent.JOB_FINISHED,
    LogEvent.GROUP_INFO,
    LogEvent.PROGRESS,
    LogEvent.SHELLCMD,
}
_ADVICE = "Some jobs were triggered by provenance information"
_INTERRUPTED = "Terminating processes on user request"
_BY_INTERRUPTION = (
    *("<Signals.SIGINT: 2>", "exit status 130", "<Signals.SIGTERM: 15>", "exit status 143"),
    "At least one job did not complete successfully",
)
_SAID_AT_THE_END = (
    "At least one job did not complete successfully",
    "Exiting because a job execution failed",
    "returned non-zero exit status 1.",  # a job that ended so has said why
)
_CHATTER = ("Select jobs to execute", "Job rate limit reached")


def _few(items: list[str]) -> list[str]:
    """The first items, and how many there are beside them; their text is of bounded length."""
    shown = list(items[:SHOWN])
    while len(shown) > 1 and sum(map(len, shown)) > LONGEST:
        shown.pop()
    more = len(items) - len(shown)
    return [*shown, f"and {more:,} more"] if more else shown


def cut(text: str, longest: int = LONGEST) -> str:
    """A line of at most so many characters, and a sign that there was more."""
    return text if len(text) <= longest else f"{text[:longest].rpartition(' ')[0]} …"


def shorten(record: logging.LogRecord) -> bool:
    """Shorten the lists of files and the reason of a job, of which a sweep's have thousands.

    Snakemake's advice to wipe its records of a file, or to go by times alone, is left out: results
    would then be of other code than they say. A filter for Snakemake's logger; it lets every record
    pass.
    """
    for name in _LISTS:
        items = getattr(record, name, None)
        if isinstance(items, (list, tuple)):
            setattr(record, name, _few([str(item) for item in items]))
    if str(record.msg).startswith(_ADVICE):
        record.msg = f"{_ADVICE}: settings, code or inputs changed, see 'reason' above."
    if reason := getattr(record, "reason", None):
        setattr(record, "reason", cut(str(reason)))  # noqa: B010 (not an attribute of every record)
    return True


def told_to_end(workflow: Any) -> bool:
    """Whether Snakemake got a SIGTERM, which ends the jobs of its group too (`timeout`)."""
    return bool(getattr(workflow.scheduler, "_user_kill", None))


class Interrupted:
    """Leaves out what looks like a failure and is the user's own Ctrl-C, or a SIGTERM.

    A filter for Snakemake's logger: from its word of an interruption on, jobs that end by it have
    not failed. Whatever else goes wrong meanwhile is said.

    Args:
        told: whether Snakemake was told to end, which it says only later.
    """

    def __init__(self, told: Callable[[], bool] = lambda: False):
        self._told = told
        self._asked = False

    def __call__(self, record: logging.LogRecord) -> bool:
        """Whether a message is to be said."""
        text = str(record.msg)
        self._asked = self._asked or text.startswith(_INTERRUPTED) or self._told()
        lost = getattr(record, "event", None) in (LogEvent.JOB_ERROR, LogEvent.GROUP_ERROR)
        return not (self._asked and (lost or any(words in text for words in _BY_INTERRUPTION)))


class Narrow(logging.Formatter):
    """Another formatter's text in lines that are not too long."""

    def __init__(self, inner: logging.Formatter):
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """The text of one message."""
        text = self._inner.format(record)
        return "\n".join(map(self._narrowed, text.split("\n"))) if text else text

    @staticmethod
    def _narrowed(line: str) -> str:
        # what a job says of a mistake ends with what to do about it
        return line if line.startswith("Error: ") else cut(line, WIDEST)


def untold(record: logging.LogRecord) -> bool:
    """Whether a message says what the line does not; a filter for the console."""
    if record.levelno >= logging.WARNING:
        at_the_end = any(words in str(record.msg) for words in _SAID_AT_THE_END)
        if getattr(record, "event", None) == LogEvent.JOB_ERROR:
            at_the_end = any(map(said, getattr(record, "log", None) or ()))
        return not at_the_end
    chatter = str(record.msg).startswith(_CHATTER)
    return getattr(record, "event", None) not in _TOLD_BY_THE_LINE and not chatter


class AboveTheLine(logging.Handler):
    """Snakemake's own handler of the console, whose messages appear above the line.

    Args:
        inner: Snakemake's handler.
    """

    def __init__(self, inner: logging.StreamHandler):
        super().__init__(inner.level)
        self.inner = inner

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message; what the line itself says to a log is on the terminal already."""
        if not getattr(record, _OURS, False):
            with tqdm.external_write_mode(file=self.inner.stream):
                self.inner.handle(record)

    def close(self) -> None:
        """Close both."""
        self.inner.close()
        super().close()


class Watch(logging.Handler):
    """Hears what Snakemake says of its jobs, and says in one line how far they are.

    On a terminal the line stays in its place; elsewhere, and in Snakemake's log, there is one every
    `LOGGED` seconds.

    Args:
        logger: Snakemake's.
        run: what is to be done.
        beats: where each job may say how far it is.
        clock: gives seconds.
    """

    def __init__(
        self,
        logger: logging.Logger,
        run: Run,
        beats: Mapping[int, Path],
        clock: Callable[[], float] = time.monotonic,
    ):
        super().__init__()
        self.run = run
        self._logger = logger
        self._beats = beats
        self._clock = clock
        self._logged = clock()
        self._ended = threading.Event()
        self._drawing = threading.Lock()
        self._bar: Any = None
        self._thread = threading.Thread(target=self._go_on, name="progress", daemon=True)

    def begin(self, screen: logging.StreamHandler) -> None:
        """Take the console over from Snakemake's handler, and hear."""
        screen.setFormatter(Narrow(screen.formatter or logging.Formatter()))
        screen.addFilter(untold)
        if screen.stream.isatty():
            tqdm.set_lock(threading.RLock())  # the default one is of multiprocessing's
            tqdm.monitor_interval = 0
            self._bar = tqdm(
                total=len(self.run.planned),
                bar_format="{percentage:3.0f} % {bar:10} {desc}",
                file=screen.stream,
                dynamic_ncols=True,
                leave=False,
                mininterval=0,
            )
            self._logger.removeHandler(screen)
            self._logger.addHandler(AboveTheLine(screen))
        self._logger.addHandler(self)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Take note of a message."""
        for event in events(record, self._clock()):
            if event.kind == "started" and event.job in self._beats:
                self._beats[event.job].unlink(missing_ok=True)  # of a job that was killed
            self.run.take(event)

    def line(self) -> str:
        """How far the run is."""
        with self.lock:  # pyright: ignore[reportOptionalContextManager] (every handler has one)
            running = [number for number in self.run.started if number in self._beats]
            read: dict[int, Beat | None] = {n: read_beat(self._beats[n]) for n in running}
            known = {number: beat for number, beat in read.items() if beat is not None}
            return self.run.line(self._clock(), known)

    def show(self) -> None:
        """Draw the line anew where it stands on a terminal; log it when it is time."""
        text = self.line()
        with self._drawing:
            if self._bar is not None and not self._ended.is_set():
                self._bar.n = len(self.run.taken)
                self._bar.set_description_str(text)
        if self._clock() - self._logged >= LOGGED:
            self._logged = self._clock()
            self._logger.info(cut(text, WIDEST), extra={_OURS: True})

    def _go_on(self) -> None:
        least = REDRAWN if self._bar is not None else LOGGED / 10
        pause = least
        while not self._ended.wait(pause):
            begun = time.monotonic()
            self.show()
            pause = max(least, _SHARE * (time.monotonic() - begun))

    def end(self) -> None:
        """Clear the line; nothing more is said."""
        with self._drawing:
            self._ended.set()
            if self._bar is not None:
                self._bar.close()
        for number in list(self.run.started):  # messages may still come in
            if number in self._beats:
                self._beats[number].unlink(missing_ok=True)

    def close(self) -> None:
        """End with Snakemake's logger."""
        self.end()
        super().close()


def events(record: logging.LogRecord, now: float) -> list[Event]:
    """What a message of Snakemake's says of jobs."""
    match getattr(record, "event", None):
        case LogEvent.JOB_INFO:
            return [Event(now, "started", getattr(record, "jobid", -1))]
        case LogEvent.JOB_FINISHED:
            return [Event(now, "finished", getattr(record, "job_id", -1))]
        case LogEvent.JOB_ERROR:
            return [Event(now, "failed", getattr(record, "jobid", -1))]
    return []


def name_of(job: Any) -> str:
    """What a job of Snakemake's is called: its rule, and what its wildcards spell."""
    return f"{job.rule.name} {'/'.join(map(str, job.wildcards))}".strip()


def kind_of(rule: str, wildcards: Mapping[str, str]) -> tuple[str, ...]:
    """What a job is, from the general to the particular: see `Planned`.

    What runs beside training differs more by what it is than by the experiment. Numbers of a shard
    (`width=50`) make no kind.
    """
    named = [value for key, value in wildcards.items() if key != "flow"]
    words = [word for word in "/".join(named).split("/") if word and "=" not in word]
    return (rule, *([wildcards["flow"]] if "flow" in wildcards else []), *words)


Foretold = Callable[[str, Any, int], tuple[float | None, float]]
"""From a rule, wildcards and threads, the seconds of a job, and those of them to begin."""


def planned(workflow: Any, foretold: Foretold) -> dict[int, Planned]:
    """The jobs that Snakemake will run, by their numbers.

    Args:
        workflow: Snakemake's, with its graph of jobs.
        foretold: tells of each.
    """
    dag, found = workflow.dag, {}
    for job in dag.needrun_jobs():
        at_once = 0.0, 0.0
        times = at_once if job.is_norun else foretold(job.rule.name, job.wildcards, job.threads)
        found[dag.jobid(job)] = Planned(
            name_of(job),
            kind_of(job.rule.name, dict(job.wildcards.items())),
            *times,
            job.threads if workflow.local_exec else 1,
            frozenset(dag.jobid(needed) for needed in dag.dependencies[job]),
            str(job.log[0]) if job.log else "",
        )
    return found


def watch(workflow: Any, logger: logging.Logger, foretold: Foretold) -> Watch | None:
    """Begin to say how far a run is, at its start.

    Returns:
        What hears; None where the user wants to see what Snakemake prints (`--verbose`,
        `--printshellcmds`), nothing at all (`--quiet`), or has another logger for the console.
    """
    asked = workflow.output_settings
    screens = [
        handler
        for handler in logger.handlers
        if handler.name == "DefaultStreamHandler" and isinstance(handler, logging.StreamHandler)
    ]
    if asked.verbose or asked.printshellcmds or asked.quiet or not screens:
        return None
    jobs = planned(workflow, foretold)
    slots = workflow.cores if workflow.local_exec else workflow.nodes
    run = Run(jobs, slots, workflow.execution_settings.keep_going)
    beats = {number: beat_path(job.log) for number, job in jobs.items() if job.log}
    heard = Watch(logger, run, beats)
    heard.begin(screens[0])
    return heard


def verdict_counts(path: str | Path) -> dict[str, int]:
    """How many judgements have which verdict, as the page counts them; empty without a table.

    A judgement is a claim in an experiment: the worst of its measurements.

    Args:
        path: of `claims.csv`.
    """
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            rows = list(csv.DictReader(handle))
    except OSError:
        return {}
    found: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        if (row.get("control") or "").lower() != "true":  # older tables have no controls
            key = tuple(row[name] for name in ("paper", "claim", "experiment", "figure"))
            found.setdefault(key, []).append(row["verdict"])
    return dict(Counter(map(worst, found.values())))


_KILLED = (
    "it left no word of an error: it was killed (signal 9, often for want of memory), or what "
    "Snakemake says above befell it"
)
_CAUSE = 120
_AN_ERROR = re.compile(r"^(?:Error: |(?=[\w.]*(?:Error|Exception)\b))(.*)", re.M)


def said(log: str | Path) -> str:
    """The last error that a job's log tells of, cut; empty without one."""
    try:
        text = Path(log).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = _AN_ERROR.findall(text)
    return cut(found[-1].strip(), _CAUSE) if found else ""


def failure(name: str, log: str) -> Failure:
    """What the end says of a failed job: without a word of an error in its log it was killed.

    Args:
        name: the job's.
        log: path of its log; empty if it has none.
    """
    if not log:
        return Failure(name, "")
    return Failure(name, log if Path(log).is_file() else "", said(log) or _KILLED)


def outcome(workflow: Any, root: str, failed_figures: Sequence[Failure] = ()) -> Outcome:
    """How a run ended, or one that had nothing to do.

    Args:
        workflow: Snakemake's, with its graph of jobs.
        root: the results folder, or its address.
        failed_figures: that the page shows as such.
    """
    dag, scheduler = workflow.dag, workflow.scheduler
    wanted = list(dag.needrun_jobs(exclude_finished=False))
    open_ = {job for job in wanted if not dag.finished(job)}
    made = {job.rule.name for job in dag.jobs if job not in open_}
    failed = [one for job in scheduler.failed for one in (job if job.is_group() else [job])]
    failures = [failure(name_of(job), str(job.log[0]) if job.log else "") for job in failed]
    if told_to_end(workflow):
        failures = [each for each in failures if each.reason != _KILLED]
    page, claims = f"{root}/{PAGE}", f"{root}/{CLAIMS}"
    return Outcome(
        len(wanted) - len(open_),
        len(wanted),
        [*failures, *failed_figures],
        verdict_counts(claims) if "collect_claims" in made else {},
        claims,
        page if "report" in made else "",
    )


def tell(logger: logging.Logger, ended: Outcome) -> None:
    """Print how a run ended, in the place of the line, and in Snakemake's log."""
    for handler in logger.handlers:
        if isinstance(handler, Watch):
            handler.end()
    for line in ending(ended):
        logger.info(cut(line, WIDEST))


class AtRest(logging.Handler):
    """Does something where Snakemake has found nothing to do, which starts no hook."""

    def __init__(self, then: Callable[[], None]):
        super().__init__()
        self._then = then

    def emit(self, record: logging.LogRecord) -> None:
        """Handle one message of Snakemake."""
        if record.msg == NOTHING_TO_BE_DONE_MSG:
            self._then()
