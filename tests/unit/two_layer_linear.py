"""Gradient descent on the two-layer linear network f(x) = Aᵀ W x, written out, as a run table."""

import functools

import numpy as np
import pandas as pd

SAMPLES = 20


@functools.cache
def run(seed: int, learning_rate: float = 0.35, steps: int = 260) -> dict[str, np.ndarray]:
    """Curves by quantity, and `second_order`, (4η²/n²) ‖HᵀD‖², each of shape (steps,)."""
    generator = np.random.default_rng(seed)
    inputs = np.concatenate(
        [generator.normal(0, 1, (SAMPLES, 1)), generator.normal(0, 0.1, (SAMPLES, 4))], axis=1
    )
    inputs[:, 0] *= np.sqrt(SAMPLES) / np.linalg.norm(inputs[:, 0])
    labels = np.sign(inputs[:, 0])
    inner = generator.normal(0, 0.3, (12, 5))
    outer = generator.normal(0, 0.15, 12)
    curves: dict[str, list[float]] = {}
    previous = None
    for _ in range(steps):
        hidden = inputs @ inner.T
        outputs = hidden @ outer
        residual = outputs - labels
        gram = outer @ outer * inputs @ inputs.T + hidden @ hidden.T
        values, vectors = np.linalg.eigh(gram)
        first = vectors[:, -1]
        push = hidden.T @ residual
        recorded = {
            "gauss_newton_sharpness": 2 / SAMPLES * values[-1],
            "second_eigenvalue": 2 / SAMPLES * values[-2],
            "output_layer_sharpness": 2 / SAMPLES * np.linalg.norm(hidden, 2) ** 2,
            "output_norm_squared": outer @ outer,
            "residual_dot_outputs": residual @ outputs,
            "residual_along_v1": residual @ first,
            "eigenvector_alignment": np.nan if previous is None else abs(first @ previous),
            "loss": residual @ residual / SAMPLES,
            "stability_threshold": 2 / learning_rate,
            "second_order": 4 * learning_rate**2 / SAMPLES**2 * push @ push,
        }
        for name, value in recorded.items():
            curves.setdefault(name, []).append(float(value))
        previous = first
        factor = 2 * learning_rate / SAMPLES
        inner = inner - factor * np.outer(outer, residual @ inputs)
        outer = outer - factor * push
    return {name: np.array(values) for name, values in curves.items()}


def table(seeds: int = 3, learning_rates: tuple[float, ...] = (0.35,), case: str = "linear"):
    """Run table of the seeds 1 to `seeds`; all of them cross and return at the default rate."""
    parts = []
    for learning_rate in learning_rates:
        for seed in range(1, seeds + 1):
            key = {"case": case, "width": 12, "learning_rate": learning_rate, "seed": seed}
            for name, values in run(seed, learning_rate).items():
                quantity, index = (
                    ("gauss_newton_sharpness", 1) if name == "second_eigenvalue" else (name, 0)
                )
                rows = {"step": np.arange(values.size), "quantity": quantity, "index": index}
                parts.append(pd.DataFrame({**key, **rows, "value": values}).dropna())
            parts.append(
                pd.DataFrame(
                    [{**key, "step": 0, "quantity": "samples", "index": 0, "value": SAMPLES}]
                )
            )
    return pd.concat(parts, ignore_index=True).astype({"value": float})
