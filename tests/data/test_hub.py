"""Data sets that Hugging Face's library reads, by local ones: there need be no network."""

import io

import numpy as np
import pytest
from PIL import Image

from kdbench.data import DataError, load
from kdbench.data.hub import HubImages
from kdbench.data.image_folder import FolderSettings
from kdbench.data.packed import remember
from kdbench.data.test_set import open_test_set

datasets = pytest.importorskip("datasets", reason="datasets is not installed: kdbench[hub]")

RGB = FolderSettings(8)
NAMES = ["chat", "chien"]


def encoded(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


def columns(count, first=0, **changes):
    features = {"img": datasets.Image(), "label": datasets.ClassLabel(names=NAMES)}
    values = {
        "img": [{"bytes": encoded(first + number), "path": None} for number in range(count)],
        "label": [number % 2 for number in range(count)],
    }
    return datasets.Dataset.from_dict(values | changes, datasets.Features(features))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder of parquet files, one a split, as the hub keeps them."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub-cache")
    datasets.disable_progress_bars()

    def hub(**splits):
        folder = tmp_path / "Pets"
        folder.mkdir(exist_ok=True)
        for name, split in splits.items():
            split.to_parquet(folder / f"{name}-00000-of-00001.parquet")
        return str(folder)

    return hub


def test_both_splits_are_read_with_their_labels_and_class_names(hub, tmp_path):
    name = remember(HubImages(hub(train=columns(12), test=columns(4, first=50)), RGB))
    assert name.startswith("pets@")
    data, test = load(name, tmp_path / "cache"), open_test_set(name, tmp_path / "cache")
    assert data.class_names == tuple(NAMES)
    assert data.labels.tolist() == [0, 1] * 6
    assert test.labels.tolist() == [0, 1] * 2
    expected = np.asarray(Image.open(io.BytesIO(encoded(3)))).transpose(2, 0, 1)
    assert np.array_equal(data.images[3].numpy(), expected)


def test_a_share_of_the_only_split_is_the_test_part(hub, tmp_path):
    name = remember(HubImages(hub(train=columns(12)), FolderSettings(8, test=0.5)))
    assert load(name, tmp_path).labels.bincount().tolist() == [3, 3]
    assert open_test_set(name, tmp_path).labels.bincount().tolist() == [3, 3]


def test_the_address_is_that_of_the_contents(hub):
    first = HubImages(hub(train=columns(12), test=columns(4, first=50)), RGB).name()
    assert HubImages(hub(), RGB).name() == first
    assert HubImages(hub(), FolderSettings(9)).name() != first
    assert HubImages(hub(test=columns(4, first=51)), RGB).name() != first


@pytest.mark.parametrize(
    ("splits", "settings", "options", "message"),
    [
        ({"train": 12}, RGB, {}, "has the splits train; say which share is the test part"),
        ({"test": 12}, RGB, {}, "has the splits test; it needs one that is called train"),
        ({"train": 12, "test": 4}, FolderSettings(8, test=0.2), {}, "leave data.test out"),
        ({"train": 12, "test": 4}, RGB, {"label": "lable"}, r"label \(ClassLabel\). Name one"),
        ({"train": 12, "test": 1}, RGB, {}, "chien .not in test"),
        ({}, RGB, {"config": "none"}, "cannot be loaded: "),
    ],
)
def test_what_is_wrong_is_one_error(hub, tmp_path, splits, settings, options, message):
    start = {"train": 50, "test": 0}
    folder = hub(**{name: columns(count, start[name]) for name, count in splits.items()})
    with pytest.raises(DataError, match=message):
        load(remember(HubImages(folder, settings, **options)), tmp_path / "cache")


def test_labels_that_are_hidden_and_images_that_are_damaged_are_named(hub, tmp_path):
    hidden = hub(train=columns(12), test=columns(4, first=50, label=[-1] * 4))
    with pytest.raises(DataError, match="4 images without a label in test"):
        HubImages(hidden, RGB).name()
    images = [{"bytes": b"\x89PNG cut", "path": None}, *columns(4, first=51).to_dict()["img"][1:]]
    damaged = hub(test=columns(4, first=50, img=images))
    with pytest.raises(DataError, match=r"1 images of .* cannot be read:\n  test\[0\]"):
        load(remember(HubImages(damaged, RGB)), tmp_path)


def test_an_image_that_was_published_in_both_splits_is_a_warning(hub, tmp_path, caplog):
    """CIFAR-100 has ten of them, and nobody can take them out."""
    name = remember(HubImages(hub(train=columns(12), test=columns(4, first=11)), RGB))
    assert len(open_test_set(name, tmp_path).labels) == 4
    assert "1 images stand in both parts, as published" in caplog.text
    assert "train[11] and test[0]" in caplog.text
