"""Statistics of curves along training: crossings, phases, plateaus, anomalies, decay, residual.

Arrays in, arrays and small dataclasses out. A diverged run's curve is cut before its first
non-finite entry. At the edge of stability the sharpness alternates with period two; each function
says whether it looks at raw entries or at two-step averages.
"""

from sharpflow.dynamics.crossings import (
    HYSTERESIS,
    SharpnessSummary,
    approach,
    first_crossing,
    first_cycle_end,
    plateau,
    rising_trend,
    settled,
    sharpness_summary,
    up_crossing_indices,
    up_crossings,
)
from sharpflow.dynamics.curves import (
    falling_share,
    finite_prefix,
    kendall_tau,
    rank_correlation,
    resolves_alternation,
    running_mean,
    two_step_average,
)
from sharpflow.dynamics.phases import (
    WINDOW,
    Cycles,
    cycles,
    phase_exits,
    phase_randomised,
    phases,
)
from sharpflow.dynamics.rates import accumulated, decay_rate, decay_window, growth_rates
from sharpflow.dynamics.residual import (
    ResidualSplit,
    SpikeCoincidence,
    anomaly_points,
    residual_split,
    sign_agreement,
    spike_coincidence,
    spikes,
)

__all__ = [
    "HYSTERESIS",
    "WINDOW",
    "Cycles",
    "ResidualSplit",
    "SharpnessSummary",
    "SpikeCoincidence",
    "accumulated",
    "anomaly_points",
    "approach",
    "cycles",
    "decay_rate",
    "decay_window",
    "falling_share",
    "finite_prefix",
    "first_crossing",
    "first_cycle_end",
    "growth_rates",
    "kendall_tau",
    "phase_exits",
    "phase_randomised",
    "phases",
    "plateau",
    "rank_correlation",
    "residual_split",
    "resolves_alternation",
    "rising_trend",
    "running_mean",
    "settled",
    "sharpness_summary",
    "sign_agreement",
    "spike_coincidence",
    "spikes",
    "two_step_average",
    "up_crossing_indices",
    "up_crossings",
]
