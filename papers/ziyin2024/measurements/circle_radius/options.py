"""Options of the toy's radius."""

from sharpflow.parts.options import MeasurementOptions, Needs, Stride, Words


class Options(MeasurementOptions):
    """Position and predicted radius of the `circle` network."""

    every: Stride = 1
    """Stride, in steps."""

    def needs(self) -> Needs:
        return "circle", "gaussian population"

    def gives(self) -> Words:
        return frozenset({"position", "predicted_radius"})
