"""Claims of one theme; each is a function of one run whose number must lie in a band."""

from sharpflow.claims.base import claim


@claim(
    statement="The loss at the end is below half of that at the start.",
    band=(0.0, 0.5),
    origin="chosen: half is far below what a network that learns nothing would show",
    method="last recorded loss over the first",
    reads=["loss"],  # quantities that have to be in the table; the loss always is
    estimand="runs",  # the sentence is about every run; "mean" where it is about a level
)
def NAME(run):
    """Loss at the end over that at the start.

    A diverged run fails without being asked; `diverged="counts"` above would have it asked too.
    """
    _, values = run.curve("loss")
    return values[-1] / values[0]
