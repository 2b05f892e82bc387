"""One substep of the central flow with two tracked eigenvalues, ours and the usual way.

The usual way is that of the paper's authors: block LOBPCG, warm started, on products by reverse
over forward mode, and third derivatives by two nested forward derivatives under a reverse one, a
pair at a time. Both go along the same path on the same inputs, compressed ones and, for the usual
way, the pixels too; the complementarity problem is solved by our solver in both. The network has
two outputs, the second of which learns a random labelling, so that two eigenvalues are of one size.
CPU and wall milliseconds. Writes to results/benchmarks.json.

    python -m benchmarks.flows            # both sizes
    python -m benchmarks.flows --quick    # the smaller one, fewer substeps
    python -m benchmarks.flows --errors   # what substeps of several lengths err by
    python -m benchmarks.flows --solver   # the complementarity problem alone
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, grad_and_value, jvp, vmap

from benchmarks.clock import best, timed
from benchmarks.problems import photos
from benchmarks.record import REPORT, record
from benchmarks.specs import part, shard
from sharpflow.flows import (
    CentralFlow,
    FlowState,
    GradientDescent,
    Point,
    complement,
    problem_objective,
    problem_rule,
)
from sharpflow.flows.central_flow import Substep
from sharpflow.flows.pairs import packed, pairs
from sharpflow.models.input_product import InputProduct
from sharpflow.training import Problem

SIZES = {"n = 400, width 100": (400, 100), "n = 1,000, width 200": (1000, 200)}
THRESHOLD, CRITICAL, LENGTH, START = 420.0, 0.6, 0.5, 10
RESIDUAL = 1e-3
THEIRS = 1e-10
"""Tolerance of the authors' solver, which they multiply by 10 p (‖Hv‖ + λ)."""
Loss = Callable[[Tensor], Tensor]


def squared_error(inputs: Tensor, targets: Tensor, shapes: list[torch.Size]) -> Loss:
    """The loss of a tanh net with two hidden layers as a function of a flat vector."""
    sizes = [shape.numel() for shape in shapes]

    def loss(weights: Tensor) -> Tensor:
        parts = zip(weights.split(sizes), shapes, strict=True)
        first, second, last = (each.view(shape) for each, shape in parts)
        outputs = torch.tanh(torch.tanh(inputs @ first) @ second) @ last
        return (outputs - targets).square().sum(1).mean()

    return loss


def products(loss: Loss, weights: Tensor) -> Callable[[Tensor], Tensor]:
    """Hessian products with a block (p, b): the gradient of a forward derivative, vectorised."""

    def one(vector: Tensor) -> Tensor:
        return grad(lambda w: jvp(loss, (w,), (vector,))[1])(weights)

    return vmap(one, 1, 1)


def lobpcg(
    multiply: Callable[[Tensor], Tensor], start: Tensor, enough: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor, int]:
    """Largest eigenpairs by LOBPCG: Rayleigh-Ritz on vectors, residuals and last directions.

    Args:
        multiply: products with a block.
        start: (p, k).
        enough: the residuals (k,) that are accepted, of values and of products.

    Returns:
        Values, vectors, and the number of products.
    """
    count = start.shape[1]
    vectors, before, spent = torch.linalg.qr(start)[0], None, 0
    while True:
        images = multiply(vectors)
        spent += count
        values = (vectors * images).sum(0)
        residuals = images - values * vectors
        if spent > 1000 or bool((residuals.norm(dim=0) < enough(values, images)).all()):
            return values, vectors, spent
        blocks = [vectors, residuals] + ([] if before is None else [before])
        basis = torch.linalg.qr(torch.cat(blocks, 1))[0]
        projected = basis.T @ multiply(basis)
        spent += basis.shape[1]
        mixture = torch.linalg.eigh((projected + projected.T) / 2)[1][:, -count:].flip(1)
        following = basis @ mixture
        before = following - vectors @ (vectors.T @ following)
        vectors = following


def usual(
    loss: Loss, weights: Tensor, start: Tensor, rule: GradientDescent, tolerance: float | None
) -> tuple[Tensor, Tensor, dict[str, float]]:
    """A substep the usual way: weights after it, eigenvectors, CPU seconds by part."""
    rate = rule.learning_rate

    def enough(values: Tensor, images: Tensor) -> Tensor:
        if tolerance is not None:
            return tolerance * values.abs()
        return THEIRS * 10 * len(weights) * (images.norm(dim=0) + values)

    def along(u: Tensor, v: Tensor) -> Tensor:
        def once(w: Tensor) -> Tensor:
            return jvp(loss, (w,), (u,))[1]

        return grad(lambda w: jvp(once, (w,), (v,))[1])(weights)

    (slope, _), _, first = timed(lambda: grad_and_value(loss)(weights))
    found, _, second = timed(lambda: lobpcg(products(loss, weights), start, enough))
    values, vectors, spent = found
    u = vectors
    forces, _, third = timed(
        lambda: torch.stack([along(u[:, i], u[:, j]) for i, j in pairs(u.shape[1])])
    )

    def move() -> Tensor:
        level = np.diag((2 / rate - values).numpy())
        level = packed(level) + LENGTH * rate * (forces @ slope).numpy()
        steep = (0.5 * LENGTH * rate * forces @ forces.T).double().numpy()
        constant = np.array([[level[0], level[1]], [level[1], level[2]]], dtype=np.float64)
        held = packed(complement(constant, steep).matrix) * np.array([1.0, 2.0, 1.0])
        return weights - LENGTH * rate * (slope + 0.5 * torch.from_numpy(held).float() @ forces)

    after, _, last = timed(move)
    parts = {"gradient": first, "eigenpairs": second, "third derivatives": third, "rest": last}
    return after, vectors, parts | {"products": spent}


def ours(flow: CentralFlow, state: FlowState) -> tuple[FlowState, dict[str, float]]:
    """A substep of ours: the state after it, CPU seconds by part."""
    objective = flow.objective

    def pass_() -> tuple[Point, Tensor]:
        point = objective.at(state.weights)
        return point, point.gradient

    (point, _), _, first = timed(pass_)
    found, _, second = timed(lambda: flow.eigenpairs(point, state))
    at = state.starting(found.warm)
    piece, _, third = timed(lambda: Substep(objective, flow.rule, point, at, found, flow.critical))
    moved, _, last = timed(lambda: piece.take(LENGTH))
    assert len(moved.complement.matrix) == 2, "two eigenvalues are to be tracked"
    after = replace(at, weights=at.weights + moved.motion, time=at.time + LENGTH)
    parts = {"gradient": first, "eigenpairs": second, "third derivatives": third, "rest": last}
    return after, parts | {"products": found.products}


def multiplications(samples: int, width: int, kept: float, outputs: int = 2) -> float:
    """Multiplications in thousands of millions of what a substep with two eigenvalues must do.

    Two gradients, one product with each of two vectors, and third derivatives of three pairs whose
    passes of first order are those of the products, in passes of n times inputs times width (of
    triangular inputs, a share `kept`) and of n w (w + 2).
    """
    first, others = samples * samples * width * kept, samples * width * (width + outputs)
    gradient = 2 * first + 3 * others
    product = 2 * first + 6 * others
    third = 3 * first + 3 * (2 + 3 + 2) * others
    return (2 * gradient + 2 * product + third) / 1e9


def matrix_rate(size: int = 500) -> float:
    """Matrix products of this machine now, in GFLOP a CPU second."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    out = torch.empty(size, size)
    return 2 * size**3 / best(lambda: torch.mm(a, b, out=out), 9)[1] / 1e9


def middle(values: list[float]) -> float:
    """Mean of the middle half."""
    cut = len(values) // 4
    return mean(sorted(values)[cut : len(values) - cut])


def compared(samples: int, width: int, steps: int) -> dict[str, dict[str, float]]:
    """Means over consecutive substeps of every way, in CPU and wall seconds."""
    data = dict(photos(samples))
    signs = torch.randint(2, (samples, 1), generator=torch.Generator().manual_seed(0)) * 2.0 - 1
    data["targets"] = torch.cat([data["targets"], signs.to(data["targets"])], 1)
    options = part("models", "mlp", hidden_layers=2, activation="tanh")
    problem = Problem(shard(options, width, 2 / THRESHOLD, steps=10**4), data)
    objective, rule = problem_objective(problem), GradientDescent(2 / THRESHOLD)
    flow = CentralFlow(objective, rule, critical=CRITICAL, check_every=10**6)
    state = flow.start(time=3.0)
    for _ in range(START):
        state = flow.step(state).state
    tensors = list(objective.named(objective.start).values())
    shapes = [tensor.shape for tensor in tensors]
    compressed = squared_error(data["coordinates"], data["targets"], shapes)
    basis = data["basis"]
    full = squared_error(
        data["inputs"].flatten(1), data["targets"],
        [torch.Size([basis.shape[0], width]), *shapes[1:]],
    )  # fmt: skip

    def lifted(weights: Tensor) -> Tensor:
        first = weights[: shapes[0].numel()].view(shapes[0])
        return torch.cat([(basis @ first).reshape(-1), weights[shapes[0].numel() :]])

    ways = {
        "usual way, residual 1e-3": (compressed, lambda w: w, RESIDUAL),
        "usual way, the authors' tolerance": (compressed, lambda w: w, None),
        "usual way, on pixels, the authors' tolerance": (full, lifted, None),
    }
    starts = {name: torch.stack([lift(v) for v in state.vectors[:, :2].T], 1)
              for name, (_, lift, _) in ways.items()}  # fmt: skip
    rows: dict[str, list[dict[str, float]]] = {"sharpflow": []} | {name: [] for name in ways}
    for step in range(steps + 1):
        weights = state.weights.float()
        (state, parts), wall, cpu = timed(lambda state=state: ours(flow, state))
        found = {"sharpflow": parts | {"wall": wall, "cpu": cpu}}
        for name, (loss, lift, tolerance) in ways.items():
            here, start = lift(weights), starts[name]
            done, wall, cpu = timed(
                lambda here=here, loss=loss, start=start, tolerance=tolerance: usual(
                    loss, here, start, rule, tolerance
                )
            )
            after, starts[name], parts = done
            gap = float((after - lift(state.weights.float())).norm() / (after - here).norm())
            found[name] = parts | {"wall": wall, "cpu": cpu, "distance": gap}
        if step:  # the first has cold caches
            for name, row in found.items():
                rows[name].append(row)
    report = {}
    for name, each in rows.items():
        report[name] = {key: middle([row[key] for row in each]) for key in each[0]}
    least = report["sharpflow"]["cpu"]
    for row in report.values():
        row["ratio"] = row["cpu"] / least
    kept = InputProduct(data["coordinates"]).kept
    report["sharpflow"]["gmul"] = multiplications(samples, width, kept)
    return report


def errors(steps: int = 3, finest: int = 6) -> list[dict[str, float]]:
    """How far substeps of a length end from much shorter ones, over the way that they go.

    On the photographs, n = 400, width 100, tanh, 2/η = 400, over three steps from step 70 on, where
    one eigenvalue is at the threshold.
    """
    options = part("models", "mlp", hidden_layers=2, activation="tanh")
    problem = Problem(shard(options, 100, 2 / 400, steps=10**4), photos(400))
    flow = CentralFlow(problem_objective(problem), problem_rule(problem, 0))
    state = flow.start()
    for _ in range(70):
        state = flow.step(state).state
    loose = CentralFlow(flow.objective, flow.rule, tol=1e9, check_every=10**6)
    ends, begun = {}, state.weights
    for power in range(finest, 0, -1):
        now, taken = state, 0
        for _ in range(steps):
            done = loose.step(replace(now, substep=1.0, longest=2.0**-power))
            now, taken = done.state, taken + done.observation.substeps
        ends[power] = (now.weights, taken / steps)
    exact = ends.pop(finest)[0]
    way = float((exact - begun).norm())
    return [
        {"substeps": taken, "error": float((weights - exact).norm()) / way}
        for weights, taken in ends.values()
    ]


def solver(problems: int = 20) -> dict[int, float]:
    """CPU seconds of a complementarity problem, by its number of eigenvalues."""
    draw, found = np.random.default_rng(0), {}
    for count in (2, 3, 5, 8):
        size, made = len(pairs(count)), []
        for _ in range(problems):
            level, forces = draw.normal(size=(count, count)), draw.normal(size=(size, 3 * size))
            made.append((level + level.T, forces @ forces.T))
        found[count] = best(lambda made=made: [complement(*each) for each in made])[1] / problems
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the smaller size, three substeps")
    parser.add_argument("--solver", action="store_true", help="only the solver's time")
    parser.add_argument("--errors", action="store_true", help="only what substeps err by")
    parser.add_argument("--steps", type=int, default=8, help="substeps that are timed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.solver:
        times = solver()
        for count, seconds in times.items():
            print(f"{count} eigenvalues: {1e3 * seconds:.2f} ms")
        record({"flow_solver": {str(k): v for k, v in times.items()}}, options.output)
        return
    if options.errors:
        rows = errors()
        for row in rows:
            print(f"{row['substeps']:5.0f} substeps a step: {row['error']:.1e}")
        record({"flow_errors": rows}, options.output)
        return
    sizes = list(SIZES)[:1] if options.quick else list(SIZES)
    report = {}
    for name in sizes:
        rate = matrix_rate()
        found = compared(*SIZES[name], 4 if options.quick else options.steps)
        row = found["sharpflow"]
        row["rate"] = (rate + matrix_rate()) / 2
        row["fraction"] = 2 * row["gmul"] / row["cpu"] / row["rate"]
        report[name] = found
        print(f"\n{name}: CPU ms of a substep (products)")
        for way, each in found.items():
            parts = ", ".join(f"{key} {1e3 * each[key]:.1f}" for key in (
                "gradient", "eigenpairs", "third derivatives", "rest"))  # fmt: skip
            print(f"  {way:46s}{1e3 * each['cpu']:8.1f} ({each['products']:.1f})  "
                  f"{each['ratio']:5.1f} ×   {parts}")  # fmt: skip
        share, rate = row["fraction"], row["rate"]
        print(f"  {share:.2f} of the rate of a matrix product of 500, {rate:.0f} GFLOP/s")
    record({"flows": {"threads": options.threads, "sizes": report}}, options.output)
    print(f"\nwrote {options.output}")


if __name__ == "__main__":
    main()
