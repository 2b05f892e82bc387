"""Options of the initialisation `xavier`."""

from sharpflow.parts.options import InitialisationOptions


class Options(InitialisationOptions):
    """N(0, 2/(fan_in + fan_out)), after Glorot and Bengio 2010."""
