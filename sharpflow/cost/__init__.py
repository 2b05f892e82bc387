"""What a job will take: memory, time and storage, from its parameters alone."""

from sharpflow.cost.model import Coefficients, around, shipped
from sharpflow.cost.work import Job, Measured, beside, size

__all__ = [
    "Coefficients",
    "Job",
    "Measured",
    "around",
    "beside",
    "shipped",
    "size",
]
