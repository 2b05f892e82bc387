"""The sharpness along the minimisers under two rules at the edge, beside their flows."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sharpflow.figures import base, ensemble, style
from sharpflow.results import tables as results

TITLE = "Normalised gradient descent and descent on √L follow flows to flatter minimisers"
READS = ("minimiser_sharpness", "predicted_log_sharpness_rate")
SHARPNESS, RATE = READS
ENTRY = 10
"""The prediction starts after the first 1/ENTRY of the records, as the claim's does."""


@style.house
def draw(tables: results.Tables) -> Figure:
    """λ₁ and its prediction over λ₁ where the prediction starts, a panel a rule."""
    chosen = results.networks(tables, *READS)
    figure, stacks = style.panel_grid(len(chosen), heights=(3.4,))
    handles = []
    for network, (axes,) in zip(chosen, stacks, strict=True):
        measured, predicted = _pair(tables, network)
        strong = results.strong_seed(tables, network, SHARPNESS)
        handles.append(style.draw_seeds(axes, measured, strong, style.BLUE, label="measured"))
        handles.append(
            style.draw_seeds(axes, predicted, strong, style.BLACK, (0, (1, 1.2)), label="flow")
        )
        axes.set(xlabel="step", xlim=(0, float(measured.index.max())))
        axes.set_title(base.case(network, chosen))
    style.common_limits([axes for (axes,) in stacks])
    style.label_rows(stacks, "λ₁ / λ₁ at the start of the flow")
    style.legend_below(figure, handles)
    return figure


def _pair(tables: results.Tables, network: results.Network) -> tuple[pd.DataFrame, pd.DataFrame]:
    """λ₁ at the minimisers, and exp ∫ rate, both over λ₁ where the flow starts."""
    sharpness, rate = (results.curves(tables, network, name).dropna() for name in READS)
    start = len(sharpness) // ENTRY
    late = rate.iloc[start:]
    spans = np.diff(late.index.to_numpy(float))[:, None]
    changes = np.cumsum(spans * (late.to_numpy()[1:] + late.to_numpy()[:-1]) / 2, axis=0)
    logs = np.vstack([np.zeros((1, late.shape[1])), changes])
    predicted = pd.DataFrame(np.exp(logs), late.index, late.columns)
    return sharpness / sharpness.iloc[start], predicted


def _ends(tables: results.Tables, network: results.Network) -> tuple[str, str]:
    return tuple(  # pyright: ignore[reportReturnType]
        ensemble.interval_text(frame.iloc[-1], base.confidence(tables))
        for frame in _pair(tables, network)
    )


def alt(tables: results.Tables) -> str:
    """What is seen, and where it ends."""
    chosen = results.networks(tables, *READS)
    ends = (f"{base.case(n, chosen)}: {' and '.join(_ends(tables, n))}" for n in chosen)
    return (
        "A panel a rule of the sharpness in time with a dotted prediction: under normalised "
        "gradient descent and under descent on √L both fall together, under gradient descent the "
        "measured one stays. Ends, measured "
        f"and predicted: {'; '.join(ends)}."
    )


def numbers(tables: results.Tables) -> dict[str, list] | None:
    """Measured and predicted ends."""
    columns = {
        "λ₁ at the end over the start of the flow": lambda n: _ends(tables, n)[0],
        "predicted": lambda n: _ends(tables, n)[1],
    }
    return base.numbers_table(tables, results.networks(tables, *READS), columns)


def caption(tables: results.Tables) -> str:
    """What is drawn, and the scale."""
    return base.join(
        "λ₁ at the minimiser nearby, product of four scalars, and (dotted) what the flow along "
        "the minimisers makes of it, d log λ₁ = −(η²/4) ‖P∇log λ₁‖² a step, and under descent on "
        "√L −(η²/8) λ₁ ‖P∇log λ₁‖². Gradient descent, whose steps vanish at a minimiser, "
        "is the control; there the dotted curve is the first flow.",
        base.seeds_sentence(tables, SHARPNESS),
        ensemble.scale_sentence(tables, width=False),
    )
