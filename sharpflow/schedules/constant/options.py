"""Options of the constant learning rate."""

from sharpflow.parts.options import ScheduleOptions


class Options(ScheduleOptions):
    """The run's learning rate at every step."""
