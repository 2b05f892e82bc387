"""Make one dataset."""

from sharpflow.data import generate
from sharpflow.jobs import Job, run_job
from sharpflow.storage.tensors import write_tensors


def main(job: Job) -> None:
    tensors, provenance = generate(job.spec)
    write_tensors(job.outputs["dataset"], tensors, provenance)


if __name__ == "__main__":
    run_job(main, globals(), [], ["dataset"], "the `data` part of an experiment")
