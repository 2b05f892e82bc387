"""Spectral densities by stochastic Lanczos quadrature, ours and the peers', and their errors."""

import warnings
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from scipy.stats import wasserstein_distance
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.clock import timed
from benchmarks.contestants import OURS, State
from benchmarks.models import Decoder, Net, descend, text
from sharpflow.curvature import LinearOperator, hessian_operator, spectral_density

DRAWS, LANCZOS = 8, 40
NETS = {
    "small decoder": Net(lambda: Decoder(12, 8, 8, 1, 2), partial(text, 16, 8, 12), 0.2),
    "decoder": Net(lambda: Decoder(64, 32, 64, 2, 4), text, 0.2),
}
"""The small one has a dense spectrum to compare with."""
Rules = tuple[np.ndarray, np.ndarray]


def hessian_of(state: State) -> LinearOperator:
    """Hessian in the model's dtype."""
    inputs, targets = state.net.data()
    params = dict(state.model.named_parameters())
    return hessian_operator(
        lambda p: state.net.loss_fn(torch.func.functional_call(state.model, p, (inputs,)), targets),
        params,
    )


def ours(state: State) -> Rules:
    """Nodes and weights, (draws, steps)."""
    found = spectral_density(hessian_of(state), DRAWS, LANCZOS)
    return found.nodes, found.weights


def eigenthings(state: State) -> Rules:
    """Those of hessian-eigenthings."""
    from hessian_eigenthings import HessianOperator, spectral_density, supervised_loss

    operator = HessianOperator(state.model, state.parts, supervised_loss(state.net.loss_fn))
    with sdpa_kernel(SDPBackend.MATH):
        found = spectral_density(operator, num_runs=DRAWS, lanczos_steps=LANCZOS, seed=state.seed)
    return found.raw_eigenvalues.numpy(), found.raw_weights.numpy()


def pyhessian(state: State) -> Rules:
    """Those of PyHessian."""
    from pyhessian import hessian

    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.simplefilter("ignore")  # of a gradient with a graph
        found = hessian(state.model, state.net.loss_fn, data=state.parts[0], cuda=False)
        nodes, weights = found.density(iter=LANCZOS, n_v=DRAWS)
    return np.array(nodes), np.array(weights)


def distance(rules: Rules, eigenvalues: np.ndarray) -> float:
    """∫ |F − F̂| dλ over the width of the spectrum: the earth mover's distance of two spectra."""
    nodes, weights = (np.nan_to_num(each).ravel() for each in rules)
    width = float(eigenvalues.max() - eigenvalues.min())
    return float(wasserstein_distance(nodes, eigenvalues, u_weights=weights)) / width


CONTESTANTS: dict[str, Callable[[State], Rules]] = {
    OURS: ours,
    "hessian-eigenthings": eigenthings,
    "PyHessian": pyhessian,
}


def densities(repeats: int = 3) -> dict[str, Any]:
    """CPU seconds in turns, and the distance from the dense spectrum of the small net."""
    report: dict[str, Any] = {}
    for name, net in NETS.items():
        model = net.build()
        descend(model, net, 50)
        state = State(model, net)
        rows: dict[str, list[float]] = {}
        rules: dict[str, Rules] = {}
        fails: dict[str, str] = {}
        for _ in range(repeats):
            for who, work in CONTESTANTS.items():
                try:
                    rules[who], _, seconds = timed(partial(work, state.apart()))
                    rows.setdefault(who, []).append(seconds)
                except (RuntimeError, AttributeError) as error:
                    fails[who] = str(error).splitlines()[0]
        found: dict[str, Any] = {"parameters": sum(p.numel() for p in model.parameters())}
        ours_first = rows[OURS]
        found["ratios"] = {
            who: median(a / b for a, b in zip(times, ours_first, strict=True))
            for who, times in rows.items()
        }
        found["fails"] = fails
        if found["parameters"] < 2000:
            exact = torch.linalg.eigvalsh(hessian_of(state).to_dense().double()).numpy()
            found["distance"] = {who: distance(each, exact) for who, each in rules.items()}
        report[name] = found
    return report
