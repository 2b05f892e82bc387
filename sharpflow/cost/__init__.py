"""What a job will take: memory, time and storage, from its parameters alone."""

from sharpflow.cost.model import Coefficients, shipped
from sharpflow.cost.work import Job, Measured, device_megabytes, size

__all__ = ["Coefficients", "Job", "Measured", "device_megabytes", "shipped", "size"]
