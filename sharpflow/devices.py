"""Where a job computes: the device, the precision of its products, and whether its memory suffices.

Nothing here is CUDA's alone but the settings that only CUDA has: any device that PyTorch knows and
that has float64 will do. `prepare` changes settings of the whole process and is for jobs; the
library calls the rest.
"""

import fcntl
import os
import socket
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

from sharpflow.errors import ConfigError, ResourceError, first_line

_GIB = 2**30
_GUIDE = "docs/how-to/gpu.md says how one is asked for"
_LESS = (
    "lower seeds_per_job, samples or the width, let fewer jobs share the device (jobs_per_gpu), or "
    "set device: cpu."
)
_held: list[IO[str]] = []  # open for as long as the process lives


def resolve(name: str) -> torch.device:
    """The device of a name; `auto` is CUDA where there is one.

    Args:
        name: `auto`, `cpu`, `cuda`, `cuda:1`, or another name that PyTorch knows.

    Raises:
        ConfigError: there is no such device here, or it has no float64.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        module: Any = None if device.type == "cpu" else torch.get_device_module(device)
    except RuntimeError:
        raise ConfigError(
            f"device = {name!r} is none that PyTorch computes on; use auto, cpu, cuda or cuda:1."
        ) from None
    if module is None:
        return device
    if not module.is_available():
        raise ConfigError(f"device = {name}: {_absence(device)}; {_GUIDE}, or set device: cpu.")
    count = module.device_count()
    if (device.index or 0) >= count:
        raise ConfigError(
            f"device = {name}: {socket.gethostname()} has {count} of them, numbered from 0, or "
            "shows this job no more."
        )
    try:
        torch.empty(0, dtype=torch.float64, device=device)
    except TypeError:
        raise ConfigError(
            f"device = {name}: it has no float64, in which thresholds, projections and sums are "
            "computed; set device: cpu."
        ) from None
    return device


def _absence(device: torch.device) -> str:
    if device.type == "cuda" and torch.version.cuda is None and torch.version.hip is None:
        return f"PyTorch {torch.__version__} is installed without CUDA, so that it uses no GPU"
    return f"PyTorch finds no {device.type} device on {socket.gethostname()}"


def describe(device: torch.device) -> str:
    """Kind and model of a device: `cpu`, or `cuda (NVIDIA A100-SXM4-40GB)`."""
    if device.type == "cpu":
        return "cpu"
    return f"{device.type} ({_module(device).get_device_name(device)})"


def _module(device: torch.device) -> Any:
    return torch.get_device_module(device)


# --- settings of a job's process


def prepare(name: str) -> torch.device:
    """The device of a job, with the settings under which its numbers come again.

    On a GPU float32 products are IEEE's and not TF32's, cuDNN does not choose algorithms by the
    clock, and deterministic algorithms are taken where PyTorch has them; it warns in the log where
    not. Of several GPUs `cuda` is the one with the fewest jobs. On the CPU nothing is changed.

    Raises:
        ConfigError: there is no such device here, or it has no float64.
    """
    device = resolve(name)
    if device.type == "cpu":
        return device
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.backends.fp32_precision = "ieee"  # pyright: ignore[reportAttributeAccessIssue]
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    filling: Any = torch.utils.deterministic  # every empty tensor, by default
    filling.fill_uninitialized_memory = False
    if device.index is None:
        module = _module(device)
        device = torch.device(device.type, least_taken(_names(device)))
        module.set_device(device)
    return device


def _names(device: torch.device) -> list[str]:
    """What tells each device of a kind from all others of the machine."""
    module = _module(device)
    if module.device_count() == 1:
        return [device.type]
    properties = (module.get_device_properties(i) for i in range(module.device_count()))
    return [str(getattr(each, "uuid", i)) for i, each in enumerate(properties)]


def least_taken(names: Sequence[str], folder: Path | None = None) -> int:
    """Index of the device that the fewest live jobs of this user took; it is taken until the end.

    Args:
        names: of the devices, the same for every job of the machine.
        folder: of the locks, on a file system of this machine; by default one for temporary files.
    """
    if len(names) == 1:
        return 0
    folder = folder or Path(tempfile.gettempdir()) / f"sharpflow-devices-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    place = 0
    while True:
        for index, name in enumerate(names):
            handle = open(folder / f"{name}.{place}", "w", encoding="utf-8")  # noqa: SIM115 (held to the end)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.close()
                continue
            _held.append(handle)
            return index
        place += 1


# --- precision


def reduced_products(device: torch.device, convolutions: bool = False) -> str | None:
    """The setting by which float32 products on a device are rounded to fewer bits, if there is one.

    Args:
        device: that the tensors are on.
        convolutions: whether convolutions and recurrent layers count, which PyTorch by default
            computes in TF32.
    """
    if device.type != "cuda":
        return None
    switches: list[tuple[str, Any]] = [("torch.backends.cuda.matmul", torch.backends.cuda.matmul)]
    if convolutions:
        cudnn: Any = torch.backends.cudnn
        parts = [(f"torch.backends.cudnn.{n}", getattr(cudnn, n, None)) for n in ("conv", "rnn")]
        switches += [part for part in parts if part[1] is not None] or [
            ("torch.backends.cudnn", cudnn)
        ]
    for name, switch in switches:
        # PyTorch before 2.9 has the older of two names; to read it after the newer was set fails
        newer = getattr(switch, "fp32_precision", None)
        if newer == "tf32" or (newer is None and switch.allow_tf32):
            return f"{name}.{'allow_tf32' if newer is None else 'fp32_precision'}"
    return None


def warn_of_reduced_products(
    device: torch.device, dtype: torch.dtype, convolutions: bool = False
) -> None:
    """Warn where curvature in float32 would be measured with products in TF32, of 10 bits."""
    if dtype != torch.float32:
        return
    setting = reduced_products(device, convolutions)
    if setting is not None:
        warnings.warn(
            f"{setting} lets float32 products be rounded to TF32, 10 bits: eigenvalues may be off "
            "by 1e-3 and residuals stop falling there. Set it to "
            f"{'False' if setting.endswith('allow_tf32') else repr('ieee')} around the "
            "measurement, or measure with dtype=torch.float64.",
            stacklevel=2,
        )


# --- memory


def check_memory(device: torch.device, needed: Callable[[], int], what: str) -> None:
    """Refuse work that the device has no room for.

    Args:
        device: where it is to be done; the CPU's memory is not looked at.
        needed: gives the bytes that it takes at least.
        what: names the work.

    Raises:
        ResourceError: fewer bytes are free.
    """
    if device.type == "cpu":
        return
    free, total = _module(device).mem_get_info(device)
    if (least := needed()) > free:
        raise ResourceError(
            f"{what} takes at least {least / _GIB:.3g} GiB on {describe(device)}, of whose "
            f"{total / _GIB:.3g} GiB {free / _GIB:.3g} are free: {_LESS}"
        )


@contextmanager
def memory_explained(device: torch.device, what: str) -> Iterator[None]:
    """Say in a sentence what a device says whose memory is full.

    Raises:
        ResourceError: the device's memory was full.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            f"{what} found the memory of {describe(device)} full ({first_line(error)}): {_LESS}"
        ) from error
