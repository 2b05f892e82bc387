"""The benchmark's picture: seconds a step by method, and scaling."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def draw(report: dict, path: Path) -> None:
    """Write the picture of a report to ``path``."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    entries = report["hessian"]
    methods = list(dict.fromkeys(m for entry in entries for m in entry["methods"]))
    height = 0.8 / len(methods)
    for index, method in enumerate(methods):
        found = [
            (row + index * height, entry["methods"][method]["seconds"])
            for row, entry in enumerate(entries)
            if method in entry["methods"]
        ]
        left.barh(*zip(*found, strict=True), height=height, label=method)
    left.set_yticks([r + 0.4 for r in range(len(entries))], [e["network"] for e in entries])
    left.set(xscale="log", xlabel="seconds a step")
    left.set_title(f"Hessian top eigenvalue, relative residual ≤ {report['tolerance']:g}")
    left.invert_yaxis()
    left.legend(fontsize=7)
    rows = sorted(report["scaling"], key=lambda row: row["parameters"])
    for key, label, marker in [("product", "Hessian product", "o"), ("gram", "Gram matrix", "s")]:
        for mark, kept in [("", [r for r in rows if r["samples"] == 1000])]:
            right.plot(
                [r["parameters"] for r in kept],
                [r[f"{key}_seconds"] for r in kept],
                marker=marker,
                label=label + mark,
            )
    right.set(xscale="log", yscale="log", xlabel="parameters (n = 1,000)", ylabel="seconds")
    right.set_title("Dense nets on compressed inputs")
    right.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)
