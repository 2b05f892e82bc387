"""How fast Adam goes to its noise equilibrium.

Derived in docs/background/adam_equilibrium.md.
"""

import numpy as np

from sharpflow.claims.base import INF, claim
from sharpflow.results.runs import Run
from sharpflow.results.units import through_origin
from sharpflow.statistics.verdicts import Failed, Undefined

READS = ["adam_plain_size", "adam_plain_charge", "adam_outer", "adam_inner", "adam_size"]
LEAST = 0.3
"""Share of the start down to which an approach is looked at."""
METHOD = (
    "two halves of the units are moved apart along their orbits at the start; slope of the "
    "logarithm of their distance on that of the prediction, down to 0.3 of the start"
)


def distance(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Steps, and how far the two halves of the units are apart along their orbits, over the start.

    A unit's place is ¼ log(‖outer‖²/‖inner‖²).
    """
    places, steps = [], np.empty(0)
    for index in run.indices("adam_plain_size"):
        steps, size, charge = run.together(("adam_plain_size", index), ("adam_plain_charge", index))
        places.append(0.25 * np.log((size + charge) / (size - charge)))
    half = len(places) // 2
    apart = np.mean(places[:half], axis=0) - np.mean(places[half:], axis=0)
    return steps, apart / apart[0]


def unit_rates(run: Run) -> np.ndarray:
    """η²ΣE[ĝ²]/D over 2ΣDθ² of every unit, means over the run, (units,)."""
    rates = []
    for index in run.indices("adam_size"):
        outer, inner, size = (
            run.curve(name, index)[1] for name in ("adam_outer", "adam_inner", "adam_size")
        )
        rates.append(run.learning_rate**2 * np.mean((outer + inner) / (2 * size)))
    return np.array(rates)


def predicted(rates: np.ndarray, beta2: float, steps: np.ndarray) -> np.ndarray:
    """Mean over units of the distance at some steps, over that at the first of them.

    λ′ = −k(2λ − μ), and μ, which v̂ remembers, goes to λ by (1 − β₂)/(1 − β₂ᵗ) a step.

    Args:
        rates: k, (units,).
        beta2: β₂; 0 for a metric without memory.
        steps: ascending.
    """
    here = remembered = np.ones_like(rates)
    path, wanted = [], set(steps.tolist())
    for step in range(int(steps[-1]) + 1):
        if step in wanted:
            path.append(here.mean())
        follows = (1 - beta2) / (1 - beta2 ** (step + 1))
        here = here - rates * (2 * here - remembered)
        remembered = remembered + follows * (here - remembered)
    return np.array(path) / path[0]


def rate_over(run: Run, prediction: np.ndarray) -> float:
    """Slope of the logarithm of the distance on that of a prediction at the same steps."""
    measured = distance(run)[1]
    window = prediction > LEAST
    if window.all() or window.sum() < 5:
        return Undefined("its records do not cover the approach")
    if (measured[window] <= 0).any():
        return Failed("the two halves passed each other")
    x, y = -np.log(prediction[window]), -np.log(measured[window])
    return through_origin(y, x)


def with_memory(run: Run) -> np.ndarray:
    """The prediction at the run's records."""
    return predicted(unit_rates(run), run.setting("optimiser.beta2"), distance(run)[0])


def without_memory(run: Run) -> np.ndarray:
    """The same for a v that follows at once."""
    return predicted(unit_rates(run), 0.0, distance(run)[0])


def over_memoryless(run: Run) -> float:
    """The rate over that of a v that follows at once."""
    return rate_over(run, without_memory(run))


def over_standing(run: Run) -> float:
    """The rate over that of a metric that stands: twice as fast as one that follows at once."""
    rates, steps = unit_rates(run), distance(run)[0]
    return rate_over(run, np.exp(-2 * np.outer(steps - steps[0], rates)).mean(1))


@claim(
    statement=(
        "The time to Adam's noise equilibrium is 2Σ√vθ²/(η²Σ√v) steps, whatever batch size and β₁: "
        "the rate of approach is within 10 % of it."
    ),
    band=(0.9, 1.1),
    origin="chosen: over what fluctuates between seeds; a metric that stood would give a half",
    method=METHOD,
    reads=READS,
    estimand="mean",
    support=(0.0, INF),
    foils={"a metric that stands": over_standing},
)
def adam_relaxation_rate(run: Run) -> float:
    """Rate of approach over the predicted one, with the memory of v."""
    return rate_over(run, with_memory(run))


@claim(
    statement=(
        "The memory of v slows the approach down where 1/(1 − β₂) is as long as it: the rate is "
        "within 10 % of the prediction with it, and not of that without."
    ),
    band=(0.9, 1.1),
    origin="chosen: as for adam_relaxation_rate",
    method=METHOD,
    reads=READS,
    estimand="mean",
    support=(0.0, INF),
    cases=["long_memory"],
    foils={"a v that follows at once": over_memoryless},
)
def adam_memory_slows(run: Run) -> float:
    """Rate of approach over the predicted one, with the memory of v."""
    return rate_over(run, with_memory(run))
