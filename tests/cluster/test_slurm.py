"""The workflow through a real Slurm of three nodes: same bytes, whatever happens on the way.

Each state is waited for, without a time that it should take; a time-out only ends what hangs.
"""

import os
import signal
import subprocess

import pytest
import slurm
from projects import APART, ONE, PATIENCE, PROFILE, jobs_of, running, wait_for_job

LONG = pytest.mark.skipif(
    not os.environ.get("SHARPFLOW_CLUSTER"), reason="takes minutes: set SHARPFLOW_CLUSTER=1"
)


def test_jobs_that_share_a_submission_share_one_snakemake_in_it(project):
    """They run one after another, each in its own, where it does not know of the group."""
    cases = ("tanh", "elu")
    spelt = "train:shard=dense/{}/width=20/lr=0.005/seeds=100-101"
    inside = ("--local-groupid", "x", "--mode", "remote", "--executor", "slurm-jobstep")
    targets = ("--target-jobs", *(spelt.format(case) for case in cases))
    rules = ("--allowed-rules", "train", "--force", "--nolock")
    assert project.run(*targets, *rules, *inside, "--jobs", "1", "--dry-run") == 0, project.said
    assert project.said.count("Group job train") == 1
    assert all(f"shard=dense/{case}/" in project.said for case in cases)


def test_only_a_configuration_of_the_machine_is_put_back(tmp_path):
    """Not what a killed run left: Snakemake would wait for its controller at each start."""
    path = tmp_path / "slurm.conf"
    path.write_text("ClusterName=ours\n")
    slurm.put_aside(path, "ClusterName=toy\n")
    slurm.put_aside(path, "ClusterName=toy2\n")  # after a run that was killed
    slurm.put_back(path)
    assert path.read_text() == "ClusterName=ours\n"
    path.unlink()
    slurm.put_aside(path, "ClusterName=toy\n")
    slurm.put_aside(path, "ClusterName=toy2\n")
    slurm.put_back(path)
    assert not path.exists()


def test_the_profile_as_shipped_gives_the_bytes_of_a_local_run(cluster, local, project):
    """With the controller restarted on the way; then nothing is left to do."""
    head = project.snakemake(*PROFILE)
    logs = project.root / "results" / "small" / "logs"
    slurm.wait_for(lambda: list(logs.rglob("train.log")), "a training at work", PATIENCE)
    cluster.kill("slurmctld")
    cluster.start_controller()
    assert head.wait(PATIENCE) == 0, project.said[-3000:]
    assert project.results() == local
    jobs = jobs_of(cluster, project)
    assert {job["state"] for job in jobs} == {"COMPLETED"}
    stages = {job["comment"].removeprefix("rule_").split("_")[0] for job in jobs}
    assert stages == {"data", "evaluate", "tables", "train"}
    assert all(int(job["cpus"]) <= 4 for job in jobs)
    assert project.run(*PROFILE) == 0
    assert "Nothing to be done" in project.said
    assert len(jobs_of(cluster, project)) == len(jobs)


@LONG
def test_jobs_that_are_cancelled_killed_or_lost_are_made_again(cluster, local, project):
    """One cancelled, one over its memory, one over its time, one on a node that is taken down."""
    asked = "{} if attempt == 1 and wildcards.shard.split('/')[1] == '{}' else {} * attempt"
    resources = (
        "--set-resources",
        f"train:mem_mb={asked.format(100, 'relu', 2000)}",
        f"train:runtime={asked.format(1, 'tanh', 60)}",
        "train:cpus_per_task=4",  # a node each
    )
    head = project.snakemake("--until", "train", *PROFILE, *APART, *resources)

    def stop(job):  # and so it outlives its minute
        subprocess.run(["scancel", "--signal=STOP", job], check=True)
        subprocess.run(["scancel", "--batch", "--signal=STOP", job], check=True)

    def cancel(job):
        subprocess.run(["scancel", job], check=True)

    def lose_node(job):
        update = ["scontrol", "update", f"nodename={cluster.jobs()[job]['nodes']}"]
        subprocess.run([*update, "state=down", "reason=test"], check=True)
        slurm.wait_for(lambda: cluster.jobs()[job]["state"] == "PENDING", "a requeue", PATIENCE)
        # either may have happened by itself: the node registers again, and its job starts
        subprocess.run([*update, "state=resume"], check=False)
        # Slurm waits two minutes with what it lost
        subprocess.run(["scontrol", "update", f"jobid={job}", "StartTime=now"], check=False)

    deeds = {"tanh": stop, "elu": cancel, "softplus": lose_node}
    met = {}

    def all_met():
        for case in deeds.keys() - met.keys():
            for job in running(cluster, project, head, f"train_wildcards_dense_{case}"):
                met[case] = job
                deeds[case](job)
        return met.keys() == deeds.keys()

    slurm.wait_for(all_met, "trainings of three cases", PATIENCE)
    assert head.wait(PATIENCE) == 0, project.said[-5000:]
    assert cluster.jobs()[met["softplus"]]["state"] == "COMPLETED"
    made = project.results()
    assert sum(name.endswith("/states.safetensors") for name in made) == 4
    assert made.items() <= local.items()
    for words in (
        f"Slurm job {met['tanh']} ran longer than the 00:01:00 that it had asked for",
        f"Slurm job {met['elu']} was cancelled, by its owner or an administrator",
        "used more than the 100M that it had asked for",
    ):
        assert words in project.said
    asks = {}
    for job in sorted(jobs_of(cluster, project), key=lambda job: int(job["id"])):
        case = job["comment"].rpartition("dense_")[2].partition("_")[0]
        asks.setdefault(case, []).append((job["time"], job["memory"]))
    assert asks["tanh"] == [("1:00", "2000M"), ("2:00:00", "4000M")]
    assert asks["elu"] == [("1:00:00", "2000M"), ("2:00:00", "4000M")]
    assert asks["relu"] == [("1:00:00", "100M"), ("2:00:00", "4000M")]
    assert asks["softplus"] == [("1:00:00", "2000M")]


@LONG
def test_a_killed_head_is_taken_up_and_an_interrupted_one_leaves_no_job(cluster, local, project):
    def left():
        return jobs_of(cluster, project, "PENDING", "RUNNING", "COMPLETING")

    def start():
        arguments = (ONE, *PROFILE, *APART)
        return project.snakemake(*arguments, module="sharpflow.launch", start_new_session=True)

    head = start()
    orphan = wait_for_job(cluster, project, head, "train_")
    head.kill()
    head.wait()
    assert orphan in {job["id"] for job in left()}
    head = start()
    slurm.wait_for(lambda: "an earlier start had left" in project.said, "a take-over", PATIENCE)
    assert orphan in project.said.partition("an earlier start had left")[2].partition(";")[0]
    wait_for_job(cluster, project, head, "train_")
    os.killpg(head.pid, signal.SIGINT)
    assert head.wait(PATIENCE) != 0
    assert left() == []
    assert start().wait(PATIENCE) == 0, project.said[-3000:]
    made = project.results()
    assert ONE.removeprefix("results/small/") in made
    assert made.items() <= local.items()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--default-resources", "slurm_partition=nosuch"], ["aggregate", "nosuch"]),
        (["--set-resources", "train:mem_mb=900000"], ["train", "configuration is not available"]),
        (["--set-resources", "train:gpu=1"], ["train", "--gpus=1", "gres"]),
    ],
)
def test_what_slurm_would_refuse_is_said_before_a_submission(cluster, project, options, words):
    assert project.run(*PROFILE, *options) == 1
    (line,) = [line for line in project.said.splitlines() if line.startswith("Error: ")]
    for word in ["Slurm refuses the jobs of", *words, "profiles/slurm/config.yaml"]:
        assert word in line
    assert "Traceback" not in project.said
    assert jobs_of(cluster, project) == []


def test_without_slurm_on_the_path_a_sentence_says_so(cluster, project, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "bash", "which"):
        (tools / name).symlink_to(f"/usr/bin/{name}")
    assert project.run(*PROFILE, path=str(tools)) == 1
    (line,) = [line for line in project.said.splitlines() if line.startswith("Error: ")]
    assert "No Slurm here: sbatch" in line
    assert "Traceback" not in project.said


def test_a_folder_that_the_nodes_do_not_share_is_named(cluster, project):
    """Every node gets a view of the disk in which another folder lies over the project's."""
    for node in ("n1", "n2", "n3"):
        cluster.kill(f"slurmd-{node}")
        cluster.start_node(node, hidden=project.root.parent)
    cluster.wait_for_nodes()
    try:
        assert project.run(*PROFILE, "--retries", "0", "--latency-wait", "1") == 1
    finally:
        for node in ("n1", "n2", "n3"):
            cluster.kill(f"slurmd-{node}")
            cluster.start_node(node)
        cluster.wait_for_nodes()
    assert f"could not use {project.root} on node n" in project.said
    assert "must be on a file system that all nodes share" in project.said
