"""What of Snakemake's messages reaches the console, and the line that stands below them."""

import io
import logging
import re
from importlib.resources import files

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from sharpflow import console
from sharpflow.progress import Outcome, Planned, Run


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def logger():
    logger = logging.Logger("like Snakemake's", logging.INFO)
    yield logger
    for handler in list(logger.handlers):
        handler.close()


def watch(logger, stream, clock, beats=None):
    """A watch over two jobs, whose console is a stream."""
    screen = logging.StreamHandler(stream)
    logger.addHandler(screen)
    run = Run({1: Planned("train a", "train", 10.0), 2: Planned("train b", "train", 10.0)}, 1)
    heard = console.Watch(logger, run, beats or {}, clock)
    heard.begin(screen)
    return heard


def seen(text, width=200):
    """What a terminal shows of a text in which lines are written over."""
    rows = [""]
    at = 0
    for piece in re.split(r"([\r\n])", text):
        if piece == "\n":
            rows.append("")
        at = 0 if piece in "\r\n" and piece else at
        if piece not in ("\r", "\n"):
            rows[-1] = rows[-1][:at] + piece + rows[-1][at + len(piece) :]
            at += len(piece)
    return [row.rstrip() for row in rows]


def test_jobs_are_heard_and_not_printed(logger):
    printed, clock = io.StringIO(), Clock()
    heard = watch(logger, printed, clock)
    logger.info("rule train: …", extra={"event": LogEvent.JOB_INFO, "jobid": 1})
    logger.info("Select jobs to execute...")
    clock.now = 4.0
    assert heard.line().endswith("1 to go; about 15 s left; slowest for 4 s: train a")
    logger.info("Finished jobid: 1", extra={"event": LogEvent.JOB_FINISHED, "job_id": 1})
    logger.info("rule train: …", extra={"event": LogEvent.JOB_INFO, "jobid": 2})
    logger.info("1 of 2 steps (50%) done", extra={"event": LogEvent.PROGRESS})
    logger.error("Error in rule train", extra={"event": LogEvent.JOB_ERROR, "jobid": 2})
    logger.info("Terminating processes on user request, this might take some time.")
    assert printed.getvalue().splitlines() == [
        "Error in rule train",
        "Terminating processes on user request, this might take some time.",
    ]
    assert (heard.run.taken, list(heard.run.failed)) == ({1: 4.0}, [2])


def test_a_message_stands_whole_above_the_line_of_a_terminal(logger):
    stream, clock = Terminal(), Clock()
    heard = watch(logger, stream, clock)
    heard.show()
    assert seen(stream.getvalue())[-1].endswith(heard.line())
    logger.warning("What a check has to say.")
    heard.show()
    rows = seen(stream.getvalue())
    assert "What a check has to say." in rows
    assert [row.endswith(heard.line()) for row in rows[-2:]] == [False, True]
    console.tell(logger, Outcome(page="results/report/index.html"))
    logger.info("Elapsed time: 1 s")
    assert seen(stream.getvalue())[-3:] == [
        "Page: results/report/index.html",
        "Elapsed time: 1 s",
        "",
    ]


def test_a_log_has_a_line_a_minute(logger):
    printed, log, clock = Terminal(), io.StringIO(), Clock()
    heard = watch(logger, printed, clock)
    logger.addHandler(logging.StreamHandler(log))
    for clock.now in range(0, 180, 5):
        heard.show()
    lines = [line for line in log.getvalue().splitlines() if line.startswith("0 of 2 jobs done")]
    assert len(lines) == 2
    assert not [row for row in seen(printed.getvalue()) if row.startswith("0 of 2")], "once"
    elsewhere = io.StringIO()
    heard = watch(logging.Logger("another"), elsewhere, clock)
    for clock.now in range(175, 355, 5):
        heard.show()
    assert elsewhere.getvalue().count("0 of 2 jobs done") == 2
    heard.close()


def test_no_line_is_wide(logger):
    printed, clock = io.StringIO(), Clock()
    watch(logger, printed, clock)
    logger.error("short\n%s\nshort", "word " * 5000)
    rows = printed.getvalue().splitlines()
    assert [len(row) <= 300 for row in rows] == [True] * 3
    assert rows[1].endswith("word …")
    logger.error("Error: %s", "what to do about it, " * 20)
    assert printed.getvalue().splitlines()[-1].endswith("about it, ")


def test_the_last_word_of_a_killed_job_is_forgotten(logger, tmp_path):
    clock = Clock()
    heard = watch(logger, io.StringIO(), clock, {1: tmp_path / "train.progress"})
    (tmp_path / "train.progress").write_text("9 10 1.0\n")
    logger.info("rule", extra={"event": LogEvent.JOB_INFO, "jobid": 1})
    assert "step" not in heard.line()
    (tmp_path / "train.progress").write_text("4 10 2.0\n")
    assert heard.line().endswith("about 15 s left; slowest at step 4 of 10, 2 steps/s: train a")
    heard.close()
    assert not (tmp_path / "train.progress").exists(), "of a job that was cancelled"


def test_claims_are_counted_by_the_worst_of_their_measurements(tmp_path):
    table = tmp_path / "claims.csv"
    table.write_text(
        "paper,claim,experiment,figure,case,control,verdict\n"
        "p,one,e,f,a,False,straddles\n"
        "p,one,e,f,b,False,not supported\n"
        "p,one,e,f,c,False,supported\n"
        "p,two,e,f,all,False,undefined\n"
        "p,one,other,f,all,False,supported\n"
        "p,one,other,f,slow,True,not supported\n"
    )
    assert console.verdict_counts(table) == {"not supported": 1, "supported": 1, "undefined": 1}
    assert console.verdict_counts(tmp_path / "none.csv") == {}


@pytest.mark.parametrize(
    ("text", "named", "killed"),
    [(None, False, True), ("forked from process 3\n", True, True), ("Error: no.\n", True, False)],
)
def test_a_job_without_a_word_of_an_error_was_killed(tmp_path, text, named, killed):
    """A log that is not there is not named; what a job said of its mistake stands there."""
    log = tmp_path / "train.log"
    if text is not None:
        log.write_text(text)
    found = console.failure("train a", str(log))
    assert found.log == (str(log) if named else "")
    assert ("was killed" in found.reason) == killed
    assert console.failure("all", "") == ("all", "", "")


def test_snakemakes_advice_against_its_own_records_is_left_out(logger):
    """It is still what the installed Snakemake says, or this filter is of no use."""
    installed = (files("snakemake") / "workflow.py").read_text(encoding="utf-8")
    stream = io.StringIO()
    logger.addHandler(logging.StreamHandler(stream))
    logger.addFilter(console.shorten)
    advice = re.findall(r'"(Some jobs were triggered by provenance information)', installed)
    assert len(advice) == 1
    logger.info(f"{advice[0]}, see below.\nuse '--rerun-triggers mtime' or '--cleanup-metadata'")
    assert "--" not in stream.getvalue()
    assert stream.getvalue().startswith(advice[0])


def test_jobs_that_an_interruption_ends_have_not_failed(logger):
    stream = io.StringIO()
    logger.addHandler(logging.StreamHandler(stream))
    logger.addFilter(console.Interrupted())
    died = "Command 'python x.py' died with <Signals.SIGINT: 2>."
    failed = {"event": LogEvent.JOB_ERROR}
    logger.error("Error in rule train, jobid: 1", extra=failed)
    logger.error(died)
    before = stream.getvalue()
    assert before.count("\n") == 2
    installed = files("snakemake") / "scheduling" / "job_scheduler.py"
    words = re.findall(r'"(Terminating processes .*?)"', installed.read_text(encoding="utf-8"))
    assert len(words) == 1
    logger.info(words[0])
    logger.error("Error in rule train, jobid: 1", extra=failed)
    logger.error(died)
    logger.error("At least one job did not complete successfully.")
    logger.error("No space left on device")
    assert stream.getvalue() == f"{before}{words[0]}\nNo space left on device\n"
