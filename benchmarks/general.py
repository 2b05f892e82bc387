"""Curvature of any net, beside PyHessian, hessian-eigenthings and curvlinops.

All costs are CPU times in those of steps of gradient descent that are timed beside them, so that a
machine that does other work too, or is slower for a while, changes little. A peer gets, of the
settings of its ladder, the cheapest at which its answers are right at every state where it is
timed.

    python -m benchmarks.general                       # all but the large decoder
    python -m benchmarks.general --quick               # two nets, ten steps
    python -m benchmarks.general --only cold topten    # some rows
    python -m benchmarks.general --large               # the decoder of 25 million parameters
"""

import argparse
import platform
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from torch.func import functional_call

from benchmarks.clock import timed
from benchmarks.contestants import (
    ACCURACY,
    COLD,
    HELP,
    OURS,
    TOP_TEN,
    WARM,
    Answer,
    Contestant,
    State,
    stopping,
)
from benchmarks.density import densities
from benchmarks.memory import large, streaming
from benchmarks.models import NETS, Net, descend
from benchmarks.record import REPORT, record
from sharpflow.curvature import (
    EigenResult,
    LinearOperator,
    SharpnessTracker,
    hessian_operator,
    top_eigenpairs,
)

ROWS = ("tracker", "cold", "topten", "stream", "density")
PHASES = ("early", "edge")
EARLY = 5
TOP, RESIDUAL = 10, 1e-3
Judge = Callable[[State, Answer], float]


def double_hessian(state: State) -> LinearOperator:
    """Hessian in float64."""
    model = state.apart().model.double()
    inputs, targets = state.net.data()
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    params = dict(model.named_parameters())
    return hessian_operator(
        lambda p: state.net.loss_fn(functional_call(model, p, (inputs,)), targets), params
    )


def eigenvalue_error(references: dict[int, float], state: State, answer: Answer) -> float:
    """Relative error, over what is allowed."""
    return abs(float(answer.values[0]) / references[id(state)] - 1) / ACCURACY


def largest_residual(
    operators: dict[int, LinearOperator], bounds: dict[int, float], state: State, answer: Answer
) -> float:
    """Over what is allowed; infinite where one of the top pairs is missing."""
    vectors = answer.vectors
    assert vectors is not None
    v = vectors.double() / vectors.double().norm(dim=0)
    values = torch.as_tensor(answer.values).double()
    if values.min() < bounds[id(state)]:
        return float("inf")
    residuals = (operators[id(state)] @ v - v * values).norm(dim=0)
    return float((residuals / values.abs()).max()) / RESIDUAL


def attempt(contestant: Contestant, state: State, setting: Any, helps: list[str]) -> Answer:
    """An answer; where the call fails for lack of a derivative, with the help that it then needs.

    Raises:
        RuntimeError: it fails with every help.
    """
    while True:
        try:
            with HELP[helps[0]]():
                return contestant.solve(state, setting)
        except (RuntimeError, NotImplementedError, ValueError) as error:
            if len(helps) == 1:
                raise RuntimeError(str(error).splitlines()[0][:200]) from None
            helps.pop(0)


def calibrate(contestant: Contestant, states: list[State], judge: Judge) -> dict[str, Any]:
    """The cheapest setting at which all answers are right, or what goes wrong."""
    helps, worst, seen = list(HELP), float("nan"), []
    for setting in contestant.ladder:
        try:
            seen = [attempt(contestant, s.apart(), setting, helps) for s in states]
        except (RuntimeError, ArithmeticError) as error:
            return {"fails": str(error)}
        worst = max(judge(s, answer) for s, answer in zip(states, seen, strict=True))
        if worst <= 1:
            return {"setting": setting, "help": helps[0], "error": worst}
    values = [float(answer.values[0]) for answer in seen]
    return {"wrong": worst, "setting": contestant.ladder[-1], "values": values}


def contest(
    contestants: dict[str, Contestant], states: list[State], judge: Judge, repeats: int
) -> dict[str, dict[str, Any]]:
    """Costs of contestants in gradient-descent steps, in turns at every state."""
    report = {name: calibrate(each, states, judge) for name, each in contestants.items()}
    able = {name: each for name, each in contestants.items() if "error" in report[name]}
    rows: dict[str, list[tuple[float, int]]] = {name: [] for name in able}
    for _ in range(repeats):
        for state in states:
            for name, each in able.items():
                copy, helps = state.apart(), [report[name]["help"]]
                step = beside(state)
                found, _, seconds = timed(
                    partial(attempt, each, copy, report[name]["setting"], helps)
                )
                rows[name].append((seconds / median([step, beside(state)]), found.products))
    for name, found in rows.items():
        report[name] |= {
            "steps": median(cost for cost, _ in found),
            "products": mean(products for _, products in found),
        }
    return report


def beside(state: State) -> float:
    """CPU seconds of a step of gradient descent from a state, which stays as it is."""
    copy = state.apart().model
    descend(copy, state.net)
    return median(timed(partial(descend, copy, state.net))[2] for _ in range(3))


def tracker_of(model: torch.nn.Module, net: Net) -> SharpnessTracker:
    """One that stops at an eigenvalue that is right to 1 %."""
    return SharpnessTracker(model, net.loss_fn, *net.data(), **stopping(0.03))


def walk_to(phase: str, net: Net, most: int = 600) -> tuple[torch.nn.Module, int]:
    """The net early in training, or where its sharpness has crossed 2/η from below."""
    model = net.build()
    descend(model, net, EARLY)
    if phase == "early":
        return model, EARLY
    below, tracker = False, tracker_of(model, net)
    for step in range(EARLY, most, 5):
        value = float(tracker.measure().values[0])
        if below and value >= 2 / net.learning_rate:
            return model, step
        below = value < 2 / net.learning_rate
        descend(model, net, 5)
    raise ValueError(f"the sharpness does not cross 2/η within {most} steps.")


def follow(phase: str, net: Net, steps: int, sampled: int) -> dict[str, Any]:
    """A tracker along consecutive steps; and all, cold and warm, at some of them."""
    model, start = walk_to(phase, net)
    tracker = tracker_of(model, net)
    last: EigenResult = tracker.measure()
    chosen = set(np.linspace(1, steps, sampled + 1).round().astype(int)[1:])
    states, errors, costs, descents, products = [], [], [], [], []
    references: dict[int, float] = {}
    for step in range(1, steps + 1):
        descents.append(timed(partial(descend, model, net))[2])
        before = last.refined
        last, _, seconds = timed(tracker.measure)
        costs.append(seconds)
        products.append(last.matvecs)
        state = State(model, net, seed=step, before=before)
        exact = float(top_eigenpairs(double_hessian(state)).values[0])  # from a random start
        errors.append(abs(float(last.values[0]) / exact - 1))
        if step in chosen:
            states.append(state.apart())
            references[id(states[-1])] = exact
    nearby = [median(descents[max(0, i - 2) : i + 3]) for i in range(steps)]
    cold = [State(s.model, net, seed=s.seed) for s in states]
    references |= {id(c): references[id(s)] for c, s in zip(cold, states, strict=True)}
    judge = partial(eigenvalue_error, references)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "threshold": 2 / net.learning_rate, "first_step": start + 1, "steps": steps,
        "tracker": {
            "steps": mean(c / d for c, d in zip(costs, nearby, strict=True)),
            "median_steps": median(c / d for c, d in zip(costs, nearby, strict=True)),
            "products": mean(products),
            "error": max(errors) / ACCURACY,
            "corrections": tracker.corrections,
        },
        "reference": [references[id(s)] for s in states],
        "cold": contest(COLD, cold, judge, 2),
        "warm": contest(WARM, states, judge, 2),
    }  # fmt: skip


def from_random(phase: str, net: Net, starts: int = 3) -> dict[str, Any]:
    """A first measurement from random starts, by differences where they agree and by autograd."""
    model, step = walk_to(phase, net)
    state = State(model, net)
    exact = float(top_eigenpairs(double_hessian(state), tol=1e-5).values[0])
    report: dict[str, Any] = {"step": step}
    for products in (None, "autograd"):
        rows = []
        for seed in range(starts):
            generator = torch.Generator().manual_seed(seed)
            options = stopping(0.03) | {"products": products, "generator": generator}

            def measure(options: dict[str, Any] = options) -> tuple[SharpnessTracker, EigenResult]:
                tracker = SharpnessTracker(model, net.loss_fn, *net.data(), **options)
                return tracker, tracker.measure()

            before = beside(state)
            (tracker, found), _, seconds = timed(measure)
            cost = 2 * seconds / (before + beside(state))
            error = abs(float(found.values[0]) / exact - 1)
            rows.append((cost, found.matvecs, error, tracker.shortcuts))
        costs, counts, errors, shortcuts = zip(*rows, strict=True)
        report[products or "default"] = {
            "steps": costs, "products": counts, "error": max(errors), "shortcuts": sum(shortcuts),
        }  # fmt: skip
    return report


def top_ten(net: Net) -> dict[str, Any]:
    """The ten largest eigenpairs early in training, all to a relative residual of 1e-3."""
    model, _ = walk_to("early", net)
    state = State(model, net, k=TOP)
    operator = double_hessian(state)
    reference = top_eigenpairs(operator, TOP, tol=1e-5).values
    bound = float(reference[-1]) * (1 - 2 * RESIDUAL)
    judge = partial(largest_residual, {id(state): operator}, {id(state): bound})
    report = contest(TOP_TEN, [state], judge, 3)
    return {"values": reference.tolist(), "contestants": report}


def best_peer(found: dict[str, dict[str, Any]]) -> tuple[str, float]:
    """The cheapest of the peers that answer rightly."""
    able = {name: row["steps"] for name, row in found.items() if name != OURS and "steps" in row}
    return min(able.items(), key=lambda pair: pair[1]) if able else ("none", float("nan"))


def told(name: str, row: dict[str, Any]) -> str:
    """A line about a contestant."""
    if "fails" in row:
        return f"    {name:34s}fails: {row['fails'][:110]}"
    if "steps" not in row:
        return f"    {name:34s}wrong by {row['wrong']:.3g} of what is allowed"
    helped = f" ({row['help']})" if row["help"] else ""
    return (
        f"    {name:34s}{row['steps']:8.1f} steps{row['products']:7.1f} products, "
        f"error {row['error']:.2f}, setting {row['setting']}{helped}"
    )


def show_tracker(name: str, phase: str, row: dict[str, Any]) -> None:
    """What was found along a trajectory."""
    mine, peers = row["tracker"], row["cold"] | row["warm"]
    peer, cost = best_peer(peers)
    print(
        f"\n{name}, {phase}: {row['parameters']:,} parameters, steps {row['first_step']}–"
        f"{row['first_step'] + row['steps'] - 1}, λ {row['reference']}, 2/η {row['threshold']:g}\n"
        f"  tracker: {mine['steps']:.2f} steps a measurement (median {mine['median_steps']:.2f}), "
        f"{mine['products']:.2f} products, error {mine['error']:.2f} of 1 %, "
        f"corrections {mine['corrections']}; best peer {peer}: {cost / mine['steps']:.1f} ×"
    )
    cold = row["cold"][OURS]
    if "steps" in cold:
        peer, cost = best_peer(row["cold"])
        print(f"  cold: {cold['steps']:.1f} steps; best peer {peer}: {cost / cold['steps']:.2f} ×")
    for each, found in peers.items():
        print(told(each, found), flush=True)


def show_top(name: str, row: dict[str, Any]) -> None:
    """What was found of the ten largest."""
    found = row["contestants"]
    peer, cost = best_peer(found)
    ours = found[OURS].get("steps", float("nan"))
    print(f"\n{name}, top {TOP}: best peer {peer}: {cost / ours:.2f} ×")
    for each, line in found.items():
        print(told(each, line), flush=True)


def tried(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` gives, or the error that ours ends in: a net that is refused is listed so."""
    try:
        return work()
    except ValueError as error:
        return {"refused": str(error)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two nets, ten steps")
    parser.add_argument("--large", action="store_true", help="the large decoder, and no more")
    parser.add_argument("--only", nargs="*", choices=ROWS, default=ROWS)
    parser.add_argument("--networks", nargs="*", choices=NETS, default=list(NETS))
    parser.add_argument("--phases", nargs="*", choices=PHASES, default=PHASES)
    parser.add_argument("--steps", type=int, help="steps of a trajectory (default 50; quick 10)")
    parser.add_argument("--sampled", type=int, help="steps with peers (default 3; quick 1)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    steps = options.steps or (10 if options.quick else 50)
    sampled = options.sampled or (1 if options.quick else 3)
    networks = ["cnn", "decoder"] if options.quick else options.networks
    about = {
        "threads": options.threads, "torch": torch.__version__, "machine": platform.machine(),
        "stopping": stopping(0.03),
    }  # fmt: skip

    def keep(part: str, row: dict[str, Any]) -> None:
        record({f"general, {part}": about | row}, options.output)

    if options.large:
        row = large(options.threads)
        keep("large", row)
        print(row)
        return
    for name, phase in _pairs(networks, options.phases, "tracker" in options.only):
        row = tried(partial(follow, phase, NETS[name], steps, sampled))
        keep(f"{name}, {phase}", row)
        if "refused" in row:
            print(f"\n{name}, {phase}: refused: {row['refused']}", flush=True)
        else:
            show_tracker(name, phase, row)
    for name, phase in _pairs(networks, options.phases, "cold" in options.only):
        row = tried(partial(from_random, phase, NETS[name]))
        keep(f"{name}, {phase}, cold", row)
        print(f"\n{name}, {phase}, cold: {row}", flush=True)
    for name in networks if "topten" in options.only else ():
        row = tried(partial(top_ten, NETS[name]))
        keep(f"{name}, top {TOP}", row)
        if "refused" in row:
            print(f"\n{name}, top {TOP}: refused: {row['refused']}", flush=True)
        else:
            show_top(name, row)
    if "stream" in options.only:
        row = streaming(options.threads)
        keep("streaming", row)
        print(f"\nstreaming: {row}", flush=True)
    if "density" in options.only:
        row = densities()
        keep("density", row)
        print(f"\ndensity: {row}", flush=True)


def _pairs(
    networks: Iterable[str], phases: Iterable[str], wanted: bool
) -> Iterable[tuple[str, str]]:
    return [(name, phase) for name in networks for phase in phases] if wanted else []


if __name__ == "__main__":
    main()
