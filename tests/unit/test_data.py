"""Photos, CIFAR-10, the choice of classes and the exact compression of inputs."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import specs
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sharpflow.data import photos
from sharpflow.data.base import WHITENING_FLOOR, compress, generate, scale_pixels, whitened
from sharpflow.data.cifar_records import read_records
from sharpflow.data.labelled import with_noise
from sharpflow.errors import DataError
from sharpflow.parts.options import Form

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(
    os.environ.get("SHARPFLOW_CIFAR10", ROOT.parent / "shared" / "data" / "cifar-10-batches-bin")
)
needs_cifar10 = pytest.mark.skipif(
    not list(SHARED.glob("data_batch_*.bin")), reason="no CIFAR-10 batches here"
)


def options(source, **keys):
    """Options of a source."""
    return specs.TYPES.options("data")[source](source=source, **keys)


def make(source, **keys):
    """Tensors and provenance of a source with these options."""
    return generate(specs.part("data", source, **keys))


# --- every source


def test_sources_are_parts_with_described_options():
    found = specs.TYPES.registry.parts("data")
    library = {name for name, part in found.items() if not part.paper}
    assert library == {
        *("arrays", "cifar10", "cifar100", "fashion_mnist", "function", "gaussian", "mnist"),
        *("photos", "pictures", "table", "text"),
    }
    assert found["whitened"].paper == "li2022"
    for chosen in specs.TYPES.options("data").values():
        assert chosen.__doc__
        assert all(field.description for field in chosen.model_fields.values())


FINITE = {
    "photos": {},
    "cifar10": {},
    "cifar100": {},
    "mnist": {},
    "fashion_mnist": {},
    "pictures": {"path": "p", "size": [2, 2]},
    "table": {"path": "t.csv", "target": "y"},
    "arrays": {"path": "a.npz"},
    "function": {"file": "f.py"},
    "text": {"path": "t", "length": 3},
    "gaussian": {"inputs": 2, "outputs": 1, "samples": 5},
    "whitened": {"inputs": 2, "samples": 4},
}


@pytest.mark.parametrize("source", FINITE)
def test_finite_datasets_say_so(source):
    assert "finite samples" in options(source, **FINITE[source]).capabilities()


def test_populations_are_not_finite():
    online = options("gaussian", inputs=2, outputs=1)
    assert online.capabilities() == {"gaussian population"}


@pytest.mark.parametrize(
    ("source", "keys", "form"),
    [
        ("photos", {}, Form("images", (3, 32, 32), 1, "signs", 1000)),
        ("photos", {"pooling": 4}, Form("images", (3, 8, 8), 1, "signs", 1000)),
        ("photos", {"targets": "one_hot"}, Form("images", (3, 32, 32), 2, "one_hot", 1000)),
        (
            "photos",
            {"targets": "one_hot", "strips": 5, "draw": "fixed"},
            Form("images", (3, 32, 32), 10, "one_hot", 1000),
        ),
        ("photos", {"pooling": 8}, Form("images", (3, 4, 4), 1, "signs", 1000)),
        ("cifar10", {"samples": 20}, Form("images", (3, 32, 32), 1, "signs", 20)),
        ("cifar10", {"targets": "one_hot"}, Form("images", (3, 32, 32), 10, "one_hot", 1000)),
        (
            "cifar10",
            {"targets": "one_hot", "classes": [4, 1, 2], "samples": 9},
            Form("images", (3, 32, 32), 3, "one_hot", 9),
        ),
        ("cifar100", {"targets": "one_hot"}, Form("images", (3, 32, 32), 100, "one_hot", 1000)),
        (
            "cifar100",
            {"targets": "one_hot", "labels": "coarse"},
            Form("images", (3, 32, 32), 20, "one_hot", 1000),
        ),
        ("mnist", {"classes": [3, 8]}, Form("images", (1, 28, 28), 1, "signs", 1000)),
        ("mnist", {"pooling": 7}, Form("images", (1, 4, 4), 1, "signs", 1000)),
        ("fashion_mnist", {}, Form("images", (1, 28, 28), 1, "signs", 1000)),
        ("whitened", {"inputs": 3, "samples": 4}, Form("vectors", (3,), 1, "signs", 4)),
        ("gaussian", {"inputs": 3, "outputs": 2}, Form("population", (3,), 2, "real", None)),
    ],
)
def test_forms_are_known_from_the_options(source, keys, form):
    assert options(source, **keys).form() == form


def test_labels_of_file_names():
    assert options("photos", scaling="unit").label == "unit"
    assert options("cifar10").label == "standardised"
    assert options("cifar10", pooling=4).label == "standardised-pooled-4"
    assert options("cifar100", labels="coarse").label == "coarse-standardised"


@pytest.mark.parametrize(
    ("source", "keys", "message"),
    [
        ("photos", {"samples": 101}, "multiple of 2"),
        ("photos", {"samples": 1952}, "less than or equal to 1950"),
        ("photos", {"strips": 10, "parts": 9}, "parts = 9, and each of 10 strips .* has 8 cells"),
        (
            "photos",
            {"pooling": 5},
            "pooling = 5 does not divide pictures of 32 × 32 pixels into whole",
        ),
        (
            "mnist",
            {"pooling": 8},
            "pooling = 8 does not divide pictures of 28 × 28 pixels into whole",
        ),
        (
            "photos",
            {"strips": 5, "draw": "fixed", "samples": 28, "targets": "one_hot"},
            "samples = 28 is not a multiple of 10, the number of classes",
        ),
        ("cifar10", {"samples": 101}, "samples = 101 is not a multiple of 2, the number of signs"),
        ("cifar10", {"samples": 60_001}, "less than or equal to 60000"),
        ("cifar10", {"classes": [1, 1]}, "the same value stands in the list twice"),
        ("cifar10", {"classes": [1]}, "at least 2"),
        ("cifar10", {"classes": [1, 10]}, "classes lists 10, where the classes are 0 to 9"),
        ("cifar10", {"classes": [1, -1]}, "greater than or equal to 0"),
        ("cifar10", {"classes": [1, 2, 3]}, "an even number of classes.*not 3.*one_hot"),
        (
            "cifar10",
            {"classes": [1, 2, 3], "targets": "one_hot"},
            "samples = 1000 is not a multiple of 3, the number of classes",
        ),
        ("cifar100", {"labels": "coarse", "classes": [19, 20]}, "lists 20, .* 0 to 19"),
        ("mnist", {"label_noise": 1.0}, "less than 1"),
        ("mnist", {"label_noise": -0.1}, "greater than or equal to 0"),
        ("mnist", {"targets": "real"}, "'signs' or 'one_hot'"),
        ("mnist", {"scaling": "none"}, "'unit', 'standardised', 'contrast' or 'whitened'"),
        ("whitened", {"inputs": 9, "samples": 4}, "samples = 4 is less than inputs = 9"),
    ],
)
def test_options_that_cannot_be_are_refused(source, keys, message):
    with pytest.raises(ValidationError, match=message):
        options(source, **keys)


# --- photos


@pytest.fixture(scope="module")
def photo_set():
    return make("photos", scaling="unit")[0]


def pixels(tensors):
    """Pixels of a dataset with `unit` scaling."""
    return (255 * tensors["inputs"]).round().to(torch.uint8)


def test_photos_are_balanced_and_of_cifar10_shape(photo_set):
    assert photo_set["inputs"].shape == (1000, 3, 32, 32)
    assert photo_set["targets"].dtype == torch.float32
    assert photo_set["targets"].tolist() == [[1.0]] * 500 + [[-1.0]] * 500


def test_no_two_photo_patches_are_alike(photo_set):
    from sklearn.datasets import load_sample_images

    everything = np.concatenate([photos.patches(image) for image in load_sample_images().images])
    assert len(np.unique(everything.reshape(len(everything), -1), axis=0)) == 1950
    assert len(torch.unique(photo_set["inputs"].flatten(1), dim=0)) == 1000


def test_photos_are_deterministic_and_nested(photo_set):
    few, again = (make("photos", samples=10, scaling="unit")[0] for _ in range(2))
    assert torch.equal(few["inputs"], again["inputs"])
    assert torch.equal(few["inputs"][:5], photo_set["inputs"][:5])
    assert torch.equal(few["inputs"][5:], photo_set["inputs"][500:505])


def test_photo_patches_stand_in_their_photograph(photo_set):
    from sklearn.datasets import load_sample_images

    for first, image in zip((0, 500), load_sample_images().images, strict=True):
        patch = pixels(photo_set)[first].permute(1, 2, 0).numpy()
        rows, columns = np.nonzero((image == patch[0, 0]).all(axis=2))
        assert any(
            np.array_equal(image[r : r + 32, c : c + 32], patch)
            for r, c in zip(rows, columns, strict=True)
        )


def test_photos_become_two_outputs():
    signs, _ = make("photos", samples=6)
    tensors, _ = make("photos", samples=6, targets="one_hot")
    assert "targets" not in tensors
    assert tensors["labels"].tolist() == [0, 0, 0, 1, 1, 1]
    assert tensors["labels"].dtype == tensors["classes"].dtype == torch.int64
    assert tensors["classes"].item() == 2
    assert torch.equal(tensors["inputs"], signs["inputs"])


def test_strips_are_classes_whose_patches_share_no_pixel():
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    chosen = {"draw": "fixed", "strips": 5, "scaling": "unit"}
    tensors, _ = make("photos", samples=1750, targets="one_hot", **chosen)
    assert tensors["labels"].bincount().tolist() == [175] * 10
    strips = [strip for image in photographs for strip in np.array_split(image, 5, axis=1)]
    assert sum(strip.shape[1] for strip in strips) == 2 * photographs[0].shape[1]
    pixels = (tensors["inputs"] * 255).round().to(torch.uint8).numpy()
    for label, strip in enumerate(strips):
        inside = {patch.tobytes() for patch in photos.patches(strip)}
        own = pixels[tensors["labels"].numpy() == label]
        assert {patch.tobytes() for patch in own} <= inside
    signs, _ = make("photos", samples=1750, **chosen)
    assert torch.equal(signs["targets"][:, 0] > 0, tensors["labels"] < 5)


def test_draws_of_strips_share_no_pixel():
    chosen = {"draw": "fixed", "strips": 10, "parts": 2, "scaling": "unit"}
    first, second = (
        make("photos", samples=500, targets="one_hot", **chosen, draw_seed=seed)[0]
        for seed in (0, 1)
    )
    assert first["labels"].bincount().tolist() == [25] * 20
    assert len(torch.unique(first["inputs"].flatten(1), dim=0)) == 500
    strips = [strip for image in photos.photographs()[1] for strip in photos.cut(image, 10)]
    for tensors, draw in ((first, 0), (second, 1)):
        patches = pixels(tensors).numpy()
        for label in (0, 13, 19):
            own = photos.part(strips[label], draw, 2)
            inside = {patch.tobytes() for cell in own for patch in photos.patches(cell, 1)}
            assert {each.tobytes() for each in patches[tensors["labels"] == label]} <= inside


def test_pooled_pictures_are_means_over_squares():
    chosen = {"samples": 6, "targets": "one_hot"}
    whole, _ = make("photos", scaling="unit", **chosen)
    coarse, _ = make("photos", scaling="unit", pooling=8, **chosen)
    squares = whole["inputs"].double().reshape(6, 3, 4, 8, 4, 8).mean((3, 5))
    torch.testing.assert_close(coarse["inputs"].double(), squares, rtol=1e-6, atol=1e-7)
    contrast, _ = make("photos", scaling="contrast", pooling=8, **chosen)
    expected = (squares - squares.mean((1, 2, 3), keepdim=True)) / squares.std(
        (1, 2, 3), keepdim=True, unbiased=False
    )
    torch.testing.assert_close(contrast["inputs"].double(), expected, rtol=1e-5, atol=1e-5)


def test_more_patches_than_a_strip_has_are_refused():
    spec = specs.part("data", "photos", strips=5, draw="fixed", targets="one_hot")
    with pytest.raises(DataError, match=r"china\.jpg, strip 1.* has 175; ask for at most 1750"):
        generate(spec | {"samples": 1760})


def test_too_many_photos_are_refused_with_the_count():
    spec = specs.part("data", "photos") | {"samples": 1952}
    with pytest.raises(DataError, match=r"samples = 1952 .*china\.jpg.* has 975; .*at most 1950"):
        generate(spec)


# --- pixel scaling and the tensors of a dataset


def test_pixel_scalings_in_closed_form():
    drawn = torch.randint(
        0, 256, (6, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    unit = scale_pixels(drawn, "unit")
    assert unit.dtype == torch.float32
    torch.testing.assert_close(unit.double(), drawn.double() / 255, rtol=1e-7, atol=0)
    standard = scale_pixels(drawn, "standardised").double()
    for channel in range(3):
        values = drawn[:, channel].double().numpy()
        expected = (values - values.mean()) / values.std()
        np.testing.assert_allclose(standard[:, channel].numpy(), expected, atol=1e-6)


def test_contrast_takes_brightness_and_contrast_out_of_each_picture():
    drawn = torch.randint(
        0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    drawn[4] = drawn[4] // 4 + 60
    drawn[5] = 77
    scaled = scale_pixels(drawn, "contrast").double()
    for picture in range(5):
        values = drawn[picture].double().numpy()
        expected = (values - values.mean()) / values.std()
        np.testing.assert_allclose(scaled[picture].numpy(), expected, atol=1e-6)
    assert scaled[5].count_nonzero() == 0


def test_whitening_evens_out_the_principal_components():
    source = torch.Generator().manual_seed(0)
    stds = torch.tensor([100.0, 50.0, 30.0, 1.0, 1e-3], dtype=torch.float64)
    samples = torch.randn(400, 5, dtype=torch.float64, generator=source) * stds
    samples = torch.linalg.qr(samples - samples.mean(0)).Q * 400**0.5 * stds + 7.0
    found = whitened(samples)
    variances = found.T @ found / 400
    expected = stds.square() / (stds.square() + WHITENING_FLOOR * stds[0].square())
    expected *= 5 / expected.sum()
    torch.testing.assert_close(variances, torch.diag(expected), atol=1e-9, rtol=1e-9)
    assert whitened(torch.full((4, 3), 2.0, dtype=torch.float64)).count_nonzero() == 0
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64, generator=source)).Q
    torch.testing.assert_close(whitened(samples @ turn), found @ turn)  # it stays in pixel space


def test_whitened_photographs_are_flatter_in_their_spectrum():
    plain, flat = (make("photos", samples=60, scaling=s)[0] for s in ("contrast", "whitened"))
    shares = []
    for tensors in (plain, flat):
        spectrum = torch.linalg.svdvals(tensors["inputs"].flatten(1).double()).square()
        shares.append(float(spectrum[0] / spectrum.sum()))
    assert shares[1] < 0.2 * shares[0]
    assert float(flat["inputs"].square().mean()) == pytest.approx(1.0, rel=1e-5)


def test_a_channel_of_one_value_becomes_zero():
    drawn = torch.full((7, 2, 3, 3), 77, dtype=torch.uint8)
    drawn[0, 1] = 9
    standard = scale_pixels(drawn, "standardised")
    assert standard[:, 0].count_nonzero() == 0
    assert standard.isfinite().all()
    torch.testing.assert_close(standard[:, 1].square().mean(), torch.tensor(1.0))


@pytest.mark.parametrize("scaling", ["unit", "standardised", "contrast", "whitened"])
def test_generated_photos_are_consistent(scaling):
    tensors, provenance = make("photos", samples=20, scaling=scaling)
    assert sorted(tensors) == ["basis", "coordinates", "inputs", "targets"]
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


@settings(max_examples=40, deadline=None)
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


# --- label noise


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40), st.integers(2, 6), st.floats(0, 0.99), st.floats(0, 0.99), st.integers(0, 9)
)
def test_label_noise_changes_its_share_of_the_labels(n, count, share, larger, seed):
    share, larger = sorted((share, larger))
    labels = torch.arange(n) % count
    noisy, noisier = (with_noise(labels, count, each, seed) for each in (share, larger))
    assert int((noisy != labels).sum()) == round(share * n)
    assert noisy.min() >= 0
    assert noisy.max() < count
    wrong = noisy != labels
    assert torch.equal(noisier[wrong], noisy[wrong])
    assert torch.equal(noisy, with_noise(labels, count, share, seed))


def test_wrong_labels_are_spread_over_the_other_classes():
    labels = torch.full((30_000,), 2)
    noisy = with_noise(labels, 4, 0.9, 0)
    counts = torch.bincount(noisy, minlength=4)
    assert counts[2] == 3000
    np.testing.assert_allclose(counts[[0, 1, 3]], 9000, rtol=0.03)
    assert not torch.equal(noisy, with_noise(labels, 4, 0.9, 1))


def test_label_noise_flips_signs_and_keeps_inputs():
    clean, _ = make("photos", samples=40)
    noisy, _ = make("photos", samples=40, label_noise=0.25, label_seed=3)
    assert torch.equal(noisy["inputs"], clean["inputs"])
    assert int((noisy["targets"] == -clean["targets"]).sum()) == 10
    assert int((noisy["targets"] == clean["targets"]).sum()) == 30


# --- CIFAR-10


def write_batch(path, labels, seed=0):
    """A batch file with these labels and random pixels; returns the pixels."""
    drawn = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    records = np.concatenate([np.asarray(labels, dtype=np.uint8)[:, None], drawn], axis=1)
    path.write_bytes(records.tobytes())
    return drawn.reshape(-1, 3, 32, 32)


def cifar10(path, samples, classes=None, **keys):
    """CIFAR-10 of a folder, with `unit` scaling."""
    return make("cifar10", path=str(path), samples=samples, classes=classes, scaling="unit", **keys)


@pytest.fixture
def folder(tmp_path):
    """Two batch files: labels 0..9 twice, then 9..0; every class three times."""
    first = write_batch(tmp_path / "data_batch_1.bin", [*range(10), *range(10)], seed=1)
    second = write_batch(tmp_path / "data_batch_2.bin", range(9, -1, -1), seed=2)
    (tmp_path / "test_batch.bin").write_bytes(b"never read")
    return tmp_path, np.concatenate([first, second])


def test_cifar10_reads_records_in_order(folder):
    path, written = folder
    labels, read = read_records(path / "data_batch_1.bin", "CIFAR-10", (10,))
    assert labels[:, 0].tolist() == [*range(10), *range(10)]
    np.testing.assert_array_equal(read, written[:20])
    raw = (path / "data_batch_1.bin").read_bytes()
    assert read[3, 2, 31, 0] == raw[3 * 3073 + 1 + 2 * 1024 + 31 * 32 + 0]


def test_cifar10_splits_the_ten_classes_into_two_groups(folder):
    path, written = folder
    tensors, _ = cifar10(path, 30)
    labels = np.array([*range(10), *range(10), *range(9, -1, -1)])
    assert tensors["targets"].tolist() == [[1.0]] * 15 + [[-1.0]] * 15
    np.testing.assert_array_equal(pixels(tensors)[:15].numpy(), written[labels < 5])
    np.testing.assert_array_equal(pixels(tensors)[15:].numpy(), written[labels >= 5])
    few, _ = cifar10(path, 6)
    np.testing.assert_array_equal(pixels(few).numpy(), written[[0, 1, 2, 5, 6, 7]])


def test_cifar10_takes_two_classes_in_the_order_given(folder):
    path, written = folder
    tensors, _ = cifar10(path, 4, [7, 2])
    np.testing.assert_array_equal(pixels(tensors).numpy(), written[[7, 17, 2, 12]])
    assert tensors["targets"].tolist() == [[1.0], [1.0], [-1.0], [-1.0]]
    swapped, _ = cifar10(path, 4, [2, 7])
    np.testing.assert_array_equal(pixels(swapped).numpy(), written[[2, 12, 7, 17]])
    zero, _ = cifar10(path, 2, [0, 9])
    np.testing.assert_array_equal(pixels(zero).numpy(), written[[0, 9]])


def test_cifar10_halves_the_classes_that_are_listed(folder):
    path, written = folder
    tensors, _ = cifar10(path, 6, [8, 3, 1, 6])
    np.testing.assert_array_equal(pixels(tensors).numpy(), written[[3, 8, 13, 1, 6, 11]])
    assert tensors["targets"].flatten().tolist() == [1.0] * 3 + [-1.0] * 3


def test_cifar10_becomes_an_output_a_class(folder):
    path, written = folder
    tensors, _ = cifar10(path, 6, [7, 0, 2], targets="one_hot")
    np.testing.assert_array_equal(pixels(tensors).numpy(), written[[7, 17, 0, 10, 2, 12]])
    assert tensors["labels"].tolist() == [0, 0, 1, 1, 2, 2]
    assert tensors["classes"].item() == 3
    everything, _ = cifar10(path, 30, targets="one_hot")
    assert everything["labels"].tolist() == [label for label in range(10) for _ in range(3)]


def test_cifar10_records_the_checksums(folder):
    path, _ = folder
    names = ("data_batch_1.bin", "data_batch_2.bin")
    expected = {n: hashlib.sha256((path / n).read_bytes()).hexdigest() for n in names}
    found = cifar10(path, 2)[1]
    assert found == {"source": "cifar10", "archive_verified": False, "sha256": expected}


def test_too_few_samples_of_a_class_name_the_count(folder):
    path, _ = folder
    with pytest.raises(DataError, match=r"data\.samples = 8 needs 4 .*class 7.* has 3.*at most 6"):
        cifar10(path, 8, [7, 2])
    with pytest.raises(DataError, match=r"needs 16 .*classes 0, 1, 2, 3, 4.* has 15.*at most 30"):
        cifar10(path, 32)
    with pytest.raises(DataError, match=r"needs 4 images of class 0, .* has 3; ask for at most 30"):
        cifar10(path, 40, targets="one_hot")
    write_batch(path / "data_batch_1.bin", [1, 2])
    (path / "data_batch_2.bin").unlink()
    with pytest.raises(DataError, match=r"needs 1 images of class 3, but .* has 0\.$"):
        cifar10(path, 2, [1, 3])


@pytest.mark.parametrize("size", [0, 1, 3072, 3074, 2 * 3073 - 1])
def test_a_file_that_is_not_whole_records_is_refused(tmp_path, size):
    (tmp_path / "data_batch_1.bin").write_bytes(bytes(size))
    with pytest.raises(DataError, match=rf"data_batch_1\.bin has {size} bytes.*3073"):
        cifar10(tmp_path, 2)


@pytest.mark.parametrize("label", [10, 255])
def test_a_label_above_nine_is_refused(tmp_path, label):
    write_batch(tmp_path / "data_batch_1.bin", [0, 9, label, 3])
    with pytest.raises(DataError, match=rf"data_batch_1\.bin: record 2 has label {label}"):
        cifar10(tmp_path, 2)


def test_a_folder_without_batches_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=r"holds no data_batch_\*\.bin.*binary version") as e:
            cifar10(path, 2)
        assert str(path) in str(e.value)
    with pytest.raises(DataError, match=r"data_batch_1\.bin cannot be read: No such file"):
        read_records(tmp_path / "data_batch_1.bin", "CIFAR-10", (10,))


@needs_cifar10
def test_real_cifar10_batches():
    tensors, _ = cifar10(SHARED, 200, [0, 1])
    assert tensors["inputs"].shape == (200, 3, 32, 32)
    assert tensors["targets"].sum() == 0
    assert len(torch.unique(tensors["inputs"].flatten(1), dim=0)) == 200
    file = sorted(SHARED.glob("data_batch_*.bin"))[0]
    labels, read = read_records(file, "CIFAR-10", (10,))
    assert set(labels[:, 0]) == set(range(10))
    first = read[np.flatnonzero(labels[:, 0] == 0)[0]]
    np.testing.assert_array_equal(pixels(tensors)[0].numpy(), first)
    # neighbouring pixels of a photograph are alike; of a wrongly read one they are not
    rows = read[:500].astype(float)
    step = np.abs(np.diff(rows, axis=3)).mean()
    assert step < 0.35 * rows.std()


@needs_cifar10
def test_real_cifar10_names_the_count_of_a_scarce_class():
    files = sorted(SHARED.glob("data_batch_*.bin"))
    if len(files) > 1:
        pytest.skip("the whole set has enough of every class")
    labels, _ = read_records(files[0], "CIFAR-10", (10,))
    zero, one = ((labels == label).sum() for label in (0, 1))
    with pytest.raises(DataError, match=rf"has {zero}; ask for at most {2 * min(zero, one)}"):
        cifar10(SHARED, int(2 * zero + 2), [0, 1])


# --- the sample of li2022's proof


def test_whitened_inputs_have_their_spectrum():
    tensors, _ = make("whitened", inputs=4, samples=10, leading_std=2.0, other_std=0.5)
    assert tensors["inputs"].dtype == tensors["targets"].dtype == torch.float64
    moments = tensors["inputs"].T @ tensors["inputs"] / 10
    expected = torch.diag(torch.tensor([4.0, 0.25, 0.25, 0.25], dtype=torch.float64))
    torch.testing.assert_close(moments, expected, rtol=0, atol=1e-13)
    assert tensors["targets"].flatten().tolist() == [1.0] * 5 + [-1.0] * 5
