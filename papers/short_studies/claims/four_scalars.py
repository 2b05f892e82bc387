"""Where gradient descent from above the threshold ends on products of scalars (Zhu et al. 2023)."""

from sharpflow.claims.base import claim
from sharpflow.results.runs import Run
from sharpflow.statistics.verdicts import Undefined


@claim(
    statement=(
        "On (1 − θ₁θ₂θ₃θ₄)² gradient descent that starts above the stability threshold ends within "
        "1 % below it."
    ),
    band=(0.99, 1.0),
    origin=(
        "chosen: the paper's 'just slightly below 2/η'; the distance goes as η², and is 0.24 % in "
        "the limit of long runs at η = 0.05"
    ),
    method="λ₁ at the end over 2/η",
    reads=["hessian_sharpness"],
    controls=["two_*"],
)
def four_scalars_end(run: Run) -> float:
    """λ₁ at the last record over 2/η; one that starts below it is undefined."""
    ratio = run.relative("hessian_sharpness")[1]
    return ratio[-1] if ratio[0] > 1 else Undefined("it does not start above the threshold")
