"""Two processes of `torch.distributed` on one machine, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist


@contextmanager
def one_of_two(rank: int, folder: str) -> Iterator[None]:
    """Within, the process is one of two that meet in a folder; they end together, and soon after.

    The group is left to the end of the process: to destroy it may hang in PyTorch 2.5.
    """
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    yield
    dist.barrier()
