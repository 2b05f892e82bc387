"""Curves out of long tables."""

import numpy as np
import pandas as pd


def values(table: pd.DataFrame, quantity: str, seed: int, index: int = 0) -> np.ndarray:
    """One quantity of one run, by step."""
    rows = table[
        (table["quantity"] == quantity) & (table["seed"] == seed) & (table["index"] == index)
    ]
    return rows.sort_values("step")["value"].to_numpy()
