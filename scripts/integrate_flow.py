"""Integrate what runs beside the training of one shard, a flow say, from the same start."""

from sharpflow import devices, jobs
from sharpflow.flows.integrate import integrate
from sharpflow.storage.checkpoint import job_checkpoint
from sharpflow.storage.files import fingerprint
from sharpflow.storage.heartbeat import heartbeat
from sharpflow.storage.states import write_states
from sharpflow.storage.tables import write_table
from sharpflow.storage.tensors import read_tensors
from sharpflow.training import Problem


def main(job: jobs.Job) -> None:
    datasets = [read_tensors(path)[0] for path in job.inputs["datasets"]]
    checkpoint = job_checkpoint(job, "integrate", job.outputs["states"])
    device = devices.prepare(job.spec["device"])
    print(f"device: {devices.describe(device)}")
    problem = Problem({**job.spec, "device": str(device)}, *datasets)
    with (
        checkpoint.held(),
        devices.memory_explained(device, "integration"),
        heartbeat(job.progress) as beat,
    ):
        trajectory = integrate(problem, job.spec["flow"], checkpoint, beat)
        origin, made_on = fingerprint(job.spec), devices.describe(device)
        write_states(job.outputs["states"], trajectory.states, origin, made_on)
        write_table(job.outputs["trajectory"], trajectory.columns, origin)


if __name__ == "__main__":
    jobs.run_job(
        main,
        globals(),
        ["datasets"],
        ["trajectory", "states"],
        "what train.py takes, with flow (kind and options)",
    )
