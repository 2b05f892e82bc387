"""Curvature, ours and the usual ways side by side: Gram matrix, Hessian, GD step, scaling.

Every baseline runs beside the work it is compared with, at the same steps, to the same residual.
Writes results/benchmarks.json and results/benchmarks.png.

    python -m benchmarks.curvature            # all of it
    python -m benchmarks.curvature --quick    # fewer steps and networks
"""

import argparse
import os
import platform
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import mse_loss

from benchmarks import baselines
from benchmarks.clock import best, matmul_rate, summary, timed
from benchmarks.picture import draw
from benchmarks.problems import SETTINGS, Setting, dense_problem, photos, uncompressed
from benchmarks.record import REPORT, record
from sharpflow.curvature import LinearOperator, SharpnessTracker, top_eigenpairs
from sharpflow.curvature.dense_curvature import DenseCurvature
from sharpflow.curvature.dense_inputs import prepare_inputs
from sharpflow.curvature.warm_start import WarmStart

TOLERANCE = 1e-3
PARTS = ("gram", "descent", "scaling", "hessian")
OURS, EIGSH, LOBPCG, CURVLINOPS, TRACKER = (
    "sharpflow",
    "cold eigsh, double backward",
    "warm LOBPCG, jvp(grad)",
    "cold eigsh, curvlinops",
    "SharpnessTracker on the module",
)


class DenseWalk:
    """A dense net of the workflow along gradient descent on compressed inputs."""

    def __init__(self, setting: Setting):
        data = photos(setting.samples)
        self.problem = dense_problem(setting.activation, 2 / setting.threshold, data)
        self.activation, self.basis = setting.activation, data["basis"]
        self.inputs, self.targets = data["inputs"].flatten(1), data["targets"]
        self.prepared = prepare_inputs(data["coordinates"], gram=True)
        self.state, self.step, self.warm = self.problem.initial_state(), 0, WarmStart()
        self.tracker: SharpnessTracker | None = None

    def advance(self, steps: int = 1) -> None:
        self.state = self.problem.advance(self.state, self.step, self.step + steps).state
        self.step += steps

    def weights(self) -> list[torch.Tensor]:
        return [self.state[f"weight{index}"][0] for index in range(3)]

    def model(self) -> torch.nn.Module:
        return uncompressed(self.weights(), self.activation, self.basis)

    def net(self) -> DenseCurvature:
        return DenseCurvature(self.weights(), self.activation, self.prepared)

    def operator(self) -> LinearOperator:
        net, scale = self.net(), 2 / len(self.targets)
        return net.hessian_operator(scale * (net.outputs - self.targets.squeeze(1)), scale)

    def measure(self):
        result = top_eigenpairs(self.operator(), tol=TOLERANCE, initial=self.warm.guess())
        self.warm.update(result.refined)
        return result

    def measure_module(self, model: torch.nn.Module):
        if self.tracker is None:
            self.moving = model
            self.tracker = SharpnessTracker(model, mse_loss, self.inputs, self.targets)
        self.moving.load_state_dict(model.state_dict())
        return self.tracker.measure(vectors=False)


class ModuleWalk:
    """Any module along gradient descent, measured by a SharpnessTracker."""

    def __init__(self, setting: Setting):
        data = photos(setting.samples)
        torch.manual_seed(0)
        self.network = setting.make()
        self.inputs, self.targets = data["inputs"], data["targets"]
        self.optimiser = torch.optim.SGD(self.network.parameters(), lr=2 / setting.threshold)
        self.tracker = SharpnessTracker(self.network, mse_loss, self.inputs, self.targets)

    def advance(self, steps: int = 1) -> None:
        for _ in range(steps):
            self.optimiser.zero_grad()
            mse_loss(self.network(self.inputs), self.targets).backward()
            self.optimiser.step()

    def model(self) -> torch.nn.Module:
        return self.network

    def measure(self):
        return self.tracker.measure()


def trajectory(name: str, steps: int, sampled: int) -> dict:
    """Hessian top eigenvalue at ``steps`` consecutive steps, and by the baselines beside it."""
    setting = SETTINGS[name]
    dense = setting.activation is not None
    walk = DenseWalk(setting) if dense else ModuleWalk(setting)
    walk.advance(setting.start)
    walk.measure()  # the one cold start of the run is not among the timed steps
    chosen = set(np.linspace(1, steps, sampled).round().astype(int))
    rows: dict[str, list[dict]] = {}
    last = None
    for step in range(1, steps + 1):
        walk.advance()
        model = walk.model()
        size = sum(p.numel() for p in model.parameters())
        data = (model, walk.inputs, walk.targets)
        check = baselines.double_backward(*data)

        def note(method, pair, wall, cpu, residual=None, step=step, check=check):
            value, vector, products = pair
            if residual is None:
                residual = np.linalg.norm(check(vector) - value * vector) / abs(value)
            rows.setdefault(method, []).append(
                {"step": step, "seconds": wall, "cpu_seconds": cpu, "products": products,
                 "residual": float(residual), "value": value}
            )  # fmt: skip
            return value, vector

        def note_ours(method, result, wall, cpu, note=note):
            value = float(result.values[0])
            pair = (value, None, result.matvecs)
            note(method, pair, wall, cpu, float(result.residuals[0]) / abs(value))

        note_ours(OURS, *timed(walk.measure))
        if dense and name == "dense tanh":
            note_ours(TRACKER, *timed(lambda m=model: walk.measure_module(m)))
        if dense and (step > 1 or last is None):
            product = baselines.forward_over_reverse(*data)
            if last is None:
                value, vector, _ = baselines.cold_eigsh(product, size, TOLERANCE, step)
            else:
                value, vector = last
                found = timed(lambda: baselines.warm_lobpcg(product, vector, value, TOLERANCE))  # noqa: B023
                value, vector = note(LOBPCG, *found)
            last = value, vector / np.linalg.norm(vector)
        if step in chosen:
            note(EIGSH, *timed(lambda: baselines.cold_eigsh(check, size, TOLERANCE, step)))  # noqa: B023
        # curvlinops 3.0.1 gives an asymmetric Hessian where there is a LayerNorm
        normalised = any(isinstance(m, torch.nn.LayerNorm) for m in model.modules())
        other = None if normalised else baselines.curvlinops_product(*data)
        if step == max(chosen) and other is not None:
            note(CURVLINOPS, *timed(lambda: baselines.cold_eigsh(other, size, TOLERANCE, step)))  # noqa: B023
    report = {method: summary(found) for method, found in rows.items()}
    for found in report.values():
        for kind in ("seconds", "cpu_seconds"):
            found[f"ratio_{kind}"] = found[kind] / report[OURS][kind]
    return {
        "network": name, "samples": setting.samples, "parameters": size,
        "threshold": setting.threshold, "first_step": setting.start + 1, "steps": steps,
        "methods": report,
    }  # fmt: skip


def gram(rows: int) -> dict:
    """Top pair of J Jᵀ: one backward pass a sample and ``eigh``, against the closed form."""
    walk = DenseWalk(SETTINGS["dense tanh"])
    walk.advance(SETTINGS["dense tanh"].start)
    warm = WarmStart()

    def ours():
        operator = LinearOperator.from_dense(walk.net().gram_matrix())
        result = top_eigenpairs(operator, tol=1e-4, initial=warm.guess())
        warm.update(result.refined)
        return result

    def advance_and_measure():
        walk.advance()
        return timed(ours)

    ours()
    found = [advance_and_measure() for _ in range(5)]
    model, count = walk.model(), len(walk.inputs)
    jacobian, loop, loop_cpu = timed(lambda: baselines.per_sample_gram(model, walk.inputs, rows))

    def spectrum():
        matrix = jacobian @ jacobian.T
        return torch.linalg.eigh(matrix).eigenvalues[-1]

    value, rest, rest_cpu = timed(spectrum)
    share = count / rows  # of the samples; the loop is linear in them
    seconds, cpu = share * loop + share**2 * rest, share * loop_cpu + share**2 * rest_cpu
    found += [advance_and_measure() for _ in range(5)]
    mine = float(np.median([wall for _, wall, _ in found]))
    mine_cpu = float(np.median([used for _, _, used in found]))
    matrix = walk_gram(model, walk.inputs) if rows < count else None
    exact = float(value) if matrix is None else float(torch.linalg.eigvalsh(matrix)[-1])
    at_model = found[4][0]
    return {
        "parameters": jacobian.shape[1], "samples": count, "loop_samples": rows,
        "baseline_seconds": seconds, "baseline_cpu_seconds": cpu,
        "seconds": mine, "cpu_seconds": mine_cpu,
        "products": float(np.mean([r.matvecs for r, _, _ in found])),
        "residual": float(max(r.residuals[0] / r.values[0] for r, _, _ in found)),
        "value": float(at_model.values[0]), "baseline_value": exact,
        "ratio_seconds": seconds / mine, "ratio_cpu_seconds": cpu / mine_cpu,
    }  # fmt: skip


def walk_gram(model: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """J Jᵀ of a stack on all its inputs, by the closed form without compression."""
    layers = [layer.weight.T for layer in model if hasattr(layer, "weight")]
    return DenseCurvature(layers, type(model[1]).__name__.lower(), inputs).gram_matrix()


def descent() -> dict:
    """A full-batch GD step: autograd on all pixels against the workflow's step."""
    walk = DenseWalk(SETTINGS["dense tanh"])
    model = walk.model()
    optimiser = torch.optim.SGD(model.parameters(), lr=2 / 400)

    def baseline():
        optimiser.zero_grad()
        mse_loss(model(walk.inputs), walk.targets).backward()
        optimiser.step()

    pairs = [(best(baseline, 5), best(walk.advance, 5)) for _ in range(4)]
    theirs, mine = (np.median([p[i] for p in pairs], axis=0) for i in range(2))
    return {
        "baseline_seconds": theirs[0], "baseline_cpu_seconds": theirs[1],
        "seconds": mine[0], "cpu_seconds": mine[1],
        "ratio_seconds": theirs[0] / mine[0], "ratio_cpu_seconds": theirs[1] / mine[1],
    }  # fmt: skip


def scaling(quick: bool) -> list[dict]:
    """One Hessian product and one Gram matrix of d-w-w-1 on compressed inputs, d = n."""
    sizes = [(n, 200) for n in (250, 500, 1000, 2000)]
    sizes += [(1000, w) for w in (50, 100, 400, 800, 1600)]
    rows = []
    for n, width in sizes[:3] if quick else sizes:
        inputs = prepare_inputs(torch.randn(n, n).tril(), gram=True)
        shapes = [(n, width), (width, width), (width, 1)]
        weights = [torch.randn(a, b) / a**0.5 for a, b in shapes]
        net = DenseCurvature(weights, "tanh", inputs)
        operator = net.hessian_operator(net.outputs / n, 2 / n)
        vector = torch.randn(net.size)
        product, _ = best(lambda: operator @ vector)  # noqa: B023
        matrix, _ = best(lambda: DenseCurvature(weights, "tanh", inputs).gram_matrix())  # noqa: B023
        rate = matmul_rate(repeats=3)
        kept = inputs.product.kept
        flops = 4 * n * kept * n * width + 12 * n * width**2
        work = (
            2 * n * width * (kept * n + 2 * width) + 4 * n * n * width * 0.625
        )  # blocks of rows up to the diagonal
        rows.append(
            {"samples": n, "width": width, "parameters": net.size,
             "product_seconds": product, "product_fraction": flops / product / 1e9 / rate,
             "gram_seconds": matrix, "gram_fraction": work / matrix / 1e9 / rate,
             "gflop_per_second": rate}
        )  # fmt: skip
    return rows


def show(report: dict) -> None:
    """The tables, in words."""
    for part in ("gram", "descent"):
        if part in report:
            print(f"\n{part}: " + ", ".join(f"{k} {v:.4g}" for k, v in report[part].items()))
    for entry in report.get("hessian", []):
        print(
            f"\n{entry['network']}: {entry['parameters']:,} parameters, n = {entry['samples']}, "
            f"2/η = {entry['threshold']:g}, steps {entry['first_step']}–"
            f"{entry['first_step'] + entry['steps'] - 1}"
        )
        print(f"  {'':32s}{'steps':>6s}{'ms':>9s}{'CPU ms':>9s}{'products':>10s}"
              f"{'residual':>10s}{'× ours':>8s}{'CPU':>7s}")  # fmt: skip
        for method, row in entry["methods"].items():
            print(
                f"  {method:32s}{row['steps']:6d}{1e3 * row['seconds']:9.1f}"
                f"{1e3 * row['cpu_seconds']:9.1f}{row['products']:10.1f}{row['residual']:10.1e}"
                f"{row['ratio_seconds']:8.1f}{row['ratio_cpu_seconds']:7.1f}"
            )
    if "scaling" not in report:
        return
    print(f"\n{'n':>6s}{'width':>7s}{'parameters':>12s}{'product ms':>12s}{'of matmul':>11s}"
          f"{'Gram ms':>9s}{'of matmul':>11s}")  # fmt: skip
    for row in report["scaling"]:
        print(
            f"{row['samples']:6d}{row['width']:7d}{row['parameters']:12,d}"
            f"{1e3 * row['product_seconds']:12.2f}{row['product_fraction']:11.2f}"
            f"{1e3 * row['gram_seconds']:9.2f}{row['gram_fraction']:11.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps, networks and sizes")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, help="steps of a trajectory (default 50; quick 6)")
    parser.add_argument("--networks", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--output", type=Path, default=REPORT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    steps = options.steps or (6 if options.quick else 50)
    networks = ["dense tanh", "residual net"] if options.quick else options.networks
    report = {
        "command": "python -m benchmarks.curvature" + " --quick" * options.quick,
        "threads": options.threads, "torch": torch.__version__, "machine": platform.machine(),
        "tolerance": TOLERANCE, "gflop_per_second": matmul_rate(),
    }  # fmt: skip

    def write() -> None:
        record(report, options.output)

    work = {
        "gram": lambda: gram(100 if options.quick else 1000),
        "descent": descent,
        "scaling": lambda: scaling(options.quick),
    }
    for part, measure in work.items():
        if part in options.parts:
            report[part] = measure()
    write()
    if "hessian" in options.parts:
        report["hessian"] = []
        for name in networks:
            report["hessian"].append(trajectory(name, steps, 1 if options.quick else 3))
            write()
    report["gflop_per_second_at_the_end"] = matmul_rate()
    write()
    if {"hessian", "scaling"} <= report.keys():
        draw(report, options.output.with_suffix(".png"))
    show(report)
    print(f"\nmatrix product: {report['gflop_per_second']:.0f} GFLOP/s; wrote {options.output}")


if __name__ == "__main__":
    main()
