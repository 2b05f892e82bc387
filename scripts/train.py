"""Train one shard: the runs of one case, width and learning rate for a block of seeds."""

from sharpflow import devices, jobs
from sharpflow.storage.checkpoint import job_checkpoint
from sharpflow.storage.files import fingerprint
from sharpflow.storage.heartbeat import heartbeat
from sharpflow.storage.states import write_states
from sharpflow.storage.tables import write_table
from sharpflow.storage.tensors import read_tensors
from sharpflow.training import Problem, train
from sharpflow.training.memory import least_bytes


def main(job: jobs.Job) -> None:
    datasets = [read_tensors(path)[0] for path in job.inputs["datasets"]]
    checkpoint = job_checkpoint(job, "train", job.outputs["states"])
    device = devices.prepare(job.spec["device"])
    print(f"device: {devices.describe(device)}")
    problem = Problem({**job.spec, "device": str(device)}, *datasets)
    with (
        checkpoint.held(),
        devices.memory_explained(device, "training"),
        heartbeat(job.progress) as beat,
    ):
        devices.check_memory(device, lambda: least_bytes(problem), "training")
        trajectory = train(problem, checkpoint, beat)
        origin, made_on = fingerprint(job.spec), devices.describe(device)
        write_states(job.outputs["states"], trajectory.states, origin, made_on)
        write_table(job.outputs["trajectory"], trajectory.columns, origin)


if __name__ == "__main__":
    jobs.run_job(
        main,
        globals(),
        ["datasets"],
        ["trajectory", "states"],
        "stream (of random numbers), seeds, width, learning_rate, model, loss, optimiser, "
        "schedule, training, dtype, device, paper_folders (by key, if any)",
    )
