"""Files that are missing between others that are there."""

from collections.abc import Callable, Iterable


def gaps(files: Iterable[tuple[str, str]], exists: Callable[[str], bool]) -> list[str]:
    """The missing files that Snakemake would not make by itself.

    It makes a missing target and what a job that has to run reads, and leaves a missing file alone
    if what was made from it is there. Where that is missing too, its own job makes the file anew.

    Args:
        files: each with one file that a job makes from it directly; in the end they lead to a
            target.
        exists: whether a file is there.
    """
    return [file for file, product in files if not exists(file) and exists(product)]
