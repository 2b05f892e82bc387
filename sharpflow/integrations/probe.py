"""The fixed samples that the sharpness along a training is measured on."""

from collections.abc import Callable, Iterable, Sized
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, IterableDataset, Subset

from sharpflow.curvature.model_loss import random_state_kept


def training_samples(
    loader: Any, samples: int, batch_size: int | None = None, share: tuple[int, int] = (0, 1)
) -> DataLoader:
    """Some samples of a loader's data set, chosen once by a fixed seed, in batches.

    They are read from the data set itself: the loader, its sampler and its workers are untouched.

    Args:
        loader: a `DataLoader`, or what has its `dataset`, `collate_fn` and `batch_size`.
        samples: their number; all where the data set has fewer.
        batch_size: of the probe; by default the loader's.
        share: (r, w) for every w-th of them from the r-th on, that of process r of w.

    Raises:
        ValueError: there is no data set with numbered samples, no known batch size, or no sample.
    """
    dataset, collate = getattr(loader, "dataset", None), getattr(loader, "collate_fn", None)
    if collate is None or isinstance(dataset, IterableDataset) or not isinstance(dataset, Sized):
        raise ValueError(
            f"the training data are a {type(loader).__name__} without numbered samples; give "
            "probe, batches to measure on."
        )
    sampler = getattr(loader, "batch_sampler", None)
    size = batch_size or getattr(loader, "batch_size", None) or getattr(sampler, "batch_size", None)
    if size is None:
        raise ValueError("the batch size of the training data is not known; give batch_size.")
    stream = torch.Generator().manual_seed(0)
    rank, processes = share
    chosen = torch.randperm(len(dataset), generator=stream)[:samples].tolist()[rank::processes]
    if not chosen:
        raise ValueError(f"{samples} samples of {len(dataset)} leave none for process {rank}.")
    picked = Subset(cast("Any", dataset), chosen)
    return DataLoader(picked, batch_size=size, collate_fn=collate)


def held(batches: Iterable[Any], place: Callable[[Any], Any]) -> list[Any]:
    """The batches, read once and kept; the random state of the process stays where it was.

    Args:
        batches: read once, so they may be shuffled or augmented.
        place: moves a batch to where the model is.
    """
    with random_state_kept(range(torch.cuda.device_count())):
        return [place(batch) for batch in batches]
