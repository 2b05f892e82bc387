"""Estimators of trace, diagonal and Frobenius norm, ours and curvlinops', at equal products.

Root mean square errors over seeds, as shares of ‖H‖_F, on dense operators of known spectra and on
the Hessian of a network at its initialisation and trained. Writes results/estimators.md.

    python -m benchmarks.estimators            # all of it
    python -m benchmarks.estimators --quick    # fewer seeds
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import curvlinops
import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from sharpflow.curvature import LinearOperator, hessian_operator, trace
from sharpflow.curvature.diagonal import diagonal
from sharpflow.curvature.estimators import frobenius_norm

SIZE = 600
REPORT = Path("results/estimators.md")
Method = Callable[[Tensor, int, int], Tensor]


def ours(estimator: Callable, share: float | None) -> Method:
    """An estimator of ours, whose subspace takes a share of the products (None: its default)."""

    def run(matrix: Tensor, products: int, seed: int) -> Tensor:
        size = None if share is None else int(share * products)
        generator = torch.Generator().manual_seed(seed)
        operator = LinearOperator.from_dense(matrix)
        found = estimator(operator, products, 1, generator, basis_size=size)
        return found.values if hasattr(found, "values") else torch.tensor(found.value).double()

    return run


def theirs(estimator: Callable) -> Method:
    def run(matrix: Tensor, products: int, seed: int) -> Tensor:
        torch.manual_seed(seed)
        return estimator(matrix, products)

    return run


def root(estimator: Callable) -> Callable:
    return lambda matrix, products: estimator(matrix, products).sqrt()


METHODS: dict[str, dict[str, Method]] = {
    "trace": {
        "Hutchinson": ours(trace, 0),
        "Hutch++, 1/8": ours(trace, 1 / 8),
        "Hutch++, 1/3": ours(trace, 1 / 3),
        "XTrace (default)": ours(trace, None),
        "curvlinops hutchinson": theirs(curvlinops.hutchinson_trace),
        "curvlinops hutchpp": theirs(curvlinops.hutchpp_trace),
        "curvlinops xtrace": theirs(curvlinops.xtrace),
    },
    "diagonal": {
        "Bekas": ours(diagonal, 0),
        "Diag++, 1/8": ours(diagonal, 1 / 8),
        "Diag++, 1/3": ours(diagonal, 1 / 3),
        "XDiag (default)": ours(diagonal, None),
        "curvlinops hutchinson": theirs(curvlinops.hutchinson_diag),
        "curvlinops xdiag": theirs(curvlinops.xdiag),
    },
    "Frobenius norm": {
        "draws of Hv": ours(frobenius_norm, 0),
        "Hutch++, 1/8": ours(frobenius_norm, 1 / 8),
        "Hutch++, 1/3 (default)": ours(frobenius_norm, None),
        "curvlinops hutchinson": theirs(root(curvlinops.hutchinson_squared_fro)),
    },
}
TRUTHS = {
    "trace": torch.trace,
    "diagonal": torch.diagonal,
    "Frobenius norm": torch.linalg.matrix_norm,
}


def rotated(values: np.ndarray) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(drawn).Q
    return basis @ torch.diag(torch.as_tensor(values)) @ basis.T


def network(steps: int) -> Tensor:
    """Hessian of a small classifier on clustered samples after some steps of momentum."""
    torch.manual_seed(0)
    labels = torch.arange(150) % 5
    inputs = (torch.randn(5, 20)[labels] + torch.randn(150, 20)).double()
    model = nn.Sequential(nn.Linear(20, 18), nn.GELU(), nn.LayerNorm(18), nn.Linear(18, 5)).double()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(steps):
        optimiser.zero_grad()
        cross_entropy(model(inputs), labels).backward()
        optimiser.step()
    return hessian_operator(
        lambda p: cross_entropy(functional_call(model, p, (inputs,)), labels),
        dict(model.named_parameters()),
    ).to_dense()


def matrices() -> dict[str, Tensor]:
    draw = np.random.default_rng(0)
    outliers = np.concatenate([np.logspace(1.3, 0, 10), draw.normal(0, 0.02, SIZE - 10)])
    return {
        "flat, 1 … 3": rotated(np.linspace(1, 3, SIZE)),
        "0.8^i": rotated(0.8 ** np.arange(SIZE)),
        "i^-2": rotated(1 / np.arange(1.0, SIZE + 1) ** 2),
        "10 outliers, bulk about 0": rotated(outliers),
        "indefinite, normal": rotated(draw.normal(0, 1, SIZE)),
        "network, initial": network(0),
        "network, trained": network(200),
    }


def error(method: Method, matrix: Tensor, truth: Tensor, products: int, seeds: int) -> float:
    scale = torch.linalg.matrix_norm(matrix)
    errors = [method(matrix, products, seed) - truth for seed in range(seeds)]
    squares = torch.stack([e.square().sum() for e in errors])
    return float(squares.mean().sqrt() / scale)


def table(quantity: str, spectra: dict[str, Tensor], products: int, seeds: int) -> list[str]:
    methods = METHODS[quantity]
    lines = [
        f"## {quantity}, {products} products\n",
        f"| spectrum | {' | '.join(methods)} |",
        "|---" * (len(methods) + 1) + "|",
    ]
    for name, matrix in spectra.items():
        truth = TRUTHS[quantity](matrix)
        cells = [f"{error(m, matrix, truth, products, seeds):.1e}" for m in methods.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    seeds = 10 if parser.parse_args().quick else 40
    torch.set_num_threads(1)
    spectra = matrices()
    lines = [
        f"# Root mean square errors / ‖H‖_F, P = {SIZE} (networks: 600 or so), {seeds} seeds\n"
    ]
    for quantity in METHODS:
        for products in (24, 48, 96):
            lines += table(quantity, spectra, products, seeds)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
