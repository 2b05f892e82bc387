"""The workflow through a Slurm that forgets a job seconds after its end, with its database."""

import subprocess

from projects import APART, ONE, PATIENCE, PROFILE, jobs_of, wait_for_job

from sharpflow.cluster import found

DATABASE = True


def test_jobs_that_the_queue_has_forgotten_are_found_in_the_database(cluster, local, project):
    """One is cancelled: its end is known, its cause said, and it is made again."""
    facts = found()
    assert facts.database
    assert facts.kept < 3 * 3  # or it would be refused without the database
    head = project.snakemake(ONE, *PROFILE, *APART)
    cancelled = wait_for_job(cluster, project, head, "train_")
    subprocess.run(["scancel", cancelled], check=True)
    assert head.wait(PATIENCE) == 0, project.said[-3000:]
    made = project.results()
    assert ONE.removeprefix("results/small/") in made
    assert made.items() <= local.items()
    assert f"Slurm job {cancelled} was cancelled" in project.said
    assert cancelled not in {job["id"] for job in jobs_of(cluster, project)}
    ended = subprocess.run(
        ["sacct", "-X", "-n", "-P", "-o", "JobID,State"], capture_output=True, text=True, check=True
    )
    states = dict(line.split("|") for line in ended.stdout.splitlines())
    assert states.pop(cancelled).startswith("CANCELLED")
    assert set(states.values()) == {"COMPLETED"}
