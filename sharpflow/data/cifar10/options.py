"""Options of CIFAR-10."""

from typing import Annotated, ClassVar

from sharpflow.data.class_options import NumberedPictures
from sharpflow.parts.options import UserPath


class Options(NumberedPictures):
    """CIFAR-10, official binary version, from a local folder or from its source."""

    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)

    path: Annotated[
        str | None,
        UserPath(
            "data",
            pattern="data_batch_*.bin",
            advice="Give the folder of the unpacked binary version of CIFAR-10 "
            "(cifar-10-batches-bin), or leave the key out to download it.",
        ),
    ] = None
    """Folder that holds `data_batch_*.bin`, absolute, or relative to the paper's folder or the
    working directory; `null` downloads the archive (170 MB) to the cache, `$SHARPFLOW_CACHE` or
    `~/.cache/sharpflow`."""
