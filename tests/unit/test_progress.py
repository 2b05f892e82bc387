"""What a run's line says, from events and a clock of the test's own."""

import pytest

from sharpflow.progress import Event, Failure, Left, Outcome, Planned, Run, ending, span
from sharpflow.storage.heartbeat import Beat


def chain(*seconds, stage="train", slots=1):
    """Jobs one after another, numbered from 1."""
    return {
        number: Planned(f"{stage} {number}", stage, length, slots, frozenset({number - 1} - {0}))
        for number, length in enumerate(seconds, start=1)
    }


def side_by_side(*seconds, stage="train"):
    """Jobs that need none of each other."""
    return {n: Planned(f"{stage} {n}", stage, s) for n, s in enumerate(seconds, start=1)}


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
    assert run.left(180.0).seconds == pytest.approx(5 * 30.0)


def test_a_stage_has_a_pace_of_its_own_and_the_common_one_until_then():
    plan = side_by_side(*[10.0] * 4) | {9: Planned("draw", "plot_figure", 10.0)}
    run = Run(plan, slots=1)
    assert run.expected(9) == 10.0
    for number in (1, 2, 3):
        done(run, number, 0.0, 20.0)
    assert run.expected(4) == pytest.approx(20.0)
    assert run.expected(9) == pytest.approx(20.0)
    done(run, 9, 0.0, 5.0)
    took, foretold = 20 * (1 + 0.95 + 0.95**2), 10 * (1 + 0.95 + 0.95**2)
    common = (took + 5) / (foretold + 10)  # which counts as much as one job of the stage
    assert run.expected(4) == pytest.approx(10 * (took + 10 * common) / (foretold + 10))


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
    plan = {n: Planned(f"train {n}", "train", None) for n in (1, 2, 3)}
    run = Run(plan | {4: Planned("draw", "plot_figure", 30.0)}, slots=1)
    assert run.left(0.0) == Left(30.0, False)
    assert "at least 30 s left" in run.line(0.0)
    done(run, 1, 0.0, 100.0)
    assert run.left(100.0) == Left(230.0, True)
    known = Run({1: Planned("a", "train", None), 2: Planned("b", "train", 40.0)}, slots=1)
    assert known.left(0.0) == Left(80.0, True), "as its likes"


def test_what_a_failed_job_takes_with_it_is_not_waited_for():
    plan = chain(10.0, 20.0, 30.0) | {9: Planned("other", "train", 50.0)}
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
        "3 of 9 jobs done; the same command goes on from here.",
    ]
    assert ending(Outcome()) == []
