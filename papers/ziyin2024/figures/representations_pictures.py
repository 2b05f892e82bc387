"""Representations of the two layers on pictures: SGD aligns those of the linear net alone."""

from sharpflow.figures import base, ensemble
from sharpflow.results import tables as results

from . import representations

TITLE = "On pictures SGD aligns the representations of linear nets, not those of nonlinear ones"
PUBLISHED = representations.PUBLISHED
READS = ("alignment",)
DRAWS = ("alignment_unweighted", "gram_u", "gram_w")

draw = representations.draw
alt = representations.alt
numbers = representations.numbers


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(representations.DRAWN, ensemble.BAND, ensemble.scale_sentence(tables))
