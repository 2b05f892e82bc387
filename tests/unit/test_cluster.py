"""What is read from Slurm's answers, and what is said of a job that failed."""

import asyncio
import re
from pathlib import Path

import pytest
import snakemake_executor_plugin_slurm as plugin
import yaml

from sharpflow.cluster import (
    GROUPS,
    Facts,
    check_status_queries,
    explain,
    facts_of,
    read_states_of_sacct,
)
from sharpflow.errors import ClusterError

ROOT = Path(__file__).parents[2]
JOB = {
    "State": "FAILED",
    "ExitCode": "1:0",
    "NodeList": "n2",
    "TimeLimit": "01:00:00",
    "Memory": "4000M",
    "WorkDir": "/home/me/project",
    "StdOut": "/home/me/project/7.log",
}


@pytest.mark.parametrize(
    ("storage", "age", "expected"),
    [
        ("accounting_storage/none", "3600 sec", Facts(False, 3600)),
        ("(null)", "2 sec", Facts(False, 2)),
        ("accounting_storage/slurmdbd", "300 sec", Facts(True, 300)),
    ],
)
def test_the_database_and_the_memory_of_the_controller_are_found(storage, age, expected):
    text = f"Configuration data as of today\nAccountingStorageType   = {storage}\nMinJobAge = {age}"
    assert facts_of(text) == expected


def test_without_a_database_ended_jobs_must_stay_in_the_queue():
    check_status_queries(Facts(database=False, kept=30), first_check=10)
    check_status_queries(Facts(database=True, kept=2), first_check=10)
    with pytest.raises(ClusterError, match=r"29 s after its end.*MinJobAge of 30 s"):
        check_status_queries(Facts(database=False, kept=29), first_check=10)


@pytest.mark.parametrize(
    ("facts", "log", "words"),
    [
        ({"State": "OUT_OF_MEMORY"}, "", "used more than the 4000M"),
        ({"ExitCode": "0:9"}, "error: Exceeded job memory limit", "used more than the 4000M"),
        ({"State": "TIMEOUT"}, "", "ran longer than the 01:00:00"),
        ({"State": "CANCELLED by 0"}, "", "was cancelled"),
        ({"State": "NODE_FAIL"}, "", "lost with its node n2"),
        ({"ExitCode": "0:53"}, None, "could not use /home/me/project on node n2"),
        ({}, "slurmstepd: error: couldn't chdir to `/home/me/project'", "nodes share"),
        ({}, "x\nError: The dataset is gone.\n", "exit 1:0. It said: Error: The dataset is gone."),
    ],
)
def test_why_a_job_failed(facts, log, words):
    said = explain("7", JOB | facts, log)
    assert words in said
    assert said.startswith("Slurm job 7 ")
    assert ("7.log" in said) == bool(log)


def test_a_job_that_slurm_forgot_is_not_explained_away():
    assert explain("7", {}, None) == "Slurm job 7 failed, and Slurm knows nothing of it any more."


def test_groups_of_the_rules_are_known_inside_a_submission():
    rules = "".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    assert set(re.findall(r'group_of\("(\w+)"\)', rules)) == set(GROUPS)
    profile = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())
    assert {part.partition("=")[0] for part in profile["group-components"]} <= set(GROUPS)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"7": "CANCELLED by 0", "8": "RUNNING"}, {"7": "CANCELLED", "8": "RUNNING"}),
        (None, None),
    ],
)
def test_the_executor_knows_a_job_that_a_user_cancelled(monkeypatch, answer, expected):
    async def asked(command, logger):
        return answer, 0.1

    monkeypatch.setattr(plugin, "query_job_status", asked)
    read_states_of_sacct()
    read_states_of_sacct()
    states, _ = asyncio.run(plugin.query_job_status("sacct", None))
    assert states == expected
