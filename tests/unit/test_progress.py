"""What a run's line says, from events and a clock of the test's own."""

import csv
import heapq
from pathlib import Path

import pytest

from sharpflow.progress import Event, Failure, Left, Outcome, Planned, Run, ending, span
from sharpflow.storage.heartbeat import Beat


def chain(*seconds, stage="train", slots=1):
    """Jobs one after another, numbered from 1."""
    return {
        number: Planned(
            f"{stage} {number}", (stage,), length, 0.0, slots, frozenset({number - 1} - {0})
        )
        for number, length in enumerate(seconds, start=1)
    }


def side_by_side(*seconds, stage="train"):
    """Jobs that need none of each other."""
    return {n: Planned(f"{stage} {n}", (stage,), s) for n, s in enumerate(seconds, start=1)}


def done(run, number, begun, ended):
    run.take(Event(begun, "started", number))
    run.take(Event(ended, "finished", number))


def test_the_line_counts_and_names_the_slowest():
    run = Run(side_by_side(10.0, 20.0, 60.0, 30.0), slots=2)
    done(run, 1, 0.0, 10.0)
    run.take(Event(10.0, "started", 2))
    run.take(Event(10.0, "started", 3))
    assert run.line(20.0) == (
        "1 of 4 jobs done, 2 running, 1 to go; about 50 s left; slowest for 10 s: train 3"
    )


def test_a_job_s_own_progress_is_shown_and_believed():
    run = Run(side_by_side(10.0, 20.0), slots=2)
    run.take(Event(0.0, "started", 1))
    run.take(Event(0.0, "started", 2))
    line = run.line(5.0, {1: Beat(1000, 4000, 12.5)})
    assert line.endswith("about 4 min left; slowest at step 1,000 of 4,000, 12 steps/s: train 1")
    assert run.left(5.0, {1: Beat(1000, 4000, 12.5)}).seconds == 3000 / 12.5
    assert "0.25 steps/s" in run.line(5.0, {1: Beat(1, 400, 0.25)})
    assert run.left(5.0, {1: Beat(0, 400, 0.0)}) == run.left(5.0), "no rate says nothing"


def test_nothing_done_yet_is_as_foretold():
    assert Run(side_by_side(10.0, 20.0, 30.0), slots=2).left(0.0) == Left(30.0, True)
    assert Run(side_by_side(40.0, 20.0), slots=2).left(0.0) == Left(40.0, True), "the longest job"
    assert Run(chain(10.0, 20.0, 30.0), slots=8).left(0.0) == Left(60.0, True), "one by one"
    assert Run(chain(10.0, 20.0, slots=4), slots=2).left(0.0) == Left(30.0, True)
    assert Run({}, slots=0).left(0.0) == Left(0.0, True)


def test_what_was_recorded_corrects_what_was_foretold():
    run = Run(side_by_side(*[10.0] * 10), slots=1)
    for number in range(1, 6):
        done(run, number, 30.0 * number, 30.0 * number + 30.0)
    weight = sum(0.95**n for n in range(5))
    of_all = (3 * weight + 1) / (weight + 1)  # one job more at the pace that is taken for granted
    own = (3 * weight + of_all) / (weight + 1)
    assert run.left(180.0).seconds == pytest.approx(5 * 10.0 * own)
    assert 2.8 < own < 3


def test_a_stage_has_a_pace_of_its_own_and_the_common_one_until_then():
    plan = side_by_side(*[10.0] * 4) | {9: Planned("draw", ("plot_figure",), 10.0)}
    run = Run(plan, slots=1)
    assert run.expected(9) == 10.0
    for number in (1, 2, 3):
        done(run, number, 0.0, 20.0)
    weight = 1 + 0.95 + 0.95**2
    common = (2 * weight + 1) / (weight + 1)  # one job more at the pace that is taken for granted
    assert run.expected(4) == pytest.approx(10 * (2 * weight + common) / (weight + 1))
    assert run.expected(9) == pytest.approx(10 * common)
    done(run, 9, 0.0, 5.0)
    later = 0.95 * weight
    common = (2 * later + 0.5 + 1) / (later + 1 + 1)
    assert run.expected(4) == pytest.approx(10 * (2 * weight + common) / (weight + 1))
    assert run.expected(9) == pytest.approx(10 * (0.5 + common) / 2)


def test_what_it_takes_to_begin_is_apart_from_the_work():
    """Jobs that only begin took ten times as long as foretold; that says little of a long one."""
    light = {n: Planned(f"data {n}", ("generate_data",), 0.3, 0.25) for n in range(1, 31)}
    run = Run(light | {99: Planned("train", ("train",), 30.25, 0.25)}, slots=1)
    for number in light:
        done(run, number, 0.0, 3.0)
    expected = run.expected(99) or 0.0
    assert 30.0 < expected < 30.0 * 10**0.5 + 2.5 + 1e-9, "the square root, and the beginning"
    alike = Run(run.planned, slots=1)
    for number in light:
        done(alike, number, 0.0, 0.3)
    assert alike.expected(99) == pytest.approx(30.25)


def test_a_kind_is_corrected_by_its_likes_and_no_other():
    plan = {
        n: Planned(f"{n}", ("integrate_flow", flow, "a", "tanh"), 60.0)
        for n, flow in enumerate(["central"] * 10 + ["frozen"] * 10)
    }
    run = Run(plan, slots=1)
    for number in (*range(5), *range(10, 15)):
        done(run, number, 0.0, 60.0 if number < 10 else 7.0)
    assert 50.0 < (run.expected(9) or 0.0) <= 60.0
    assert 7.0 < (run.expected(19) or 0.0) < 20.0


RECORDED = Path(__file__).parent / "recorded_run.csv"


def told(speed, foretold="foretold", start="start", slots=2):
    """What was said over what was left, at each share of a recorded run, on a faster machine.

    Jobs take the CPU time that was recorded, in the order in which they began, on free slots.
    """
    with open(RECORDED, encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    plan, heard, free = {}, [], [0.0] * slots
    for number, row in enumerate(rows):
        seconds = float(row[foretold]) if row[foretold] else None
        kind = tuple(row["kind"].split("/"))
        plan[number] = Planned(row["kind"], kind, seconds, float(row[start] or 0))
        begun = heapq.heappop(free)
        ended = begun + float(row["took"]) / speed
        heapq.heappush(free, ended)
        heard += [Event(begun, "started", number), Event(ended, "finished", number)]
    heard.sort(key=lambda event: (event.at, event.kind == "started"))
    run, end, found = Run(plan, slots), max(free), {}
    for share in range(5, 95, 5):
        now = share / 100 * end
        while heard and heard[0].at <= now:
            run.take(heard.pop(0))
        found[share] = run.left(now).seconds / (end - now)
    return found


@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
def test_the_time_left_of_a_recorded_run_is_near_on_a_machine_of_any_speed(speed):
    """A run of config/neighbours.yaml whose jobs loaded their libraries, which nobody foretold."""
    found = told(speed)
    assert all(3 / 4 < ratio < 5 / 4 for share, ratio in found.items() if share >= 10), found


@pytest.mark.parametrize("speed", [0.5, 1.0, 2.0])
def test_a_model_that_has_not_seen_a_run_is_corrected_by_it(speed):
    """Kinds of flows that it foretold at several times what they take."""
    found = told(speed, "unseen", "unseen_start")
    assert all(2 / 3 < found[share] < 4 / 3 for share in range(10, 65, 5)), found


def test_a_machine_is_judged_by_what_it_does_now():
    run = Run(side_by_side(*[10.0] * 101), slots=1)
    for number in range(1, 51):
        done(run, number, 0.0, 10.0)
    for number in range(51, 101):
        done(run, number, 0.0, 40.0)
    assert 35 < (run.expected(101) or 0) < 40


def test_a_job_that_takes_longer_than_foretold_is_never_over_before_its_end():
    run = Run(side_by_side(10.0), slots=1)
    run.take(Event(0.0, "started", 1))
    assert run.left(4.0).seconds == 6.0
    assert run.left(50.0).seconds == 5.0


def test_jobs_of_unknown_length_are_told_until_one_has_ended():
    plan = {n: Planned(f"train {n}", ("train",), None) for n in (1, 2, 3)}
    run = Run(plan | {4: Planned("draw", ("plot_figure",), 30.0)}, slots=1)
    assert run.left(0.0) == Left(30.0, False)
    assert "at least 30 s left" in run.line(0.0)
    done(run, 1, 0.0, 100.0)
    assert run.left(100.0) == Left(230.0, True)
    known = Run({1: Planned("a", ("train",), None), 2: Planned("b", ("train",), 40.0)}, slots=1)
    assert known.left(0.0) == Left(80.0, True), "as its likes"


def test_what_a_failed_job_takes_with_it_is_not_waited_for():
    plan = chain(10.0, 20.0, 30.0) | {9: Planned("other", ("train",), 50.0)}
    run = Run(plan, slots=1, keep_going=True)
    run.take(Event(0.0, "started", 1))
    run.take(Event(5.0, "failed", 1))
    assert run.left(5.0).seconds == 50.0
    assert run.line(5.0).startswith("0 of 4 jobs done, 1 failed, 0 running, 3 to go; about 50 s")
    stopping = Run(plan, slots=2)
    stopping.take(Event(0.0, "started", 9))
    stopping.take(Event(0.0, "started", 1))
    stopping.take(Event(5.0, "failed", 1))
    assert stopping.left(5.0).seconds == 45.0, "only what runs is waited for"
    run.take(Event(6.0, "started", 1))
    assert not run.failed, "it is tried again"


def test_events_of_other_jobs_are_none_of_ours():
    run = Run(side_by_side(10.0), slots=1)
    run.take(Event(0.0, "finished", 7))
    run.take(Event(0.0, "finished", 1))
    assert run.taken == {1: 0.0}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "5 s"),
        (42, "40 s"),
        (89, "90 s"),
        (90, "2 min"),
        (5400, "90 min"),
        (6060, "1 h 41 min"),
    ],
)
def test_a_span_is_said_as_coarsely_as_it_is_known(seconds, said):
    assert span(seconds) == said


def test_the_end_says_what_came_out_and_where_to_look():
    whole = Outcome(9, 9, [], {"straddles": 2, "supported": 41}, "r/claims.csv", "r/index.html")
    assert ending(whole) == [
        "9 of 9 jobs done.",
        "Claims, each in an experiment: 41 supported, 2 straddles (r/claims.csv)",
        "Page: r/index.html",
    ]
    failed = Outcome(3, 9, [Failure("train a/b", "logs/a.log"), Failure("figure x", "l", "No y.")])
    assert ending(failed) == [
        "Failed: train a/b. Log: logs/a.log",
        "Failed: figure x: No y. Log: l",
        "3 of 9 jobs done; once that is mended, the same command goes on from here.",
    ]
    assert ending(Outcome()) == []
