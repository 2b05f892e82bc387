"""Options of the balanced start."""

from sharpflow.parts.options import InitialisationOptions, Needs


class Options(InitialisationOptions):
    """A random point with U W = V and UᵀU = WWᵀ, V the teacher."""

    def needs(self) -> Needs:
        return ("two layers", "gaussian population")
