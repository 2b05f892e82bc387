"""Measure the states of one shard, replaying the steps between stored ones."""

from sharpflow import devices, jobs
from sharpflow.errors import IntegrityError
from sharpflow.measurements.evaluate import evaluate
from sharpflow.optimisers.base import State
from sharpflow.storage.checkpoint import job_checkpoint
from sharpflow.storage.files import fingerprint
from sharpflow.storage.heartbeat import heartbeat
from sharpflow.storage.states import state_at
from sharpflow.storage.tables import write_table
from sharpflow.storage.tensors import TensorFile, read_tensors
from sharpflow.training import Problem
from sharpflow.training.memory import least_bytes


def main(job: jobs.Job) -> None:
    datasets = [read_tensors(path)[0] for path in job.inputs["datasets"]]
    device = devices.prepare(job.spec["training"]["device"])
    print(f"device: {devices.describe(device)}")
    problem = Problem(job.spec["training"] | {"device": str(device)}, *datasets)
    states = TensorFile(job.inputs["states"])
    if states.metadata["origin"] != fingerprint(job.spec["training"]):
        raise IntegrityError(
            f"{states.path} holds the states of another training; delete it and it will be made "
            "again."
        )

    def read_state(step: int) -> State:
        found = state_at(states, step)
        return {name: tensor.to(problem.device) for name, tensor in found.items()}

    checkpoint = job_checkpoint(job, "evaluate", job.outputs["measurements"])
    with (
        checkpoint.held(),
        devices.memory_explained(device, "evaluation"),
        heartbeat(job.progress) as beat,
    ):
        devices.check_memory(device, lambda: least_bytes(problem, stored=False), "evaluation")
        result = evaluate(
            problem,
            states.metadata["steps"],
            read_state,
            job.spec["measurements"],
            checkpoint,
            states.metadata.get("device", ""),
            beat,
        )
        print(f"replay landed within {result.replay_deviation:.1e} of every stored state")
        write_table(job.outputs["measurements"], result.columns, fingerprint(job.spec))


if __name__ == "__main__":
    jobs.run_job(
        main,
        globals(),
        ["datasets", "states"],
        ["measurements"],
        "training (as for train.py), measurements (options by name), "
        "paper_folders (by key, if any)",
    )
