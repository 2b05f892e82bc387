"""Integrate what runs beside the training of one shard, a flow say, from the same start."""

from sharpflow import devices, jobs
from sharpflow.flows.integrate import integrate
from sharpflow.storage.checkpoint import job_checkpoint
from sharpflow.storage.files import fingerprint
from sharpflow.storage.heartbeat import heartbeat
from sharpflow.storage.tables import write_table
from sharpflow.storage.tensors import read_tensors, write_tensors
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
        states = {
            f"{step:08d}/{name}": tensor
            for step, state in trajectory.states.items()
            for name, tensor in state.items()
        }
        origin = fingerprint(job.spec)
        described = {
            "steps": sorted(trajectory.states),
            "origin": origin,
            "device": devices.describe(device),
        }
        write_tensors(job.outputs["states"], states, described)
        write_table(job.outputs["trajectory"], trajectory.columns, origin)


if __name__ == "__main__":
    jobs.run_job(
        main,
        globals(),
        ["datasets"],
        ["trajectory", "states"],
        "what train.py takes, with flow (kind and options)",
    )
