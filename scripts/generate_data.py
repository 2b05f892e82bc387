"""Make one dataset."""

from sharpflow import jobs
from sharpflow.data.base import generate
from sharpflow.storage.tensors import write_tensors


def main(job: jobs.Job) -> None:
    tensors, provenance = generate(job.spec)
    write_tensors(job.outputs["dataset"], tensors, provenance)


if __name__ == "__main__":
    jobs.run_job(main, globals(), [], ["dataset"], "the `data` part of an experiment")
