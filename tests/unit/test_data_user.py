"""Data of a user's own: tables, arrays, what a function returns, and text."""

import io
import json
import pickle

import numpy as np
import pandas as pd
import pytest
import specs
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from sharpflow.data.base import generate
from sharpflow.errors import DataError, PartError
from sharpflow.parts.options import Form


def options(source, **keys):
    """Options of a source."""
    return specs.TYPES.options("data")[source](source=source, **keys)


def make(source, **keys):
    """Tensors and provenance of a source with these options."""
    tensors, provenance = generate(specs.part("data", source, **keys))
    json.dumps(provenance)
    real = tensors["inputs"].is_floating_point()
    assert ("coordinates" in tensors) == ("basis" in tensors) == real
    return tensors, provenance


def refusal(source, kind=DataError, **keys):
    """The message of a dataset that cannot be made: one paragraph."""
    with pytest.raises(kind) as caught:
        make(source, **keys)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


# --- tables

CSV = """a,b,y,kind
1,10,0.5,ant
2,10,1.5,bee
3,10,2.5,ant
4,10,-1e-3,cat
"""


@pytest.fixture
def csv(tmp_path):
    """Factory of the path to a table with this text."""

    def write(text=CSV):
        path = tmp_path / "t.csv"
        path.write_text(text) if isinstance(text, str) else path.write_bytes(text)
        return str(path)

    return write


def test_columns_of_a_table(csv):
    keys = {"path": csv(), "standardise": False}
    tensors, found = make("table", **keys, inputs=["b", "a"], target="y")
    assert tensors["inputs"].tolist() == [[10, 1], [10, 2], [10, 3], [10, 4]]
    torch.testing.assert_close(tensors["targets"], torch.tensor([[0.5], [1.5], [2.5], [-1e-3]]))
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    assert found["inputs"] == ["b", "a"]
    assert found["source"] == "table"
    tensors, _ = make("table", **keys, inputs=["a"], target=["y", "b"], samples=2)
    assert tensors["inputs"].tolist() == [[1], [2]]
    assert tensors["targets"].tolist() == [[0.5, 10], [1.5, 10]]


def test_inputs_are_by_default_all_other_columns(csv):
    path = csv("y,a,b\n1,2,3\n4,5,6\n")
    tensors, found = make("table", path=path, target="y", standardise=False)
    assert tensors["inputs"].tolist() == [[2, 3], [5, 6]]
    assert found["inputs"] == ["a", "b"]


def test_inputs_are_standardised_over_the_samples_taken(csv):
    tensors, _ = make("table", path=csv(), inputs=["a", "b"], target="y", samples=3)
    half = 1.5**0.5
    expected = torch.tensor([[-half, 0.0], [0.0, 0.0], [half, 0.0]])
    torch.testing.assert_close(tensors["inputs"], expected)
    assert tensors["targets"].flatten().tolist() == [0.5, 1.5, 2.5]


def test_classes_of_a_table(csv):
    keys = {"path": csv(), "inputs": ["a"], "target": "kind", "standardise": False}
    keys |= {"task": "classes"}
    tensors, found = make("table", **keys, targets="one_hot")
    assert tensors["inputs"].flatten().tolist() == [1, 2, 3, 4]
    assert tensors["labels"].tolist() == [0, 1, 0, 2]
    assert tensors["classes"].item() == 3
    assert found["classes"] == ["ant", "bee", "cat"]
    tensors, _ = make("table", **keys, targets="one_hot", samples=3)
    assert tensors["inputs"].flatten().tolist() == [1, 2, 4]
    assert tensors["labels"].tolist() == [0, 1, 2]
    tensors, found = make("table", **keys, classes=["cat", "ant"])
    assert tensors["inputs"].flatten().tolist() == [1, 3, 4]
    assert tensors["targets"].flatten().tolist() == [-1, -1, 1]
    assert found["classes"] == ["cat", "ant"]
    tensors, _ = make("table", **keys, classes=["cat", "ant"], samples=2)
    assert tensors["inputs"].flatten().tolist() == [4, 1]
    assert tensors["targets"].flatten().tolist() == [1, -1]


@pytest.mark.parametrize("values", [["2", "10", "2"], ["2.0", "10.0", "2.0"]])
def test_classes_that_are_numbers_are_in_their_order(csv, values):
    text = "x,y\n" + "".join(f"{i},{value}\n" for i, value in enumerate(values))
    keys = {"path": csv(text), "target": "y", "task": "classes"}
    tensors, found = make("table", **keys)
    assert tensors["targets"].flatten().tolist() == [1, -1, 1]
    assert found["classes"] == ["2", "10"]
    tensors, _ = make("table", **keys, classes=[10, 2])
    assert tensors["targets"].flatten().tolist() == [-1, 1, -1]


def test_a_parquet_table_is_as_its_csv(tmp_path):
    frame = pd.DataFrame(
        {
            "a": [1, 2, 3],
            "b": [True, False, True],
            "c": pd.array([1, 2, 3], "Int64"),
            "y": [0, 1, 2],
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_csv(tmp_path / "t.csv", index=False)
    made = [
        make("table", path=str(tmp_path / name), target="y", standardise=False)[0]
        for name in ("t.parquet", "t.csv")
    ]
    assert made[0]["inputs"].tolist() == [[1, 1, 1], [2, 0, 2], [3, 1, 3]]
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
    frame.loc[1, "c"] = pd.NA
    frame.to_parquet(tmp_path / "t.parquet")
    message = refusal("table", path=str(tmp_path / "t.parquet"), target="y")
    assert "t.parquet, row 2: the column 'c' has nothing where a finite number" in message


def test_tables_with_another_separator(csv):
    keys = {"path": csv("a;y\n1;2\n"), "target": "y", "standardise": False}
    assert make("table", **keys, separator=";")[0]["inputs"].tolist() == [[1]]
    assert "has no column 'y'; it has a;y." in refusal("table", **keys)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a,y\n1,2\n,3\n", 3, "nothing"),
        ("a,y\n1,2\nNA,3\n", 3, "nothing"),
        ("a,y\n1,2\n\n\nx1,3\n", 5, "'x1'"),
        ('a,y,s\n1,2,\'t\n1,2,"u\nv"\nfour,3,w\n', 5, "'four'"),
        ("a,y\ninf,3\n", 2, "'inf'"),
        ("a,y\n2020-01-01,3\n", 2, "'2020-01-01'"),
        ("a,y\r\n1,2\r\n1;5,3\r\n", 3, "'1;5'"),
    ],
)
def test_cells_of_no_number_are_named_by_their_line(csv, text, line, what):
    path = csv(text)
    message = refusal("table", path=path, inputs=["a"], target="y")
    assert f"{path}, line {line}: the column 'a' has {what} where a finite number" in message


def test_only_rows_that_are_taken_must_do(csv):
    keys = {"path": csv("a,y\n1,2\n3,4\n?,\n"), "target": "y"}
    assert make("table", **keys, samples=2)[0]["inputs"].tolist() == [[-1], [1]]
    message = refusal("table", **keys)
    assert "line 4: the column 'y' has nothing where a finite number" in message


def test_missing_labels_are_named_by_their_line(csv):
    keys = {"inputs": ["a"], "target": "y", "task": "classes"}
    message = refusal("table", path=csv("a,y\n1,u\n2,v\n3,\n"), **keys)
    assert "line 4: the column 'y' has nothing where a label is needed" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read: No columns to parse"),
        ("a,y\n", "has no rows"),
        ("a,y\n1,2,3\n", "a line has more cells than the first line has columns"),
        ("a,y\n1,2\n1,2,3\n", "cannot be read: .*Expected 2 fields in line 3, saw 3"),
        (b"a,y\n\xff,2\n", "cannot be read: .*utf-8"),
        ("y\n1\n", "has no column beside the target 'y'"),
        ("a,z\n1,2\n", "has no column 'y'; it has a, z"),
        ("a,yy\n1,2\n", r"has no column 'y'.*Did you mean 'yy'\?"),
        ("a,y\n1e300,2\n", r"inputs\[0, 0\] is 1e\+300, where a finite number of single"),
    ],
)
def test_files_that_are_no_table_are_refused(csv, text, message):
    path = csv(text)
    with pytest.raises(DataError, match=message) as caught:
        make("table", path=path, target="y", standardise=False)
    assert path in str(caught.value)


@pytest.mark.parametrize("task", ["regression", "classes"])
def test_a_column_that_is_not_there_is_told_before_anything_runs(csv, task):
    """In the words of the job; a name that pandas gives a second column is let through."""
    options = specs.TYPES.options("data")["table"]
    keys = {"source": "table", "path": csv(",a,y,y\n0,1,2,3\n"), "task": task, "samples": 2}
    for known in (
        {"target": "y"},
        {"target": "y.1"},
        {"target": "Unnamed: 0"},
        {"target": "y", "inputs": ["a"]},
    ):
        options(**keys, **known).check_files()
    for lacking, name in (({"target": "z"}, "z"), ({"target": "y", "inputs": ["b"]}, "b")):
        with pytest.raises(DataError, match=f"has no column '{name}'; it has , a, y, y"):
            options(**keys, **lacking).check_files()


def test_tables_that_are_missing_or_broken_are_refused(tmp_path):
    keys = {"target": "y"}
    absent = str(tmp_path / "absent.csv")
    assert f"{absent} cannot be read: No such file" in refusal("table", path=absent, **keys)
    broken = tmp_path / "t.parquet"
    broken.write_bytes(b"PAR1 but no more")
    assert f"{broken} cannot be read: " in refusal("table", path=str(broken), **keys)


def test_too_few_rows_are_refused(csv):
    keys = {"path": csv(), "inputs": ["a"]}
    message = refusal("table", **keys, target="y", samples=5)
    assert message == f"data.samples = 5, but {keys['path']} has 4 samples."
    keys |= {"target": "kind", "task": "classes"}
    message = refusal("table", **keys, classes=["ant", "bee"], samples=4)
    assert "needs 2 samples of class bee, but" in message
    assert "has 1; ask for at most 2." in message
    message = refusal("table", **keys, targets="one_hot", samples=4)
    assert "samples = 4 is not a multiple of 3, the number of classes" in message
    assert "even number of classes" in refusal("table", **keys)
    message = refusal("table", **keys, classes=["ant", "bea"])
    assert "names 'bea', which" in message
    assert "it has ant, bee, cat. Did you mean 'bee'?" in message


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"path": "t.xlsx"}, "match pattern"),
        ({"target": []}, "at least 1"),
        ({"target": ["y", "y"]}, "twice"),
        ({"target": "a", "inputs": ["a"]}, "the column 'a' is both a target and an input"),
        ({"target": ["y", "z"], "task": "classes"}, "target names one column where task = classes"),
        ({"targets": "one_hot"}, "targets is for task = classes, not for regression"),
        ({"label_noise": 0.1}, "label_noise is for task = classes"),
        ({"classes": ["a", "b"]}, "classes is for task = classes"),
        ({"classes": ["1", 1], "task": "classes"}, "twice"),
        ({"classes": ["a", "b", "c"], "task": "classes"}, "even number"),
        ({"samples": 3, "task": "classes"}, "not a multiple of 2"),
        ({"separator": "::"}, "separator"),
    ],
)
def test_table_options_that_cannot_be_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        options("table", **{"path": "t.csv", "target": "y"} | keys)


@pytest.mark.parametrize(
    ("keys", "form"),
    [
        ({}, Form("vectors", None, 1, "real", None)),
        ({"target": ["y", "z"], "inputs": ["a"]}, Form("vectors", (1,), 2, "real", None)),
        ({"task": "classes", "samples": 8}, Form("vectors", None, 1, "signs", 8)),
        ({"task": "classes", "targets": "one_hot"}, Form("vectors", None, None, "one_hot", None)),
        (
            {"task": "classes", "targets": "one_hot", "classes": [1, 2, 3]},
            Form("vectors", None, 3, "one_hot", None),
        ),
    ],
)
def test_form_of_tables(keys, form):
    assert options("table", **{"path": "t.csv", "target": "y"} | keys).form() == form


# --- arrays


@pytest.fixture
def npz(tmp_path):
    """Factory of the path to a `.npz` of these arrays."""

    def write(**arrays):
        np.savez(tmp_path / "a.npz", **arrays)
        return str(tmp_path / "a.npz")

    return write


INPUTS = np.arange(12, dtype=np.float64).reshape(4, 3) / 8


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
@pytest.mark.parametrize("outputs", [0, 1, 5])
def test_arrays_for_regression_with_any_number_of_outputs(tmp_path, suffix, outputs):
    targets = np.arange(4.0) if not outputs else np.arange(4.0 * outputs).reshape(4, outputs)
    path = tmp_path / f"a.{suffix}"
    if suffix == "npz":
        np.savez_compressed(path, inputs=INPUTS, targets=targets, other=np.ones(1))
    else:
        save_file({"inputs": torch.tensor(INPUTS), "targets": torch.tensor(targets)}, path)
    tensors, found = make("arrays", path=str(path))
    np.testing.assert_array_equal(tensors["inputs"].numpy(), INPUTS)
    np.testing.assert_array_equal(tensors["targets"].numpy(), targets.reshape(4, outputs or 1))
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    assert found["source"] == "arrays"


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float32, torch.uint8, torch.int64, torch.bool]
)
def test_arrays_of_every_type_become_numbers(tmp_path, dtype):
    path = tmp_path / "a.safetensors"
    save_file({"x": torch.tensor([[0, 1], [1, 0]]).to(dtype), "y": torch.ones(2)}, path)
    tensors, _ = make("arrays", path=str(path), input_key="x", target_key="y")
    assert tensors["inputs"].tolist() == [[0, 1], [1, 0]]
    assert tensors["inputs"].dtype == torch.float32


def test_arrays_of_images_and_classes(npz):
    images = np.arange(5 * 2 * 3 * 4, dtype=np.uint8).reshape(5, 2, 3, 4)
    path = npz(inputs=images, labels=np.array([7, 3, 7, 3, 5]))
    keys = {"path": path, "input_form": "images", "task": "classes"}
    tensors, _ = make("arrays", **keys, targets="one_hot")
    assert tensors["inputs"].shape == (5, 2, 3, 4)
    assert tensors["labels"].tolist() == [2, 0, 2, 0, 1]
    assert tensors["coordinates"].shape == (5, 5)
    tensors, _ = make("arrays", **keys, classes=[7, 3], samples=2)
    np.testing.assert_array_equal(tensors["inputs"].numpy(), images[:2])
    assert tensors["targets"].flatten().tolist() == [1, -1]
    tensors, _ = make("arrays", **keys, classes=[7, 3])
    assert tensors["targets"].flatten().tolist() == [1, -1, 1, -1]


def test_arrays_of_tokens(npz):
    tokens = np.array([[0, 4, 1], [2, 0, 3]], dtype=np.int32)
    path = npz(inputs=tokens, labels=tokens[:, ::-1], targets=np.ones(2))
    keys = {"path": path, "input_form": "tokens"}
    tensors, _ = make("arrays", **keys, task="next_token")
    assert {t.dtype for t in tensors.values()} == {torch.int64}
    assert tensors["inputs"].tolist() == tokens.tolist()
    assert tensors["labels"].tolist() == tokens[:, ::-1].tolist()
    assert tensors["classes"].item() == tensors["vocabulary"].item() == 5
    tensors, _ = make("arrays", **keys, vocabulary=9, samples=1)
    assert tensors["vocabulary"].item() == 9
    assert tensors["targets"].tolist() == [[1]]
    message = refusal("arrays", **keys, vocabulary=4)
    assert "inputs[0, 1] is 4, where whole numbers from 0, below 4, are needed" in message


def test_form_of_arrays():
    keys = {"path": "a.npz"}
    assert options("arrays", **keys).form() == Form("vectors", None, None, "real", None)
    form = options("arrays", **keys, input_form="tokens", task="next_token", vocabulary=9).form()
    assert form == Form("tokens", None, 9, "classes", None, 9)
    form = options("arrays", **keys, input_form="images", task="classes", samples=2).form()
    assert form == Form("images", None, 1, "signs", 2)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"path": "a.npy"}, "match pattern"),
        ({"path": "a.pkl"}, "match pattern"),
        ({"task": "next_token"}, "task = next_token needs input_form = tokens"),
        ({"vocabulary": 5}, "vocabulary is for input_form = tokens"),
        ({"label_noise": 0.1, "input_form": "tokens", "task": "next_token"}, "for task = classes"),
        ({"input_form": "graphs"}, "'vectors', 'images' or 'tokens'"),
        ({"classes": ["a", "b"], "task": "classes"}, "valid integer"),
    ],
)
def test_array_options_that_cannot_be_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        options("arrays", **{"path": "a.npz"} | keys)


NAN = INPUTS.copy()
NAN[2, 1] = np.nan
WRONG = {
    "NaN": ({"inputs": NAN}, "inputs[2, 1] is nan, where a finite number"),
    "infinite target": ({"targets": [0, np.inf, 0, 0]}, "targets[1, 0] is inf"),
    "too large": ({"inputs": INPUTS * 1e300}, "inputs[0, 1] is 1.25e+299"),
    "one dimension": ({"inputs": np.ones(4)}, "inputs has the shape (4,), where (n, d) is needed"),
    "no input": ({"inputs": np.ones((4, 0))}, "inputs has the shape (4, 0)"),
    "no sample": ({"inputs": np.ones((0, 3)), "targets": np.ones(0)}, "the shape (0, 3)"),
    "other lengths": ({"targets": np.ones(3)}, "inputs has 4 samples and targets has 3"),
    "a number": ({"targets": np.float64(3)}, "inputs has 4 samples and targets has 1"),
    "a cube": ({"targets": np.ones((4, 1, 1))}, "(4, 1, 1), where (n, k) is needed"),
    "texts": ({"targets": np.array(["a"] * 4)}, "targets holds <U1, where numbers are needed"),
    "complex numbers": ({"inputs": INPUTS * 1j}, "inputs holds complex128"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_arrays_that_do_not_do_are_refused(npz, kind):
    changes, message = WRONG[kind]
    path = npz(**{"inputs": INPUTS, "targets": np.ones(4)} | changes)
    found = refusal("arrays", path=path)
    assert message in found
    assert found.startswith(path)


LABELS = {
    "negative": ([0, 1, -1, 1], "labels[2] is -1, where whole numbers from 0"),
    "not whole": ([0.0, 1.0, 0.5, 1.0], "labels holds float64, where whole numbers are needed"),
    "columns": ([[0], [1], [0], [1]], "labels has the shape (4, 1), where (n) is needed"),
    "one class": ([1, 1, 1, 1], "there must be two classes or more, not 1"),
    "three classes": ([0, 1, 2, 1], "an even number of classes"),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_that_do_not_do_are_refused(npz, kind):
    labels, message = LABELS[kind]
    path = npz(inputs=INPUTS, labels=np.array(labels))
    found = refusal("arrays", path=path, task="classes")
    assert message in found
    assert path in found


def test_a_number_that_is_not_finite_is_named_by_its_place_in_the_file(npz):
    path = npz(inputs=NAN, labels=np.array([0, 1, 1, 0]))
    keys = {"path": path, "task": "classes", "classes": [1, 0]}
    assert "inputs[2, 1] is nan" in refusal("arrays", **keys, samples=4)
    assert make("arrays", **keys, samples=2)[0]["targets"].flatten().tolist() == [1, -1]


def test_next_tokens_that_do_not_do_are_refused(npz):
    keys = {"input_form": "tokens", "task": "next_token"}
    tokens = np.array([[0, 1], [1, 0]])
    path = npz(inputs=tokens, labels=tokens[:, :1])
    assert "labels has the shape (2, 1), where the inputs have (2, 2)" in refusal(
        "arrays", path=path, **keys
    )
    path = npz(inputs=tokens, labels=tokens - 1)
    assert "labels[0, 0] is -1" in refusal("arrays", path=path, **keys)
    path = npz(inputs=tokens, labels=tokens * 10**6)
    assert "labels[0, 1] is 1000000, where" in refusal("arrays", path=path, **keys)
    path = npz(inputs=tokens + 0.5, labels=tokens)
    assert "inputs holds float64" in refusal("arrays", path=path, **keys)


class Poison:
    """What runs if it is unpickled."""

    def __reduce__(self):
        return exec, ("raise AssertionError('unpickled')",)


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, inputs=np.array([Poison()], dtype=object), targets=np.ones(1))
    message = refusal("arrays", path=str(path))
    assert "cannot be read as arrays: Object arrays cannot be loaded" in message
    path.write_bytes(pickle.dumps(Poison()))
    assert f"{path} cannot be read as arrays: " in refusal("arrays", path=str(path))


def test_array_files_that_are_broken_are_refused(tmp_path, npz):
    path = npz(inputs=INPUTS)
    assert refusal("arrays", path=path) == f"{path} has no array 'targets'; it has 'inputs'."
    message = refusal("arrays", path=path, input_key="input")
    assert "no array 'input'; it has 'inputs'. Did you mean 'inputs'?" in message
    whole = (tmp_path / "a.npz").read_bytes()
    buffer = io.BytesIO()
    np.save(buffer, INPUTS)
    for content in (b"", whole[:-30], whole[:50], b"PK\3\4" + bytes(40)):
        (tmp_path / "a.npz").write_bytes(content)
        assert f"{path} cannot be read as arrays: " in refusal("arrays", path=path)
    (tmp_path / "a.npz").write_bytes(buffer.getvalue())
    assert f"{path} holds one array without a name" in refusal("arrays", path=path)
    other = tmp_path / "a.safetensors"
    for content in (b"", whole, b"\xff" * 40):
        other.write_bytes(content)
        assert f"{other} cannot be read as arrays: " in refusal("arrays", path=str(other))
    absent = str(tmp_path / "absent.npz")
    assert "No such file or directory." in refusal("arrays", path=absent)


# --- functions


@pytest.fixture
def function(tmp_path):
    """Factory of the path to a file whose function `generate` has this body."""

    def write(body, head="def generate(n=4, outputs=2):"):
        file = tmp_path / f"made_{len(list(tmp_path.iterdir()))}.py"
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        file.write_text(f"import numpy as np\nimport torch\n\n\n{head}\n{lines}")
        return str(file)

    return write


GOOD = "return {'inputs': np.arange(3.0 * n).reshape(n, 3), 'targets': torch.ones(n, outputs)}"


def test_a_function_makes_data(function):
    tensors, found = make("function", file=function(GOOD))
    assert tensors["inputs"].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert tensors["targets"].tolist() == [[1, 1]] * 4
    assert found["function"] == "generate"
    keys = {"file": function(GOOD), "options": {"n": 7, "outputs": 3}, "samples": 6}
    tensors, _ = make("function", **keys)
    assert tensors["inputs"].shape == (6, 3)
    assert tensors["targets"].shape == (6, 3)


def test_a_function_may_return_lists_and_tensors_with_gradients(function):
    body = "x = torch.eye(2, requires_grad=True)\nreturn {'inputs': x, 'labels': [1, 0]}"
    tensors, _ = make("function", file=function(body), task="classes")
    assert tensors["inputs"].tolist() == [[1, 0], [0, 1]]
    assert tensors["targets"].flatten().tolist() == [-1, 1]
    assert not tensors["inputs"].requires_grad


def test_a_function_may_import_its_neighbours(function, tmp_path):
    (tmp_path / "neighbour_of_data.py").write_text("N = 3\n")
    head = "import neighbour_of_data\ndef other(**options):"
    body = "return {'inputs': np.eye(neighbour_of_data.N), 'targets': np.ones(options['k'])}"
    keys = {"file": function(body, head), "function": "other", "options": {"k": 3}}
    assert make("function", **keys)[0]["inputs"].shape == (3, 3)


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        ("return 3", PartError, "returns a int; it must return a mapping"),
        ("return {'inputs': np.eye(2)}", PartError, "without 'targets', which task = regression"),
        ("return {'inputs': np.eye(2)}", PartError, "it has 'inputs'"),
        ("return {}", PartError, "without 'inputs'"),
        ("raise KeyError('x')", PartError, ", line 6: KeyError: 'x'"),
        ("return 1 / 0", PartError, "ZeroDivisionError: division by zero"),
        ("return {'inputs': np.eye(2), 'targets': [1]}", DataError, "2 samples and targets has 1"),
        ("return {'inputs': [[1], [1, 2]], 'targets': [1, 2]}", DataError, "no array of numbers"),
        ("return {'inputs': None, 'targets': [1]}", DataError, "inputs holds object"),
        ("return {'inputs': np.ones((2, 1, 1)), 'targets': [1, 2]}", DataError, "shape (2, 1, 1)"),
        ("return {'inputs': np.eye(2), 'targets': [1, np.nan]}", DataError, "targets[1, 0] is nan"),
    ],
)
def test_functions_that_fail_are_refused(function, body, kind, message):
    path = function(body)
    found = refusal("function", kind, file=path)
    assert message in found
    assert path in found


def test_functions_that_cannot_be_called_are_refused(function, tmp_path):
    path = function(GOOD)
    message = refusal("function", PartError, file=path, function="generates")
    assert f"{path} has no function 'generates'. Did you mean 'generate'?" in message
    message = refusal("function", PartError, file=path, options={"m": 3})
    assert "data.options.m: the function 'generate'" in message
    assert "it has n, outputs." in message
    absent = str(tmp_path / "absent.py")
    assert f"{absent} is not a file" in refusal("function", PartError, file=absent)
    path = function("return (", "def generate():")
    assert f"{path}, line 6" in refusal("function", PartError, file=path)


# --- text


@pytest.fixture
def text(tmp_path):
    """Factory of the path to a file with this text."""

    def write(content):
        path = tmp_path / "t.txt"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def test_windows_of_a_text(text):
    tensors, found = make("text", path=text("cabbage"), length=3)
    assert found["vocabulary"] == "abceg"
    assert tensors["inputs"].tolist() == [[2, 0, 1], [1, 0, 4]]
    assert tensors["labels"].tolist() == [[0, 1, 1], [0, 4, 3]]
    assert tensors["classes"].item() == tensors["vocabulary"].item() == 5
    assert {t.dtype for t in tensors.values()} == {torch.int64}


def test_stride_and_number_of_windows(text):
    tensors, _ = make("text", path=text("cabbage"), length=2, stride=1)
    assert tensors["inputs"].tolist() == [[2, 0], [0, 1], [1, 1], [1, 0], [0, 4]]
    assert torch.equal(tensors["labels"][:-1], tensors["inputs"][1:])
    tensors, _ = make("text", path=text("cabbage"), length=2, stride=3, samples=2)
    assert tensors["inputs"].tolist() == [[2, 0], [1, 0]]


def test_characters_are_those_of_the_file(text):
    _, found = make("text", path=text("\ufeffé\r\n€😀é"), length=1)
    assert found["vocabulary"] == "\n\ré€😀"


def test_form_of_text():
    form = options("text", path="t", length=7, samples=3).form()
    assert form == Form("tokens", (7,), None, "classes", 3)
    assert options("text", path="t", length=7).form().samples is None


@pytest.mark.parametrize(
    ("content", "keys", "message"),
    [
        ("", {"length": 1}, "has 0 characters, where 1 windows of data.length = 1,"),
        ("abc", {"length": 3}, "and one character more need 4."),
        ("abcdef", {"length": 2, "samples": 3}, "has 6 characters, where 3 windows"),
        ("abcdef", {"length": 2, "samples": 3}, "need 7."),
        ("aaaa", {"length": 2}, "has one character alone, 'a'"),
        (b"ab\xe9cd", {"length": 2}, "is not text in UTF-8: the byte at 2 is 0xe9"),
    ],
)
def test_texts_that_do_not_do_are_refused(text, content, keys, message):
    path = text(content)
    found = refusal("text", path=path, **keys)
    assert message in found
    assert path in found


def test_a_text_that_is_missing_is_refused(tmp_path):
    message = refusal("text", path=str(tmp_path / "absent"), length=2)
    assert message == f"{tmp_path / 'absent'} cannot be read: No such file or directory."
