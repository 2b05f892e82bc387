"""Options of Fashion-MNIST."""

from typing import Annotated, ClassVar

from sharpflow.data.class_options import NumberedPictures
from sharpflow.parts.options import UserPath


class Options(NumberedPictures):
    """Fashion-MNIST, its pictures for training, from a local folder or from their source."""

    shape: ClassVar[tuple[int, int, int]] = (1, 28, 28)

    path: Annotated[
        str | None,
        UserPath(
            "data",
            pattern="train-*-ubyte*",
            advice="Give the folder of Fashion-MNIST's train-images-idx3-ubyte and "
            "train-labels-idx1-ubyte, plain or with .gz, or leave the key out to download them.",
        ),
    ] = None
    """Folder that holds `train-images-idx3-ubyte` and `train-labels-idx1-ubyte`, plain or with
    `.gz`; `null` downloads them (26 MB) to the cache, `$SHARPFLOW_CACHE` or
    `~/.cache/sharpflow`."""
