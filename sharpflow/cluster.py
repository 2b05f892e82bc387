"""What stands between Snakemake and Slurm: is it there, does it take our jobs, why did one fail?

    python -m sharpflow.cluster    # what is found here

Jobs are submitted and watched by snakemake-executor-plugin-slurm. The Snakefile calls `begin`
before the first one and `end` after a run that failed or was interrupted.
"""

import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

from sharpflow.errors import ClusterError, exit_status

PREFIX = "sharpflow_"
"""How the names of our jobs begin (`slurm-jobname-prefix` of the profile)."""
GROUPS = ("data", "train", "evaluate", "tables")
"""Stages whose jobs may share a submission (`group-components` of the profile)."""
SITE = "profiles/slurm/config.yaml"
COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "sinfo")
_OUT = "down,drain,fail,maint,power_down,unknown"
_FOR_NOW = "Requested node configuration is not available"
_NOT_WRITTEN = "0:53"  # Slurm's status of a job whose log could not be opened
_NOT_TAKEN = (
    "Slurm did not take the submission of this group: it asks for more than any node has, or a "
    "limit of the account is met. `python -m sharpflow.cluster` shows what the nodes have; "
    f"group-components and cores in {SITE} say how much a group asks for."
)
_ASKED = re.compile(r" (?:-[AptC] |--(?:qos|mem|mem-per-cpu|gpus|gres|cpus-per-task)[ =])\S+")
_MEMORY = re.compile(r"exceeded (job )?memory limit|oom[-_ ]?kill|out of memory", re.IGNORECASE)


def _ask(*words: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", f"no answer within {seconds:g} s")
    except OSError as error:
        return subprocess.CompletedProcess(words, 1, "", error.strerror or str(error))


@dataclass(frozen=True)
class Facts:
    """What is found about a cluster.

    Attributes:
        database: whether there is an accounting database, which `sacct` reads.
        kept: seconds for which the controller remembers a job that has ended.
    """

    database: bool
    kept: int

    def described(self) -> str:
        """One line for a person."""
        database = "an accounting database" if self.database else "no accounting database"
        return f"Slurm answers; {database}; jobs that ended are kept for {self.kept} s."


def facts_of(configuration: str) -> Facts:
    """Read what `scontrol show config` prints."""
    pairs = (line.partition("=") for line in configuration.splitlines())
    values = {key.strip(): value.strip() for key, _, value in pairs}
    storage = values.get("AccountingStorageType", "")
    age = re.match(r"\d+", values.get("MinJobAge", ""))
    return Facts("slurmdbd" in storage or "mysql" in storage, int(age.group()) if age else 300)


def found() -> Facts:
    """Find Slurm.

    Raises:
        ClusterError: its commands are not on the path, or its controller does not answer.
    """
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        raise ClusterError(
            f"No Slurm here: {', '.join(missing)} cannot be found on the path. Start on the login "
            "node of a cluster (perhaps after `module load slurm`), or run on this machine with "
            "`snakemake --cores N` and no profile."
        )
    answer = _ask("scontrol", "show", "config")
    if answer.returncode != 0:
        raise ClusterError(
            f"Slurm's controller does not answer: {_said(answer.stderr)}. Nothing was "
            "submitted; start again once `sinfo` answers."
        )
    return facts_of(answer.stdout)


def check_status_queries(facts: Facts, first_check: int) -> None:
    """Refuse a cluster on which the end of a job could not be seen.

    Args:
        facts: what is found about the cluster.
        first_check: seconds from a submission to the first look at the queue.

    Raises:
        ClusterError: there is no database, and ended jobs are forgotten before they are looked at.
    """
    least = 3 * first_check
    if not facts.database and facts.kept < least:
        raise ClusterError(
            f"Slurm forgets a job {facts.kept} s after its end (MinJobAge) and has no accounting "
            f"database, so that the end of jobs could be missed and Snakemake would wait for ever. "
            f"Ask the administrators for a MinJobAge of {least} s or more, or set "
            f"slurm-init-seconds-before-status-checks in {SITE} to at most {facts.kept // 3}."
        )


def _said(text: str) -> str:
    """All that a command said, in one line, without repetitions."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return "; ".join(dict.fromkeys(lines)) or "no reason given"


def _some_nodes_are_down() -> bool:
    return bool(_ask("sinfo", "-h", "-t", _OUT, "-o", "%D").stdout.strip())


def check_submission(stage: str, command: str) -> None:
    """Have Slurm judge a submission, without making it.

    Args:
        stage: whose jobs they are.
        command: the `sbatch` command of the executor, without the job itself.

    Raises:
        ClusterError: Slurm would refuse it: partition, account, QOS, GPU type, time, memory.
    """
    test = command.replace("sbatch ", "sbatch --test-only ", 1) + " --wrap true"
    answer = _ask("sh", "-c", test)
    # the same is said of jobs that only wait for nodes which are down
    if answer.returncode != 0 and not (_FOR_NOW in answer.stderr and _some_nodes_are_down()):
        asked = "".join(_ASKED.findall(command)).strip()
        raise ClusterError(
            f"Slurm refuses the jobs of `{stage}`: {_said(answer.stderr)}. "
            f"Asked for was `{asked}`; the values of your site are in the first part of "
            f"{SITE}. Nothing was submitted."
        )


def jobs_of(folder: Path) -> list[str]:
    """Numbers of our jobs in the queue that were submitted from a folder."""
    answer = _ask("squeue", "--me", "-h", "-o", "%A|%j|%Z")
    if answer.returncode != 0:
        raise ClusterError(f"The queue cannot be read: {_said(answer.stderr)}.")
    rows = [line.split("|", 2) for line in answer.stdout.splitlines()]
    ours = {
        number
        for number, name, place in rows
        if name.startswith(PREFIX) and Path(place).resolve() == folder.resolve()
    }
    return sorted(ours, key=int)


def cancel_jobs_of(folder: Path, patience: float = 300) -> list[str]:
    """Cancel our jobs that were submitted from a folder, and wait until they are gone.

    Args:
        folder: the folder, in which no other Snakemake is at work.
        patience: seconds to wait.

    Returns:
        Their numbers.

    Raises:
        ClusterError: they did not end, or the queue cannot be read.
    """
    cancelled = jobs_of(folder)
    end = time.monotonic() + patience
    if cancelled:
        _ask("scancel", *cancelled)
    while left := [number for number in jobs_of(folder) if number in cancelled]:
        if time.monotonic() > end:
            raise ClusterError(
                f"Slurm has not ended the jobs {', '.join(left)} of an earlier start in {folder}; "
                "see `squeue --me`, and start again once they are gone."
            )
        time.sleep(1)
    return cancelled


def facts_of_job(number: str) -> dict[str, str]:
    """What Slurm knows about a job, by Slurm's own names, and its Memory; empty if nothing."""
    answer = _ask("scontrol", "show", "job", "-o", number)
    facts = dict(re.findall(r"(\w+)=(\S*)", answer.stdout))
    if facts:
        memory = re.search(r"\bmem=(\w+)", answer.stdout)
        return facts | {"State": facts["JobState"], "Memory": memory.group(1) if memory else ""}
    columns = ("State", "ExitCode", "NodeList", "Timelimit", "ReqMem", "WorkDir")
    answer = _ask("sacct", "-X", "-n", "-P", "-j", number, "-o", ",".join(columns))
    lines = answer.stdout.splitlines() if answer.returncode == 0 else []
    facts = dict(zip(columns, lines[0].split("|"), strict=False)) if lines else {}
    return facts | {"TimeLimit": facts.get("Timelimit", ""), "Memory": facts.get("ReqMem", "")}


def explain(number: str, facts: Mapping[str, str], log: str | None) -> str:
    """Say why a job failed, in one paragraph.

    Args:
        number: the job.
        facts: as of `facts_of_job`; may be empty.
        log: what it wrote; None if there is no such file.
    """
    state = facts.get("State", "").partition(" ")[0]
    node = facts.get("NodeList") or "(none)"
    text = log or ""
    if state == "OUT_OF_MEMORY" or _MEMORY.search(text):
        why = f"used more than the {facts.get('Memory') or 'memory'} that it had asked for"
    elif state == "TIMEOUT":
        why = f"ran longer than the {facts.get('TimeLimit') or 'time'} that it had asked for"
    elif state == "CANCELLED":
        why = "was cancelled, by its owner or an administrator"
    elif state in ("NODE_FAIL", "BOOT_FAIL"):
        why = f"was lost with its node {node}"
    elif facts.get("ExitCode") == _NOT_WRITTEN or "couldn't chdir" in text:
        why = (
            f"could not use {facts.get('WorkDir', 'the folder')} on node {node}: the folder of the "
            "project must be on a file system that all nodes share and may write"
        )
    elif not facts:
        why = "failed, and Slurm knows nothing of it any more"
    else:
        why = f"ended on node {node} in state {state or 'unknown'}, exit {facts.get('ExitCode')}"
        said = [line for line in text.splitlines() if line.startswith("Error: ")]
        why += f". It said: {said[-1]}" if said else ""
    where = facts.get("StdOut", "")
    return f"Slurm job {number} {why}." + (f" Its log: {where}" if where and log else "")


class Explainer(logging.Handler):
    """Says why a job failed beside Snakemake's notice that it did."""

    def emit(self, record: logging.LogRecord) -> None:
        """Handle one message of Snakemake; only errors of submitted jobs have a number."""
        aux = getattr(record, "aux", None)
        number = getattr(record, "external_jobid", None)
        number = number or (aux.get("external_jobid") if isinstance(aux, Mapping) else None)
        if number is None:
            if getattr(record, "event", None) == LogEvent.GROUP_ERROR:
                logging.getLogger(record.name).error(_NOT_TAKEN)
            return
        facts = facts_of_job(str(number))
        try:
            log = Path(facts.get("StdOut", "")).read_text(encoding="utf-8", errors="replace")
        except OSError:
            log = None
        logging.getLogger(record.name).error(explain(str(number), facts, log))


def begin(workflow: Any) -> None:
    """Before the first submission: is all well, and is nothing left of a head that was killed?

    Args:
        workflow: Snakemake's, with its graph of jobs and its lock.

    Raises:
        ClusterError: one paragraph; nothing was submitted.
    """
    settings, dag = workflow.executor_settings, workflow.dag
    check_status_queries(found(), settings.init_seconds_before_status_checks)
    for stage, command in _commands(dag.needrun_jobs(), dag.get_job_group, settings):
        check_submission(stage, command)
    if not (settings.jobname_prefix or "").startswith(PREFIX.rstrip("_")):
        raise ClusterError(
            f"slurm-jobname-prefix must be {PREFIX.rstrip('_')!r}, or begin with it: jobs that a "
            "killed Snakemake left behind are known by it."
        )
    left = cancel_jobs_of(Path.cwd())
    if left:
        print(
            f"Cancelled what an earlier start had left in the queue ({', '.join(left)}); "
            "runs go on from their checkpoints.",
            file=sys.stderr,
        )
    read_states_of_sacct()
    logging.getLogger("snakemake.logging").addHandler(Explainer(logging.ERROR))


def read_states_of_sacct() -> None:
    """Have the executor know a cancelled job, which `sacct` calls "CANCELLED by 0".

    Release 2.8.0 compares the whole word, and would wait for such a job for ever.
    """
    import snakemake_executor_plugin_slurm as plugin

    asked: Any = plugin.query_job_status
    if getattr(asked, "first_word", False):
        return

    async def first_word(command: str, logger: Any) -> tuple[dict[str, str] | None, float | None]:
        states, seconds = await asked(command, logger)
        return states and {job: state.partition(" ")[0] for job, state in states.items()}, seconds

    first_word.first_word = True  # pyright: ignore[reportFunctionMemberAccess]
    plugin.query_job_status = first_word


def end() -> None:
    """After a run that failed or was interrupted: nothing of it stays in the queue."""
    cancel_jobs_of(Path.cwd())


def inside(settings: Any) -> Any:
    """Snakemake's settings of groups within a submission that several jobs share.

    It starts there without the profile, and would run the jobs of a group that it does not know one
    after another, each in a Snakemake of its own.
    """
    return replace(settings, group_components=dict.fromkeys(GROUPS, sys.maxsize))


def _commands(
    jobs: Iterable[Any], group_of: Callable[[Any], Any], settings: Any
) -> Iterator[tuple[str, str]]:
    """The `sbatch` command of one submission of each stage, as the executor makes it."""
    from snakemake_executor_plugin_slurm.submit_string import get_submit_command
    from snakemake_executor_plugin_slurm.utils import set_gres_string

    first = {}
    for job in jobs:
        if not job.is_local:
            first.setdefault(job.rule.name, job)
    for stage, job in sorted(first.items()):
        submitted = group_of(job) or job
        asked = submitted.resources
        account, partition = asked.get("slurm_account"), asked.get("slurm_partition")
        shared = {
            "run_uuid": f"{PREFIX}test",
            "slurm_logfile": os.devnull,
            "comment_str": stage,
            "account": f" -A {shlex.quote(str(account))}" if account else "",
            "partition": f" -p {shlex.quote(str(partition))}" if partition else "",
            "workdir": os.getcwd(),
        }
        yield stage, get_submit_command(submitted, shared, settings) + set_gres_string(submitted)


def main() -> None:
    """Say what is found here."""
    print(found().described())
    print(_ask("sinfo", "-o", "%P %a %l %D %c %m %G").stdout, end="")


if __name__ == "__main__":
    sys.exit(exit_status(main))
