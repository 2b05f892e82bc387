"""Options of the Hessian's trace."""

from sharpflow.parts.options import MeasurementOptions, Needs, Stride, Words


class Options(MeasurementOptions):
    """Trace of the Hessian of the population's loss, for two-layer linear networks."""

    every: Stride = 1
    """Stride, in steps."""

    def needs(self) -> Needs:
        return "linear two layers", "gaussian population"

    def gives(self) -> Words:
        return frozenset({"hessian_trace"})
