"""What a run has done and how long the rest takes: events in, a line out. No clock and no files."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from sharpflow.storage.heartbeat import Beat

_FIRST = ("supported", "not supported")
_KEPT = 0.95
"""Weight of a finished job against the next one of its kind: a machine's load changes."""
_OVERDUE = 0.1
"""Share of its time so far that a job is given which has taken longer than foretold."""
_LIKENESS = 0.5
"""Share, in logarithms, of what the beginning of jobs is off by that is the machine's speed."""
_LEAST, _MOST = 0.1, 10.0
"""Of the pace of a kind over that of the more general one, where hardly any of its time is work."""


@dataclass(frozen=True)
class Planned:
    """A job that a run is to do.

    Attributes:
        name: what it is called on the line.
        kind: what it is, from the general to the particular: its stage, its experiment, its case.
            Jobs of one kind are foretold too short, or too long, by nearly one factor.
        seconds: how long it is foretold to take; None where nobody can tell.
        start: seconds of these that it takes to begin, which are alike for all jobs.
        slots: of those that the run has, how many it takes.
        needs: the jobs that must be done before it.
        log: path of its log; empty if it has none.
    """

    name: str
    kind: tuple[str, ...]
    seconds: float | None = None
    start: float = 0.0
    slots: int = 1
    needs: frozenset[int] = frozenset()
    log: str = ""


class Event(NamedTuple):
    """Something that happened to a job, at a time in seconds of any clock."""

    at: float
    kind: Literal["started", "finished", "failed"]
    job: int


class Left(NamedTuple):
    """Seconds that the rest takes, and whether they are those of every job."""

    seconds: float
    complete: bool


@dataclass
class _Ended:
    """Finished jobs of a kind, the last ones above all.

    Attributes:
        jobs: their number.
        took: seconds that they took.
        start, work: seconds that had been foretold of them, to begin and for the rest.
    """

    jobs: float = 0.0
    took: float = 0.0
    start: float = 0.0
    work: float = 0.0

    def add(self, took: float, start: float, work: float) -> None:
        """One more, which counts more than those before it."""
        self.jobs = _KEPT * self.jobs + 1.0
        self.took = _KEPT * self.took + took
        self.start = _KEPT * self.start + start
        self.work = _KEPT * self.work + work


class Run:
    """A run as its events tell it.

    A job takes s · (what it takes to begin) + p · (the rest of what is foretold). s is of all jobs,
    from those that do little else than begin. p is of its kind: what the finished jobs of the kind
    took, beside one job more that goes at the pace of the next more general kind. The most general
    pace, of all jobs, starts from √s: a machine on which jobs begin slowly is slow, or has only its
    libraries far away.

    Args:
        planned: the jobs to do, by number.
        slots: how many may be taken at a time.
        keep_going: whether the others go on when a job has failed.
    """

    def __init__(self, planned: Mapping[int, Planned], slots: int, keep_going: bool = False):
        self.planned = dict(planned)
        self.slots = max(slots, 1)
        self.keep_going = keep_going
        self.started: dict[int, float] = {}
        self.taken: dict[int, float] = {}
        self.failed: dict[int, None] = {}
        self._followers: dict[int, list[int]] = defaultdict(list)
        for number, job in self.planned.items():
            for needed in job.needs & self.planned.keys():
                self._followers[needed].append(number)
        self._backwards = _last_first(self._followers, self.planned)
        self._light = _Ended()
        self._ended: dict[tuple[str, ...], _Ended] = defaultdict(_Ended)
        self._typical = _typical(self.planned.values())
        self._paces: dict[tuple[str, ...], float] = {}

    def take(self, event: Event) -> None:
        """Take note of an event; one of a job that was not planned is none of ours."""
        job = self.planned.get(event.job)
        if job is None:
            return
        if event.kind == "started":
            self.started[event.job] = event.at
            self.failed.pop(event.job, None)  # it is tried again
            return
        begun = self.started.pop(event.job, event.at)
        if event.kind == "failed":
            self.failed[event.job] = None
            return
        self._paces.clear()
        took = self.taken[event.job] = event.at - begun
        work = 0.0 if job.seconds is None else job.seconds - job.start
        light = job.seconds is not None and job.start > work
        if light:
            self._light.add(took, job.start, work)
        # a job that nobody foretold, or that did little else than begin, says nothing of the others
        apart = light or job.seconds is None
        for kind in _kinds(job)[: -1 if apart else None]:
            self._ended[kind].add(took, job.start, work)

    def expected(self, number: int) -> float | None:
        """Seconds that a job takes: as foretold, corrected by the finished ones of its kind."""
        job = self.planned[number]
        if job.seconds is not None:
            return job.start * self._begin() + (job.seconds - job.start) * self._pace(job.kind)
        for kind in _kinds(job)[:-1]:
            if (ended := self._ended.get(kind)) is not None:
                return ended.took / ended.jobs
        if (typical := self._typical.get(job.kind[:1])) is None:
            return None
        return typical.start * self._begin() + typical.work * self._pace(job.kind[:1])

    def _begin(self) -> float:
        """Seconds that it takes to begin for one that was foretold; before there are any, one."""
        typical = self._typical.get(())
        own = typical.start if typical else 0.0
        foretold = self._light.start + self._light.work + own
        return (self._light.took + own) / foretold if foretold else 1.0

    def _pace(self, kind: tuple[str, ...]) -> float:
        """Seconds of work for one that was foretold."""
        if kind not in self._paces:
            begin = self._begin()
            general = self._pace(kind[:-1]) if kind else begin**_LIKENESS
            ended, typical = self._ended.get(kind, _Ended()), self._typical.get(kind, _Ended())
            found = general
            if foretold := ended.work + typical.work:
                took = ended.took - begin * ended.start + typical.work * general
                found = min(max(took / foretold, _LEAST * general), _MOST * general)
            self._paces[kind] = found
        return self._paces[kind]

    def rest(self, number: int, now: float, beat: Beat | None = None) -> float | None:
        """Seconds that a job that is not done still takes, by its own word where it gave one."""
        if (begun := self.started.get(number)) is None:
            return self.expected(number)
        if beat is not None and beat.rate > 0:
            return max(beat.of - beat.step, 0) / beat.rate
        expected, so_far = self.expected(number), now - begun
        return None if expected is None else max(expected - so_far, _OVERDUE * so_far)

    def left(self, now: float, beats: Mapping[int, Beat] | None = None) -> Left:
        """How long the rest takes: all work over all slots, or the longest chain if that is longer.

        Args:
            now: on the clock of the events.
            beats: what running jobs say, by number.
        """
        beats = beats or {}
        work, longest, complete = 0.0, 0.0, True
        chains: dict[int, float] = {}
        ahead = self._ahead()
        for number in self._backwards:
            if number not in ahead:
                continue
            seconds = self.rest(number, now, beats.get(number))
            complete &= seconds is not None
            after = max((chains.get(n, 0.0) for n in self._followers.get(number, ())), default=0.0)
            chains[number] = (seconds or 0.0) + after
            longest = max(longest, chains[number])
            work += (seconds or 0.0) * min(self.planned[number].slots, self.slots)
        return Left(max(work / self.slots, longest), complete)

    def _ahead(self) -> Collection[int]:
        """The jobs that are running or will be done; what follows from a failed one will not."""
        if self.failed and not self.keep_going:
            return self.started
        lost = set(self.failed)
        for number in reversed(self._backwards):
            if self.planned[number].needs & lost:
                lost.add(number)
        return self.planned.keys() - self.taken.keys() - lost

    def line(self, now: float, beats: Mapping[int, Beat] | None = None) -> str:
        """All this in one line.

        Args:
            now: on the clock of the events.
            beats: what running jobs say, by number.
        """
        beats = beats or {}
        done, running, failed = len(self.taken), len(self.started), len(self.failed)
        waiting = len(self.planned) - done - running - failed
        lost = f", {failed:,} failed" if failed else ""
        counts = f"{done:,} of {len(self.planned):,} jobs done{lost}, {running:,} running, "
        parts = [f"{counts}{waiting:,} to go"]
        seconds, complete = self.left(now, beats)
        if seconds or complete:
            parts.append(f"{'about' if complete else 'at least'} {span(seconds)} left")
        if self.started:
            parts.append(f"slowest {self._slowest(now, beats)}")
        return "; ".join(parts)

    def _slowest(self, now: float, beats: Mapping[int, Beat]) -> str:
        def rest(number: int) -> tuple[float, float]:
            seconds = self.rest(number, now, beats.get(number))
            return (float("inf") if seconds is None else seconds, now - self.started[number])

        number = max(self.started, key=rest)
        name = self.planned[number].name
        if (beat := beats.get(number)) is None:
            return f"for {now - self.started[number]:,.0f} s: {name}"
        rate = f"{beat.rate:,.0f}" if beat.rate >= 10 else f"{beat.rate:.2g}"
        return f"at step {beat.step:,} of {beat.of:,}, {rate} steps/s: {name}"


def _kinds(job: Planned) -> list[tuple[str, ...]]:
    """The kinds of a job, its own first, and the one of all jobs last."""
    return [job.kind[:length] for length in range(len(job.kind), -1, -1)]


def _typical(planned: Iterable[Planned]) -> dict[tuple[str, ...], _Ended]:
    """One job of each kind, as those are foretold on average of which anybody can tell."""
    found: dict[tuple[str, ...], _Ended] = defaultdict(_Ended)
    for job in planned:
        if job.seconds:
            for kind in _kinds(job):
                one = found[kind]
                one.jobs += 1.0
                one.start += job.start
                one.work += job.seconds - job.start
    return {
        kind: _Ended(1.0, 0.0, one.start / one.jobs, one.work / one.jobs)
        for kind, one in found.items()
    }


def _last_first(followers: Mapping[int, Sequence[int]], numbers: Iterable[int]) -> list[int]:
    """Numbers in an order in which each comes after all that follow from it."""
    order: dict[int, None] = {}
    for first in numbers:
        stack = [first]
        while stack:
            number = stack[-1]
            open_ = [n for n in followers.get(number, ()) if n not in order]
            if open_ and number not in order:
                stack += open_
            else:
                order.setdefault(stack.pop())
    return list(order)


def span(seconds: float) -> str:
    """A time as one says it: to 5 s below 90 s, to a minute below 100, else hours and minutes."""
    if seconds < 90:
        return f"{max(5 * round(seconds / 5), 5)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


class Failure(NamedTuple):
    """What failed, as the end of a run names it: a job or a figure, why if known, and its log."""

    name: str
    log: str
    reason: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        done, total: jobs.
        failures: what failed.
        verdicts: how many claims have which verdict; empty if none were judged.
        claims: path of their table.
        page: path of the page; empty if there is none.
    """

    done: int = 0
    total: int = 0
    failures: Sequence[Failure] = ()
    verdicts: Mapping[str, int] = field(default_factory=dict)
    claims: str = ""
    page: str = ""


def ending(outcome: Outcome) -> list[str]:
    """The lines that a run ends with."""
    lines = []
    for failure in outcome.failures:
        why = f": {failure.reason.rstrip('.')}" if failure.reason else ""
        where = f". Log: {failure.log}" if failure.log else ""
        lines.append(f"Failed: {failure.name}{why}{where}")
    if outcome.total:
        undone = outcome.done < outcome.total
        mended = "once that is mended, " if outcome.failures else ""
        on = f"; {mended}the same command goes on from here" if undone else ""
        lines.append(f"{outcome.done:,} of {outcome.total:,} jobs done{on}.")
    if outcome.verdicts:
        first = [verdict for verdict in _FIRST if verdict in outcome.verdicts]
        kinds = dict.fromkeys((*first, *sorted(outcome.verdicts)))
        counted = ", ".join(f"{outcome.verdicts[kind]} {kind}" for kind in kinds)
        lines.append(f"Claims, each in an experiment: {counted} ({outcome.claims})")
    if outcome.page:
        lines.append(f"Page: {outcome.page}")
    return lines
