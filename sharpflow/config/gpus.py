"""The GPUs of this machine, counted without PyTorch, and what a job is to ask for."""

import ctypes

from sharpflow.errors import ConfigError


def _without_cuda(torch: str) -> bool:
    return "+cpu" in torch


def count(torch: str) -> int:
    """Number of NVIDIA GPUs that this process may use with a version of PyTorch.

    It is what the driver says; 0 without a driver, or where that PyTorch has no CUDA.
    """
    if _without_cuda(torch):
        return 0
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    number = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(number)):
        return 0
    return number.value


def wanted(device: str, here: int | None) -> int:
    """GPUs that a training or evaluation job asks for: 1 or 0.

    Args:
        device: as the configuration names it.
        here: GPUs of the machine that runs the jobs, or None if jobs are sent to others: of these
            `auto` asks for none.
    """
    return int(device.startswith("cuda") or (device == "auto" and bool(here)))


def check(device: str, here: int, torch: str) -> None:
    """Refuse jobs on this machine that ask for a GPU that it has not.

    Args:
        device: as the configuration names it.
        here: GPUs of this machine.
        torch: version of PyTorch.

    Raises:
        ConfigError: one paragraph that says what to change.
    """
    if not device.startswith("cuda"):
        return
    if _without_cuda(torch):
        reason = f"PyTorch {torch} is installed without CUDA"
    elif here == 0:
        reason = "this machine has no GPU, or shows none"
    elif int(device.partition(":")[2] or 0) >= here:
        reason = f"this machine has {here}, numbered from 0"
    else:
        return
    raise ConfigError(
        f"device = {device}: {reason}. Set device: auto or cpu (--config device=cpu for one run), "
        "or send the jobs to machines with GPUs by a cluster's profile; see docs/how-to/gpu.md."
    )
