"""From arrays that a user gives to the tensors of a dataset."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sharpflow.data.base import first_rows, input_tensors, real, reason
from sharpflow.data.labelled import choose_labels, label_tensors
from sharpflow.errors import DataError

_MOST = 1_000_000
_FORMS = {
    "vectors": "(n, d)",
    "images": "(n, channels, rows, columns)",
    "tokens": "(n, length)",
}


def dataset(
    inputs: Any, answers: Any, names: tuple[str, str], spec: Mapping[str, Any], where: str
) -> dict[str, Tensor]:
    """The tensors of a dataset from its inputs and targets or labels.

    Args:
        inputs: array or tensor of the form `input_form`.
        answers: array or tensor: for regression (n,) or (n, k) numbers, for classes (n,) and for
            next_token (n, length) whole numbers from 0.
        names: what messages call inputs and answers.
        spec: the options `input_form`, `task`, `samples`, `classes`, `vocabulary` and those of
            `label_tensors`.
        where: what messages call the file.

    Returns:
        Inputs, with coordinates and basis or a vocabulary, and targets or labels.

    Raises:
        DataError: a shape, a type or a number is not of what it must be.
    """
    found = _array(inputs, names[0], where)
    given = _array(answers, names[1], where)
    form = spec["input_form"]
    _check_shape(found, _FORMS[form], names[0], where)
    if len(found) != len(given):
        raise DataError(
            f"{where}: {names[0]} has {len(found)} samples and {names[1]} has {len(given)}; they "
            "must be as many."
        )
    if form == "tokens":
        _check_whole(found, names[0], where, spec["vocabulary"] or _MOST)
    rows, tensors = _answers(given, found.shape, names[1], spec, where)
    if form != "tokens":
        return input_tensors(real(found[rows], names[0], where, rows)) | tensors
    largest = max(found.max(), given.max() if spec["task"] == "next_token" else 0)
    vocabulary = torch.tensor(spec["vocabulary"] or int(largest) + 1)
    if spec["task"] == "next_token":
        tensors["classes"] = vocabulary
    tokens = torch.from_numpy(found[rows].astype(np.int64))
    return {"inputs": tokens, "vocabulary": vocabulary} | tensors


def _answers(
    given: np.ndarray, shape: tuple[int, ...], name: str, spec: Mapping[str, Any], where: str
) -> tuple[np.ndarray, dict[str, Tensor]]:
    """Rows that are taken, and their targets or labels."""
    if spec["task"] == "regression":
        given = given[:, None] if given.ndim == 1 else given
        _check_shape(given, "(n, k)", name, where)
        rows = first_rows(len(given), spec["samples"], where)
        return rows, {"targets": real(given[rows], name, where)}
    if spec["task"] == "next_token":
        if given.shape != shape:
            raise DataError(
                f"{where}: {name} has the shape {given.shape}, where the inputs have {shape}; a "
                "label is needed for every position."
            )
        _check_whole(given, name, where, spec["vocabulary"] or _MOST)
        rows = first_rows(len(given), spec["samples"], where)
        return rows, {"labels": torch.from_numpy(given[rows].astype(np.int64))}
    _check_shape(given, "(n)", name, where)
    _check_whole(given, name, where)
    labels, found = np.unique(given, return_inverse=True)
    texts = [str(int(label)) for label in labels]
    choice = choose_labels(found, texts, spec, where)
    return choice.rows, label_tensors(choice, spec)


def _array(given: Any, name: str, where: str) -> np.ndarray:
    """An array of numbers from an array, a tensor or nested lists."""
    try:
        if isinstance(given, Tensor):
            tensor = given.detach().cpu()
            double = not tensor.is_floating_point() or tensor.dtype == torch.float64
            array = np.atleast_1d((tensor if double else tensor.float()).numpy())
        else:
            array = np.atleast_1d(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{where}: {name} is no array of numbers: {reason(error)}.") from error
    if array.dtype.kind not in "biuf":
        raise DataError(f"{where}: {name} holds {array.dtype}, where numbers are needed.")
    return array


def _check_shape(array: np.ndarray, form: str, name: str, where: str) -> None:
    if array.ndim != form.count(",") + 1 or 0 in array.shape:
        raise DataError(
            f"{where}: {name} has the shape {array.shape}, where {form} is needed, each at least 1."
        )


def _check_whole(array: np.ndarray, name: str, where: str, below: int = _MOST) -> None:
    if array.dtype.kind not in "biu":
        raise DataError(f"{where}: {name} holds {array.dtype}, where whole numbers are needed.")
    bad = np.argwhere((array < 0) | (array >= below))
    if len(bad):
        at = tuple(bad[0].tolist())
        raise DataError(
            f"{where}: {name}[{', '.join(map(str, at))}] is {array[at]}, where whole numbers from "
            f"0, below {below}, are needed."
        )
