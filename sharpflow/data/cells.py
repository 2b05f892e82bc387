"""What is said of a cell of a table; light to import."""

from collections.abc import Sequence

from sharpflow.parts.words import nearest


def refusal(path: str, place: str, column: str, cell: str, target: bool) -> str:
    """The sentence that names a cell that is no finite number.

    Args:
        path: of the table.
        place: row or line.
        column: its name.
        cell: what it holds, as it is to be shown.
        target: whether the column is one of targets.
    """
    advice = (
        "where its cells name classes, write task: classes; else mend the file"
        if target
        else "mend the file, or leave the column out: `inputs` lists those that are taken"
    )
    return (
        f"{path}, {place}: the column {column!r} has {cell} where a finite number is needed; "
        f"{advice}."
    )


def no_column(path: str, name: str, known: Sequence[str]) -> str:
    """What is said where a table has no column of a name."""
    more = ", …" if len(known) > 20 else ""
    listed = ", ".join(known[:20])
    return f"{path} has no column {name!r}; it has {listed}{more}.{nearest(name, known)}"
