"""Options of the initialisation `default`."""

from sharpflow.parts.options import InitialisationOptions


class Options(InitialisationOptions):
    """PyTorch's own: uniform on ±1/√fan_in."""
