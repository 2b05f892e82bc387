"""Pictures of every source but CIFAR-10: CIFAR-100, MNIST's format, and a user's folders."""

import gzip
import struct

import numpy as np
import pytest
import specs
from PIL import Image
from pydantic import ValidationError

from sharpflow.data import cifar100
from sharpflow.data.base import generate
from sharpflow.data.idx import read_idx
from sharpflow.data.pictures import read_picture
from sharpflow.errors import DataError
from sharpflow.parts.options import Form


def options(source, **keys):
    """Options of a source."""
    return specs.TYPES.options("data")[source](source=source, **keys)


def make(source, path, **keys):
    """Tensors and provenance of a source with these options, pixels in [0, 1] if not said."""
    return generate(specs.part("data", source, **{"path": str(path), "scaling": "unit"} | keys))


def pixels(tensors):
    """Pixels of a dataset with `unit` scaling."""
    return (255 * tensors["inputs"]).round().to(int).numpy()


def refusal(*args, **keys):
    """The message of a dataset that cannot be made: one paragraph."""
    with pytest.raises(DataError) as caught:
        make(*args, **keys)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


# --- CIFAR-100


def write_train(path, labels):
    """A `train.bin` with (coarse, fine) labels; pixels of record i are i."""
    records = [bytes([*pair]) + bytes([i]) * 3072 for i, pair in enumerate(labels)]
    (path / "train.bin").write_bytes(b"".join(records))


def test_cifar100_has_coarse_and_fine_labels(tmp_path):
    write_train(tmp_path, [(19, 99), (0, 5), (19, 5), (0, 99)])
    fine, _ = make("cifar100", tmp_path, samples=4, classes=[5, 99], targets="one_hot")
    assert pixels(fine)[:, 0, 0, 0].tolist() == [1, 2, 0, 3]
    assert fine["inputs"].shape == (4, 3, 32, 32)
    coarse, found = make("cifar100", tmp_path, samples=4, classes=[19, 0], labels="coarse")
    assert pixels(coarse)[:, 2, 31, 31].tolist() == [0, 2, 1, 3]
    assert coarse["targets"].flatten().tolist() == [1.0, 1.0, -1.0, -1.0]
    assert list(found["sha256"]) == ["train.bin"]
    assert found["source"] == "cifar100"


def test_cifar100_halves_its_classes_by_default(tmp_path):
    write_train(tmp_path, [(0, 50), (0, 49), (0, 99), (0, 0)])
    tensors, _ = make("cifar100", tmp_path, samples=4)
    assert pixels(tensors)[:, 0, 0, 0].tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ((20, 0), "record 1 has label 20; CIFAR-100 labels are 0 to 19"),
        ((19, 100), "record 1 has label 100; CIFAR-100 labels are 0 to 99"),
    ],
)
def test_cifar100_labels_of_no_class_are_refused(tmp_path, labels, message):
    write_train(tmp_path, [(0, 0), labels])
    assert message in refusal("cifar100", tmp_path, samples=2)


def test_cifar100_files_of_another_form_are_refused(tmp_path):
    assert "holds no train.bin" in refusal("cifar100", tmp_path)
    assert "(cifar-100-binary)" in refusal("cifar100", tmp_path)
    (tmp_path / "train.bin").write_bytes(bytes(3073))
    assert "CIFAR-100 records of 3074 bytes" in refusal("cifar100", tmp_path)


def test_cifar100_goes_without_a_path_to_the_cache(tmp_path, monkeypatch):
    asked = []
    write_train(tmp_path, [(0, 0), (1, 1)])
    monkeypatch.setattr("sharpflow.data.numbered.fetch", lambda r: asked.append(r) or tmp_path)
    spec = specs.part("data", "cifar100", samples=2, classes=[0, 1])
    assert generate(spec)[1]["archive_verified"] is True
    assert asked == [cifar100.REMOTE]


# --- MNIST's format


def idx(shape, content, kind=8):
    """The bytes of an IDX file."""
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape) + content


def test_idx_bytes_by_hand(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(bytes.fromhex("00000803 00000002 00000001 00000003 010203 040506"))
    found = read_idx(path, (1, 3))
    assert found.dtype == np.uint8
    assert found.tolist() == [[[1, 2, 3]], [[4, 5, 6]]]
    path.write_bytes(bytes.fromhex("00000801 00000003 00 07 05"))
    assert read_idx(path, ()).tolist() == [0, 7, 5]
    path.write_bytes(bytes.fromhex("00000801 0000"))
    with pytest.raises(DataError, match=r"dimensions \(\), where \(n\)"):
        read_idx(path, ())


GOOD = idx((2, 1, 3), bytes(range(6)))
BAD = {
    "nothing": (b"", "begins with the bytes of nothing, not with 00 00 08 03"),
    "another magic number": (b"\1" + GOOD[1:], "begins with the bytes 01 00 08 03"),
    "another type": (idx((2, 1, 3), bytes(24), 13), "begins with the bytes 00 00 0d 03"),
    "other dimensions": (idx((6,), bytes(6)), "begins with the bytes 00 00 08 01"),
    "half a header": (GOOD[:10], r"dimensions \(2\), where"),
    "no header": (GOOD[:4], r"dimensions \(\), where"),
    "another size": (idx((2, 3, 1), bytes(6)), r"dimensions \(2, 3, 1\), where \(n, 1, 3\)"),
    "no item": (idx((0, 1, 3), b""), r"dimensions \(0, 1, 3\)"),
    "very many items": (idx((2**32 - 1, 1, 3), bytes(6)), "n from 1 to 1,000,000"),
    "truncated": (GOOD[:-1], "less than the 6 bytes"),
    "longer": (GOOD + b"\0", "more than the 6 bytes"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_that_are_not_whole_are_refused(tmp_path, kind, zipped):
    content, message = BAD[kind]
    path = tmp_path / ("x.gz" if zipped else "x")
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path, (1, 3))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", GOOD, gzip.compress(GOOD, mtime=0)[:-9], gzip.compress(GOOD, mtime=0)[:15]]
)
def test_broken_gzip_files_are_refused(tmp_path, content):
    path = tmp_path / "x.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.gz"):
        read_idx(path, (1, 3))
    with pytest.raises(DataError, match="absent cannot be read: No such file"):
        read_idx(tmp_path / "absent", ())


@pytest.fixture
def digits(tmp_path):
    """A folder with 30 pictures in MNIST's format, labels 0 to 9 in turn."""
    drawn = np.random.default_rng(0).integers(0, 256, (30, 28, 28), dtype=np.uint8)
    labels = bytes(i % 10 for i in range(30))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx((30, 28, 28), drawn.tobytes()))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx((30,), labels))
    return tmp_path, drawn


@pytest.mark.parametrize("source", ["mnist", "fashion_mnist"])
def test_mnist_is_read_by_its_labels(digits, source):
    path, drawn = digits
    tensors, found = make(source, path, samples=4, classes=[8, 3])
    np.testing.assert_array_equal(pixels(tensors)[:, 0], drawn[[8, 18, 3, 13]])
    assert tensors["inputs"].shape == (4, 1, 28, 28)
    assert tensors["coordinates"].shape == (4, 4)
    assert tensors["targets"].flatten().tolist() == [1.0, 1.0, -1.0, -1.0]
    assert found["source"] == source
    assert sorted(found["sha256"]) == ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"]


def test_mnist_is_the_same_zipped(digits):
    path, _ = digits
    plain, _ = make("mnist", path, samples=20, targets="one_hot", scaling="standardised")
    for file in list(path.iterdir()):
        (path / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    zipped, found = make("mnist", path, samples=20, targets="one_hot", scaling="standardised")
    assert all((plain[name] == zipped[name]).all() for name in plain)
    assert zipped["labels"].tolist() == [label for label in range(10) for _ in range(2)]
    assert all(name.endswith(".gz") for name in found["sha256"])


def test_mnist_files_that_do_not_belong_together_are_refused(digits):
    path, _ = digits
    labels = path / "train-labels-idx1-ubyte"
    labels.write_bytes(idx((29,), bytes(29)))
    assert "has 30 pictures and" in refusal("mnist", path)
    labels.write_bytes(idx((30,), bytes(29) + b"\12"))
    assert "item 29 has label 10; Fashion-MNIST labels are 0 to 9" in refusal("fashion_mnist", path)
    labels.unlink()
    message = refusal("mnist", path)
    assert "neither train-labels-idx1-ubyte nor train-labels-idx1-ubyte.gz, which MNIST" in message


# --- a user's folders


@pytest.fixture
def zoo(tmp_path):
    """Three classes of pictures of one colour each, 6×4, and what is to be left alone."""
    colours = {"bee": [10, 11], "ant": [20, 21, 22], "cat": [30, 31, 32, 33]}
    for name, levels in colours.items():
        (tmp_path / name).mkdir()
        for i, level in enumerate(levels):
            picture = Image.new("RGB", (6, 4), (level, 100, 200))
            picture.save(tmp_path / name / f"{i}.{'png' if i % 2 else 'bmp'}")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"?")
    (tmp_path / "notes.txt").write_text("?")
    return tmp_path


def levels(tensors):
    """Red of the first pixel of every picture."""
    return pixels(tensors)[:, 0, 0, 0].tolist()


def test_a_tiny_picture_keeps_its_pixels(tmp_path):
    values = np.arange(3 * 2 * 3, dtype=np.uint8).reshape(3, 2, 3)
    Image.fromarray(values).save(tmp_path / "a.png")
    found = read_picture(tmp_path / "a.png", [3, 2], 3)
    np.testing.assert_array_equal(found, values.transpose(2, 0, 1))
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    red.save(tmp_path / "b.png")
    assert read_picture(tmp_path / "b.png", [2, 2], 1).tolist() == [[[76, 76], [76, 76]]]


def test_pictures_are_resized_to_rows_and_columns(tmp_path):
    values = np.zeros((2, 4), dtype=np.uint8)
    values[:, 2:] = 200
    Image.fromarray(values).save(tmp_path / "a.png")
    found = read_picture(tmp_path / "a.png", [1, 2], 3)
    assert found.shape == (3, 1, 2)
    assert (found[:, 0, 0] < 60).all()
    assert (found[:, 0, 1] > 140).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_pictures_of_every_mode_become_channels(tmp_path, mode):
    file = tmp_path / f"a.{'tif' if mode == 'CMYK' else 'png'}"
    Image.new("L", (3, 3), 255).convert(mode).save(file)
    for channels in (1, 3):
        found = read_picture(file, [2, 5], channels)
        assert found.shape == (channels, 2, 5)
        assert found.dtype == np.uint8
        assert (found == 255).all()


def test_pictures_are_balanced_by_the_scarcest_class(zoo):
    tensors, found = make("pictures", zoo, size=[4, 6], targets="one_hot")
    assert tensors["inputs"].shape == (6, 3, 4, 6)
    assert levels(tensors) == [20, 21, 10, 11, 30, 31]
    assert pixels(tensors)[:, 1:, 3, 5].tolist() == [[100, 200]] * 6
    assert tensors["labels"].tolist() == [0, 0, 1, 1, 2, 2]
    assert tensors["classes"].item() == 3
    assert found["classes"] == ["ant", "bee", "cat"]
    assert str(zoo) not in str(found)


def test_pictures_of_listed_classes(zoo):
    tensors, found = make("pictures", zoo, size=[1, 1], classes=["cat", "ant"], samples=6)
    assert levels(tensors) == [30, 31, 32, 20, 21, 22]
    assert tensors["targets"].flatten().tolist() == [1.0] * 3 + [-1.0] * 3
    assert found["classes"] == ["cat", "ant"]


def test_classes_of_one_sign_take_turns(zoo):
    (zoo / "dog").mkdir()
    for i in range(5):
        Image.new("RGB", (1, 1), (40 + i, 0, 0)).save(zoo / "dog" / f"{i}.png")
    tensors, _ = make("pictures", zoo, size=[1, 1], samples=10)
    assert levels(tensors) == [20, 10, 21, 11, 22, 30, 40, 31, 41, 32]


def test_form_of_pictures():
    keys = {"path": "p", "size": [4, 6]}
    form = options("pictures", **keys, channels=1, samples=8).form()
    assert form == Form("images", (1, 4, 6), 1, "signs", 8)
    form = options("pictures", **keys, targets="one_hot").form()
    assert form == Form("images", (3, 4, 6), None, "one_hot", None)
    form = options("pictures", **keys, targets="one_hot", classes=["a", "b", "c"]).form()
    assert form.outputs == 3


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"channels": 2}, "Input should be 1 or 3"),
        ({"size": [4]}, "at least 2"),
        ({"size": [4, 0]}, "greater than or equal to 1"),
        ({"classes": ["a", "b", "c"]}, "an even number"),
        ({"classes": ["a", "b"], "samples": 5}, "not a multiple of 2"),
        ({"classes": ["a", "a"]}, "twice"),
    ],
)
def test_picture_options_that_cannot_be_are_refused(keys, message):
    with pytest.raises(ValidationError, match=message):
        options("pictures", **{"path": "p", "size": [4, 6]} | keys)


def test_picture_folders_that_do_not_do_are_refused(zoo, tmp_path_factory):
    keys = {"size": [2, 2]}
    assert "signs needs an even number" in refusal("pictures", zoo, **keys)
    message = refusal("pictures", zoo, **keys, classes=["cat", "bea"])
    assert "data.classes names 'bea'" in message
    assert "it has ant, bee, cat. Did you mean 'bee'?" in message
    message = refusal("pictures", zoo, **keys, classes=["cat", "bee"], samples=6)
    assert "needs 3 pictures of class bee, but" in message
    assert "has 2; ask for at most 4." in message
    message = refusal("pictures", zoo / "cat", **keys)
    assert "has 0 folders in it; it needs one for each of two classes" in message
    assert "cannot be read: No such file" in refusal("pictures", zoo / "absent", **keys)
    empty = tmp_path_factory.mktemp("empty")
    (empty / "a").mkdir()
    (empty / "b").mkdir()
    assert "= null needs 1 pictures of class a, but" in refusal("pictures", empty, **keys)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_a_picture_that_does_not_open_is_named(zoo, content):
    broken = zoo / "bee" / "0.bmp"
    broken.write_bytes(content)
    message = refusal("pictures", zoo, size=[2, 2], targets="one_hot")
    assert f"{broken} does not open as a picture" in message


def test_a_picture_that_is_cut_off_is_named(zoo):
    broken = zoo / "bee" / "1.png"
    Image.effect_noise((50, 50), 80).save(broken)
    broken.write_bytes(broken.read_bytes()[:-400])
    message = refusal("pictures", zoo, size=[2, 2], targets="one_hot")
    assert f"{broken} does not open as a picture" in message


def test_a_picture_of_deep_colour_is_named(zoo):
    deep = zoo / "bee" / "1.png"
    Image.fromarray(np.full((3, 3), 40_000, dtype=np.uint16)).save(deep)
    message = refusal("pictures", zoo, size=[2, 2], targets="one_hot")
    assert f"{deep} has more than 8 bits a channel" in message
