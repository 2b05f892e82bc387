"""Options of the Hessian's trace."""

from sharpflow.parts.options import MeasurementOptions, Needs, Stride, Words

EQUILIBRIUM = "hessian_trace_equilibrium"


class Options(MeasurementOptions):
    """Trace of the Hessian of the population's or all samples' loss, for two linear layers."""

    every: Stride = 1
    """Stride, in steps."""
    equilibrium: bool = False
    """Whether it is also computed for the noise equilibrium of the same function: for those layers
    with the product of the present ones at which the gradient noise of the layers is in balance."""

    def needs(self) -> Needs:
        return "linear two layers", "squared error", ("gaussian population", "finite samples")

    def gives(self) -> Words:
        return frozenset({"hessian_trace"} | ({EQUILIBRIUM} if self.equilibrium else set()))
