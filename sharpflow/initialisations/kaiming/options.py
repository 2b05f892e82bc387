"""Options of the initialisation `kaiming`."""

from sharpflow.parts.options import InitialisationOptions


class Options(InitialisationOptions):
    """N(0, 2/fan_in), after He et al. 2015."""
