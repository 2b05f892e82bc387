"""Data that are drawn by seed: whose pixels they are, and that each run has its own."""

import numpy as np
import pytest
import torch
from config_folder import ConfigFolder
from shards import shard
from sklearn.datasets import load_sample_images
from specs import TYPES, part

from sharpflow.config import load, make_plan
from sharpflow.data import photos
from sharpflow.data.base import generate
from sharpflow.models.input_product import InputProduct
from sharpflow.training import train

PARTS = 5


def test_the_photographs_are_those_that_scikit_learn_loads():
    expected = load_sample_images()
    names, images = photos.photographs()
    assert [str(name).rsplit("/", 1)[-1] for name in expected.filenames] == names
    for image, other in zip(images, expected.images, strict=True):
        np.testing.assert_array_equal(image, other)


def dataset(**keys):
    return generate(part("data", "photos", samples=20, draw="fixed", **keys))[0]


def places(draw: int) -> set[tuple[int, int]]:
    """Pixels of a picture that a draw may use; each pixel of the picture says where it is."""
    rows, columns = load_sample_images().images[0].shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    return {int(pixel) for cell in photos.part(index, draw, PARTS) for pixel in cell.ravel()}


def test_consecutive_draws_of_the_photographs_share_no_pixel():
    found = [places(draw) for draw in range(100, 100 + PARTS)]
    assert sum(map(len, found)) == len(set.union(*found))
    assert places(100 + PARTS) == found[0]
    assert min(map(len, found)) > 0.15 * sum(map(len, found))


def test_patches_of_a_draw_lie_in_its_cells():
    picture = np.arange(96 * 96).reshape(96, 96)
    coloured = np.repeat(picture[..., None], 3, axis=2)
    cells = photos.part(coloured, 1, 2)
    inside = {int(pixel) for cell in cells for pixel in cell.ravel()}
    for least in (1, 20):
        found = photos.drawn(cells, least)
        assert len(found) >= least
        assert {int(pixel) for pixel in found.ravel()} <= inside


def test_a_finer_grid_only_where_it_is_needed():
    cells = [np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8)]
    assert len(photos.drawn(cells, 4)) == 4
    assert len(photos.drawn(cells, 5)) == 9
    assert len(photos.drawn(cells, 10**6)) == 81


def test_a_seed_has_the_draw_of_its_number():
    options = TYPES.options("data")["photos"](source="photos", samples=20)
    assert options.draw == "by_seed"
    assert [options.of_seed(seed).draw_seed for seed in (3, 4)] == [3, 4]
    fixed = options.model_copy(update={"draw": "fixed"})
    assert fixed.of_seed(3) is fixed
    first, again, other = (dataset(draw_seed=seed)["inputs"] for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_draw_of_cifar_is_another_choice_of_balanced_records(tmp_path):
    rng = np.random.default_rng(0)
    records = [bytes([i % 10]) + rng.bytes(3072) for i in range(200)]
    for batch in range(1, 6):
        (tmp_path / f"data_batch_{batch}.bin").write_bytes(b"".join(records))
    drawn = [
        generate(part("data", "cifar10", path=str(tmp_path), samples=40, draw="fixed", **keys))[0]
        for keys in ({}, {"draw_seed": 0}, {"draw_seed": 1})
    ]
    assert all(each["targets"].sum() == 0 for each in drawn)
    assert len({each["inputs"].numpy().tobytes() for each in drawn}) == 3


def test_draw_seed_is_for_a_fixed_draw():
    with pytest.raises(ValueError, match="draw_seed is for draw = fixed"):
        part("data", "photos", draw="by_seed", draw_seed=3)


@pytest.mark.parametrize(("batch", "model"), [(None, "mlp"), (4, "mlp"), (None, "cnn")])
def test_a_run_with_its_own_data_is_that_of_a_shard_of_its_own(batch, model):
    datasets = [dataset(draw_seed=seed) for seed in (0, 1)]
    setting = {"kind": model}, {"batch": batch}
    alone = [train(shard(datasets[seed], *setting, seeds=[seed])).table for seed in (0, 1)]
    both = shard(datasets, *setting)
    assert both.inputs.shape[0] == 2
    table = train(both).table
    for seed, expected in enumerate(alone):
        mine = table[table["seed"] == seed].reset_index(drop=True)
        np.testing.assert_allclose(mine["value"], expected["value"], rtol=1e-9, atol=1e-12)
    assert not np.allclose(*(each[each["quantity"] == "loss"]["value"] for each in alone))


@pytest.mark.parametrize("samples", [40, 300])
@pytest.mark.parametrize("runs", [(), (3,)])
def test_products_with_compressed_inputs_of_each_run(samples, runs):
    source = torch.Generator().manual_seed(0)
    x = torch.randn(*runs, samples, samples, dtype=torch.float64, generator=source).tril()
    product = InputProduct(x)
    assert (product.kept < 1) == (samples == 300)
    for lead in ((), (3,)):
        right = torch.randn(*lead, samples, 4, dtype=torch.float64, generator=source)
        torch.testing.assert_close(product.times(right), x @ right)
        torch.testing.assert_close(product.transposed_times(right), x.mT @ right)


def planned(folder, **keys):
    """The shards of a configuration with one case and two seeds."""
    folder.mkdir()
    cases = {"tanh": {"model": {"activation": "tanh"}}}
    files = ConfigFolder(folder)
    files.write({"seeds": 2, "widths": [10], "cases": cases} | keys)
    return make_plan(load(str(files.file), {})).shards.values()


def test_a_shard_names_the_dataset_of_each_of_its_seeds(tmp_path):
    data = {"source": "photos", "samples": 20}
    own = planned(tmp_path / "by_seed", data=data)
    assert all(len(set(each.datasets)) == 2 for each in own)
    fixed = planned(tmp_path / "fixed", data=data | {"draw": "fixed"})
    assert all(len(each.datasets) == 1 for each in fixed)


def test_runs_are_paired_unless_they_are_to_be_independent(tmp_path):
    def streams(name, **keys):
        return {each.training["stream"] for each in planned(tmp_path / name, **keys)}

    assert len(streams("paired")) == 1
    assert len(streams("apart", common_random_numbers=False)) == 2
