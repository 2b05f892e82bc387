"""What the processes of a run are called: training itself, and what runs beside it."""

DISCRETE = "discrete"
"""Training: the steps of the optimiser."""
BESIDE = frozenset({"loss", "stability_threshold", "distance", "diverged_step"})
"""Quantities that the table of every process beside training has, its own apart."""
