"""Photos, CIFAR-10 and the exact compression of inputs."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sharpflow.data import ImageSet, cifar10, generate, photos
from sharpflow.data.base import compress, image_tensors, scale_pixels
from sharpflow.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(
    os.environ.get("SHARPFLOW_CIFAR10", ROOT.parent / "shared" / "data" / "cifar-10-batches-bin")
)
needs_cifar10 = pytest.mark.skipif(
    not list(SHARED.glob("data_batch_*.bin")), reason="no CIFAR-10 batches here"
)


# --- photos


@pytest.fixture(scope="module")
def photo_set():
    return photos.load(1000)


def test_photos_are_balanced_and_of_cifar10_shape(photo_set):
    assert photo_set.pixels.shape == (1000, 3, 32, 32)
    assert photo_set.pixels.dtype == torch.uint8
    assert photo_set.labels.dtype == torch.float32
    assert photo_set.labels.tolist() == [1.0] * 500 + [-1.0] * 500


def test_no_two_photo_patches_are_alike(photo_set):
    everything = photos.load(1950)
    assert len(torch.unique(everything.pixels.flatten(1), dim=0)) == 1950
    assert len(torch.unique(photo_set.pixels.flatten(1), dim=0)) == 1000


def test_photos_are_deterministic_and_nested(photo_set):
    again = photos.load(1000)
    assert torch.equal(again.pixels, photo_set.pixels)
    few = photos.load(10)
    assert torch.equal(few.pixels[:5], photo_set.pixels[:5])
    assert torch.equal(few.pixels[5:], photo_set.pixels[500:505])


def test_photo_patches_stand_in_their_photograph(photo_set):
    from sklearn.datasets import load_sample_images

    for first, image in zip((0, 500), load_sample_images().images, strict=True):
        patch = photo_set.pixels[first].permute(1, 2, 0).numpy()
        rows, columns = np.nonzero((image == patch[0, 0]).all(axis=2))
        assert any(
            np.array_equal(image[r : r + 32, c : c + 32], patch)
            for r, c in zip(rows, columns, strict=True)
        )


def test_too_many_photos_are_refused_with_the_count():
    with pytest.raises(DataError, match=r"samples = 1952.*975 patches a class.*at most 1950"):
        photos.load(1952)


# --- pixel scaling and the tensors of a dataset


def test_pixel_scalings_in_closed_form():
    pixels = torch.randint(
        0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    unit = scale_pixels(pixels, "unit")
    assert unit.dtype == torch.float32
    torch.testing.assert_close(unit.double(), pixels.double() / 255, rtol=1e-7, atol=0)
    standard = scale_pixels(pixels, "standardised").double()
    for channel in range(3):
        values = pixels[:, channel].double().numpy()
        expected = (values - values.mean()) / values.std()
        np.testing.assert_allclose(standard[:, channel].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("scaling", ["unit", "standardised"])
def test_generated_photos_are_consistent(scaling):
    tensors, provenance = generate({"source": "photos", "samples": 20, "scaling": scaling})
    assert tensors["inputs"].shape == (20, 3, 32, 32)
    assert tensors["targets"].shape == (20, 1)
    assert tensors["coordinates"].shape == (20, 20)
    assert tensors["basis"].shape == (3072, 20)
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    assert provenance["source"] == "photos"
    assert sorted(provenance["files"]) == ["china.jpg", "flower.jpg"]
    flat = tensors["inputs"].flatten(1)
    rebuilt = tensors["coordinates"] @ tensors["basis"].T
    torch.testing.assert_close(rebuilt, flat, rtol=0, atol=2e-5 * float(flat.abs().max()))


# --- compression


@settings(max_examples=40)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 10_000), st.booleans())
def test_compression_keeps_inner_products(n, d, seed, degenerate):
    inputs = torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    if degenerate:
        inputs[-1] = inputs[0]
    coordinates, basis = compress(inputs)
    rank = min(n, d)
    assert coordinates.shape == (n, rank)
    assert basis.shape == (d, rank)
    assert coordinates.dtype == basis.dtype == inputs.dtype
    eye = torch.eye(rank, dtype=torch.float64)
    torch.testing.assert_close(basis.T @ basis, eye, rtol=0, atol=1e-12)
    torch.testing.assert_close(coordinates @ basis.T, inputs, rtol=0, atol=1e-11)
    torch.testing.assert_close(
        coordinates @ coordinates.T, inputs @ inputs.T, rtol=1e-11, atol=1e-11
    )


def test_inputs_with_enough_samples_are_left_alone():
    inputs = torch.randn(9, 5)
    coordinates, basis = compress(inputs)
    assert torch.equal(coordinates, inputs)
    assert torch.equal(basis, torch.eye(5))


def test_image_tensors_carry_labels_as_a_column():
    images = ImageSet(
        torch.arange(2 * 3072).reshape(2, 3, 32, 32).to(torch.uint8), torch.tensor([1.0, -1.0])
    )
    tensors = image_tensors(images, "unit")
    assert tensors["targets"].tolist() == [[1.0], [-1.0]]
    assert sorted(tensors) == ["basis", "coordinates", "inputs", "targets"]


# --- CIFAR-10


def write_batch(path, labels, seed=0):
    """A batch file with these labels and random pixels; returns the pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    records = np.concatenate([np.asarray(labels, dtype=np.uint8)[:, None], pixels], axis=1)
    path.write_bytes(records.tobytes())
    return pixels.reshape(-1, 3, 32, 32)


@pytest.fixture
def folder(tmp_path):
    """Two batch files: labels 0..9 twice, then 9..0; every class three times."""
    first = write_batch(tmp_path / "data_batch_1.bin", [*range(10), *range(10)], seed=1)
    second = write_batch(tmp_path / "data_batch_2.bin", range(9, -1, -1), seed=2)
    (tmp_path / "test_batch.bin").write_bytes(b"never read")
    return tmp_path, np.concatenate([first, second])


def test_cifar10_reads_records_in_order(folder):
    path, pixels = folder
    labels, read = cifar10.read_batch(path / "data_batch_1.bin")
    assert labels.tolist() == [*range(10), *range(10)]
    np.testing.assert_array_equal(read, pixels[:20])
    raw = (path / "data_batch_1.bin").read_bytes()
    assert read[3, 2, 31, 0] == raw[3 * 3073 + 1 + 2 * 1024 + 31 * 32 + 0]


def test_cifar10_splits_the_ten_classes_into_two_groups(folder):
    path, pixels = folder
    images = cifar10.load(path, 30)
    labels = np.array([*range(10), *range(10), *range(9, -1, -1)])
    assert images.labels.tolist() == [1.0] * 15 + [-1.0] * 15
    np.testing.assert_array_equal(images.pixels[:15].numpy(), pixels[labels < 5])
    np.testing.assert_array_equal(images.pixels[15:].numpy(), pixels[labels >= 5])
    few = cifar10.load(path, 6)
    np.testing.assert_array_equal(few.pixels.numpy(), pixels[[0, 1, 2, 5, 6, 7]])


def test_cifar10_takes_two_classes_in_the_order_given(folder):
    path, pixels = folder
    images = cifar10.load(path, 4, [7, 2])
    np.testing.assert_array_equal(images.pixels.numpy(), pixels[[7, 17, 2, 12]])
    assert images.labels.tolist() == [1.0, 1.0, -1.0, -1.0]
    swapped = cifar10.load(path, 4, [2, 7])
    np.testing.assert_array_equal(swapped.pixels.numpy(), pixels[[2, 12, 7, 17]])
    zero = cifar10.load(path, 2, [0, 9])
    np.testing.assert_array_equal(zero.pixels.numpy(), pixels[[0, 9]])


def test_cifar10_records_the_checksums(folder):
    path, _ = folder
    expected = {
        f"data_batch_{i}.bin": hashlib.sha256((path / f"data_batch_{i}.bin").read_bytes())
        for i in (1, 2)
    }
    found = cifar10.load(path, 2).provenance
    assert found["source"] == "cifar10"
    assert found["sha256"] == {name: digest.hexdigest() for name, digest in expected.items()}


def test_cifar10_generate(folder):
    path, _ = folder
    spec = {
        "source": "cifar10",
        "path": str(path),
        "samples": 6,
        "classes": [0, 1],
        "scaling": "unit",
    }
    tensors, provenance = generate(spec)
    assert tensors["inputs"].shape == (6, 3, 32, 32)
    assert tensors["coordinates"].shape == (6, 6)
    assert provenance["source"] == "cifar10"


def test_too_few_samples_of_a_class_name_the_count(folder):
    path, _ = folder
    with pytest.raises(DataError, match=r"data\.samples = 8 needs 4 .*class 7.* has 3.*at most 6"):
        cifar10.load(path, 8, [7, 2])
    with pytest.raises(DataError, match=r"needs 16 .*classes 0, 1, 2, 3, 4.* has 15.*at most 30"):
        cifar10.load(path, 32)


@pytest.mark.parametrize("size", [0, 1, 3072, 3074, 2 * 3073 - 1])
def test_a_file_that_is_not_whole_records_is_refused(tmp_path, size):
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(size))
    with pytest.raises(DataError, match=rf"data_batch_1\.bin has {size} bytes.*3073"):
        cifar10.load(tmp_path, 2)


@pytest.mark.parametrize("label", [10, 255])
def test_a_label_above_nine_is_refused(tmp_path, label):
    write_batch(tmp_path / "data_batch_1.bin", [0, 9, label, 3])
    with pytest.raises(DataError, match=rf"data_batch_1\.bin: record 2 has label {label}"):
        cifar10.load(tmp_path, 2)


def test_a_folder_without_batches_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=r"holds no data_batch_\*\.bin.*binary version") as e:
            cifar10.load(path, 2)
        assert str(path) in str(e.value)
    with pytest.raises(DataError, match=r"data_batch_1\.bin cannot be read: No such file"):
        cifar10.read_batch(tmp_path / "data_batch_1.bin")


@needs_cifar10
def test_real_cifar10_batches():
    images = cifar10.load(SHARED, 200, [0, 1])
    assert images.pixels.shape == (200, 3, 32, 32)
    assert images.labels.sum() == 0
    assert len(torch.unique(images.pixels.flatten(1), dim=0)) == 200
    labels, pixels = cifar10.read_batch(sorted(SHARED.glob("data_batch_*.bin"))[0])
    assert set(labels) == set(range(10))
    first = pixels[np.flatnonzero(labels == 0)[0]]
    np.testing.assert_array_equal(images.pixels[0].numpy(), first)
    # neighbouring pixels of a photograph are alike; of a wrongly read one they are not
    rows = pixels[:500].astype(float)
    step = np.abs(np.diff(rows, axis=3)).mean()
    assert step < 0.35 * rows.std()


@needs_cifar10
def test_real_cifar10_names_the_count_of_a_scarce_class():
    labels, _ = cifar10.read_batch(sorted(SHARED.glob("data_batch_*.bin"))[0])
    if len(list(SHARED.glob("data_batch_*.bin"))) > 1:
        pytest.skip("the whole set has enough of every class")
    count = int((labels == 0).sum())
    with pytest.raises(DataError, match=rf"has {count}; ask for at most {2 * count}"):
        cifar10.load(SHARED, 2 * count + 2, [0, 1])
