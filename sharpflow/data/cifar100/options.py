"""Options of CIFAR-100."""

from typing import Annotated, ClassVar, Literal

from sharpflow.data.class_options import NumberedPictures
from sharpflow.parts.options import UserPath


class Options(NumberedPictures):
    """CIFAR-100, official binary version, from a local folder or from its source."""

    shape: ClassVar[tuple[int, int, int]] = (3, 32, 32)

    path: Annotated[
        str | None,
        UserPath(
            "data",
            pattern="train.bin",
            advice="Give the folder of the unpacked binary version of CIFAR-100 "
            "(cifar-100-binary), or leave the key out to download it.",
        ),
    ] = None
    """Folder that holds `train.bin`, absolute, or relative to the paper's folder or the working
    directory; `null` downloads the archive (169 MB) to the cache, `$SHARPFLOW_CACHE` or
    `~/.cache/sharpflow`."""
    labels: Literal["fine", "coarse"] = "fine"
    """`fine`: 100 classes; `coarse`: the 20 superclasses that they are grouped into."""

    @property
    def available(self) -> int:
        """Number of classes that there are."""
        return 100 if self.labels == "fine" else 20

    @property
    def label(self) -> str:
        """How the page and file names call it."""
        return f"{self.labels}-{self.scaling}"
