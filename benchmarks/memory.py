"""Peak memory and time of curvature, each case in a process of its own.

For memory the C library is told to give large arrays back to the system at once, so that the
largest resident size of a process is what its tensors held, not what was freed before; times that
are compared are taken without that, which makes arrays dearer. Linux only.

    python -m benchmarks.memory CASE THREADS     # one case, as JSON
"""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from benchmarks.clock import timed
from benchmarks.contestants import ACCURACY, State, sharpflow, stopping
from benchmarks.models import Decoder, Net, cnn, descend, images, text
from sharpflow.curvature import SharpnessTracker

BATCHES = 50
STREAM = Net(cnn, partial(images, 1000), 0.13)
LARGE = Net(lambda: Decoder(12_000, 128, 512, 6, 8), partial(text, 4, 128, 12_000), 0.1)


def resident() -> int:
    """Bytes that the process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """The most bytes that the process has held since it forgot its peak."""
    (line,) = (
        s
        for s in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        if "VmHWM" in s
    )
    return 1024 * int(line.split()[1])


def trained(net: Net, steps: int = 20) -> tuple[nn.Module, int]:
    """A net after some steps, and the bytes that the process holds then."""
    model = net.build()
    descend(model, net, steps)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # forgets the peak: see proc(5)
    return model, resident()


def stream_case(split: bool) -> dict[str, float]:
    """Sharpness to 1 % over all samples at once, or over as many in batches."""
    model, before = trained(STREAM)
    batches = None
    if split:
        inputs, targets = STREAM.data()
        batches = list(zip(inputs.chunk(BATCHES), targets.chunk(BATCHES), strict=True))
    found, wall, cpu = timed(partial(sharpflow, State(model, STREAM, batches=batches), 0.03))
    return {
        "value": float(found.values[0]), "products": found.products, "seconds": wall,
        "cpu_seconds": cpu, "bytes": peak() - before,
    }  # fmt: skip


def gradients_case() -> dict[str, float]:
    """CPU time of a gradient alone, over the batches and over all samples: the least of 5 in turns.

    What small batches cost by themselves: the whole keeps its graph too, for all products.
    """
    model, _ = trained(STREAM)
    inputs, targets = STREAM.data()
    batches = list(zip(inputs.chunk(BATCHES), targets.chunk(BATCHES), strict=True))
    params = list(model.parameters())

    def gradient(parts: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        for x, y in parts:
            torch.autograd.grad(STREAM.loss_fn(model(x), y), params)

    rounds = [
        [timed(partial(gradient, parts))[2] for parts in ([(inputs, targets)], batches)]
        for _ in range(6)
    ]
    whole, streamed = (min(times) for times in zip(*rounds[1:], strict=True))
    return {"whole": whole, "streamed": streamed}


def graph_case(net: Net) -> dict[str, float]:
    """What a gradient with a graph holds, and the seconds of a training step."""
    model, before = trained(net, 2)
    inputs, targets = net.data()
    loss = net.loss_fn(model(inputs), targets)
    kept = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
    held = resident() - before
    del kept, loss
    times = [timed(partial(descend, model, net))[1:] for _ in range(3)]
    return {
        "bytes": held,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": median(wall for wall, _ in times),
        "cpu_seconds": median(cpu for _, cpu in times),
    }


def written_out(net: Net) -> dict[str, float]:
    """The same with attention written out, which is what has a second derivative."""
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return graph_case(net)


def large_case() -> dict[str, float]:
    """A tracker's first measurement and its next, a step of descent later."""
    model, before = trained(LARGE, 2)
    tracker = SharpnessTracker(model, LARGE.loss_fn, *LARGE.data(), **stopping(0.03))
    cold, wall, cpu = timed(tracker.measure)
    most = peak() - before
    first = {
        "value": float(cold.values[0]), "products": cold.matvecs, "converged": cold.converged,
    }  # fmt: skip
    del cold  # what a caller keeps of the first result is no part of the next measurement
    descend(model, LARGE)
    warm, warm_wall, warm_cpu = timed(tracker.measure)
    return first | {
        "seconds": wall, "cpu_seconds": cpu, "bytes": most,
        "warm_products": warm.matvecs, "warm_seconds": warm_wall, "warm_cpu_seconds": warm_cpu,
        "warm_bytes": peak() - before,
    }  # fmt: skip


CASES: dict[str, Callable[[], dict[str, float]]] = {
    "whole": partial(stream_case, False),
    "streamed": partial(stream_case, True),
    "gradients": gradients_case,
    "batch graph": partial(
        written_out, Net(cnn, lambda: tuple(t[:20] for t in images(1000)), 0.13)
    ),
    "whole graph": partial(written_out, STREAM),
    "large graph": partial(written_out, LARGE),
    "large": large_case,
}


def apart(case: str, threads: int, memory: bool = True) -> dict[str, Any]:
    """A case in a process of its own.

    Args:
        case: one of `CASES`.
        threads: of PyTorch.
        memory: whether its bytes are what is wanted, and not its time.

    Raises:
        RuntimeError: it fails.
    """
    names = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_") if memory else ()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", case, str(threads)],
        capture_output=True, text=True, env=os.environ | dict.fromkeys(names, "65536"), check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{case} ends with {done.returncode}: {done.stderr[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])


def streaming(threads: int, repeats: int = 9) -> dict[str, Any]:
    """Fifty batches against the whole: CPU time in turns, and memory beyond data and model."""
    pairs = [
        [apart(case, threads, False) for case in ("whole", "streamed")] for _ in range(repeats)
    ]
    whole, streamed = pairs[0]
    if abs(streamed["value"] / whole["value"] - 1) > 2 * ACCURACY:
        found = f"{streamed['value']} over batches, {whole['value']} of the whole"
        raise RuntimeError(f"the values differ: {found}.")
    alone = apart("gradients", threads, False)
    held = ("whole", "streamed", "whole graph", "batch graph")
    return {
        "ratio_a_product": median(
            (b["cpu_seconds"] / b["products"]) / (a["cpu_seconds"] / a["products"])
            for a, b in pairs
        ),
        "ratio": median(b["cpu_seconds"] / a["cpu_seconds"] for a, b in pairs),
        "ratio_of_gradients": alone["streamed"] / alone["whole"],
        "products": {"whole": whole["products"], "streamed": streamed["products"]},
        "bytes": {case: apart(case, threads)["bytes"] for case in held},
    }


def large(threads: int) -> dict[str, Any]:
    """A decoder of 25 million parameters, one batch of 4 × 128 tokens."""
    graph, measured = apart("large graph", threads), apart("large", threads)
    numbers = 4 * graph["parameters"]
    return {
        "parameters": graph["parameters"],
        "graph_in_P": graph["bytes"] / numbers,
        "peak_beyond_graph_in_P": (measured["bytes"] - graph["bytes"]) / numbers,
        "warm_peak_beyond_graph_in_P": (measured["warm_bytes"] - graph["bytes"]) / numbers,
        "training_steps_cold": measured["cpu_seconds"] / graph["cpu_seconds"],
        "training_steps_warm": measured["warm_cpu_seconds"] / graph["cpu_seconds"],
        "measured": measured,
        "training_step_seconds": graph["seconds"],
    }


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[2]))
    print(json.dumps(CASES[sys.argv[1]]()))
