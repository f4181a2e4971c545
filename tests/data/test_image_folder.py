"""A user's own images: which files are taken, what becomes of their pixels, what is refused."""

import dataclasses
import hashlib
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from kdbench.data import VIEWS, DataError, Views, load, packed
from kdbench.data.image_folder import FolderSettings, ImageFolder, decode
from kdbench.data.packed import is_packed, remember
from kdbench.data.test_set import open_test_set
from kdbench.records.files import DiskFull
from kdbench.registry import UnknownName

RGB = FolderSettings(8)
NAMES = ("chat", "Öl", "日本")


class FullDisk:
    """`shutil` on a disk with a byte left."""

    rmtree = shutil.rmtree

    @staticmethod
    def disk_usage(path):
        return SimpleNamespace(free=1)


def picture(seed, side=12, channels=3):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (side, side, channels), dtype=np.uint8)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def tree(tmp_path):
    """Three classes in two parts, PNG throughout."""
    seed = 0
    for part, count in (("train", 6), ("test", 3)):
        for name in NAMES:
            for index in range(count):
                seed += 1
                save(tmp_path / "flowers" / part / name / f"{index}.png", picture(seed))
    return tmp_path / "flowers"


def test_both_parts_are_read_under_an_address_of_the_contents(tree, tmp_path):
    name = remember(ImageFolder(tree, RGB))
    assert is_packed(name)
    assert name.startswith("flowers@")
    data, test = load(name, tmp_path / "cache"), open_test_set(name, tmp_path / "cache")
    assert data.class_names == test.class_names == tuple(sorted(NAMES))
    assert (data.shape, len(data.labels), len(test.labels)) == ((3, 8, 8), 18, 9)
    assert data.labels.bincount().tolist() == [6, 6, 6]
    assert data.mean == test.mean
    # Packed once: what is loaded again does not look at the folder.
    for path in tree.rglob("*.png"):
        path.unlink()
    assert load(name, tmp_path / "cache").checksum == data.checksum


def test_pixels_stay_what_they_are_where_nothing_has_to_change(tmp_path):
    save(tmp_path / "x.png", picture(0, side=8))
    assert np.array_equal(decode(tmp_path / "x.png", RGB), picture(0, side=8).transpose(2, 0, 1))
    save(tmp_path / "g.bmp", picture(0, side=8)[:, :, 0])
    grey = decode(tmp_path / "g.bmp", FolderSettings(8, "grey"))
    assert np.array_equal(grey, picture(0, side=8)[None, :, :, 0])


@pytest.mark.parametrize("suffix", ["jpg", "webp", "bmp", "png", "tiff", "gif"])
def test_formats(tmp_path, suffix):
    save(tmp_path / f"x.{suffix}", np.full((10, 20, 3), (200, 100, 50), dtype=np.uint8))
    found = decode(tmp_path / f"x.{suffix}", RGB)
    assert found.shape == (3, 8, 8)
    assert np.abs(found.mean((1, 2)) - (200, 100, 50)).max() < 6


def test_modes(tmp_path):
    clear = np.zeros((8, 8, 4), dtype=np.uint8)  # black, and wholly transparent
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert (decode(tmp_path / "clear.png", RGB) == 255).all()
    deep = np.full((8, 8), 257 * 77, dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert (decode(tmp_path / "deep.png", RGB) == 77).all()
    Image.fromarray(picture(3, 8)).quantize(4).save(tmp_path / "palette.png")
    expected = np.asarray(Image.open(tmp_path / "palette.png").convert("RGB"))
    assert np.array_equal(decode(tmp_path / "palette.png", RGB), expected.transpose(2, 0, 1))
    Image.fromarray(picture(3, 8)).convert("CMYK").save(tmp_path / "print.jpg")
    assert decode(tmp_path / "print.jpg", RGB).shape == (3, 8, 8)


def test_the_middle_is_kept_and_exif_turns(tmp_path):
    wide = np.zeros((8, 24, 3), dtype=np.uint8)
    wide[:, 8:16] = 255
    save(tmp_path / "wide.png", wide)
    assert (decode(tmp_path / "wide.png", RGB) == 255).all()
    upright = np.zeros((8, 8, 3), dtype=np.uint8)
    upright[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(upright).save(tmp_path / "turned.png", exif=exif)
    turned = decode(tmp_path / "turned.png", RGB)
    assert turned[:, :, 4:].min() > 200
    assert turned[:, :, :4].max() < 50


def test_a_folder_of_classes_is_divided_by_a_share(tree):
    folder = ImageFolder(tree / "train", FolderSettings(8, test=1 / 3))
    files = folder.scan()
    tests = [file for file in files if file.part == "test"]
    assert sorted(file.label for file in tests) == sorted(NAMES * 2)
    assert folder.scan() == files  # the same at every start


def test_the_address_follows_contents_and_settings(tree):
    names = {ImageFolder(tree, settings).name() for settings in (RGB, FolderSettings(9))}
    names.add(ImageFolder(tree, FolderSettings(8, "grey")).name())
    before = ImageFolder(tree, RGB).name()
    assert len(names) == 3
    (tree / "train" / ".DS_Store").write_bytes(b"x")
    (tree / "train" / "chat" / "Thumbs.db").write_bytes(b"x")
    assert ImageFolder(tree, RGB).name() == before
    save(tree / "train" / "chat" / "0.png", picture(999))
    assert ImageFolder(tree, RGB).name() not in names


def test_a_file_that_unpacks_to_all_of_the_memory_is_refused(tmp_path):
    Image.new("1", (9000, 9000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 20_000
    with pytest.raises(ValueError, match="9000x9000 pixels"):
        decode(tmp_path / "bomb.png", RGB)


def damaged(tree):
    (tree / "train" / "chat" / "1.png").write_bytes(b"\x89PNG cut")
    (tree / "test" / "Öl" / "0.png").write_bytes(b"")


def leaking(tree):
    Image.open(tree / "train" / "chat" / "0.png").save(tree / "test" / "Öl" / "twin.bmp")


def one_part(tree):
    save(tree / "train" / "new" / "0.png", picture(77))
    save(tree / "train" / "new" / "1.png", picture(78))


def few(tree):
    for index in range(5):
        (tree / "train" / "日本" / f"{index}.png").unlink()


def others(tree):
    (tree / "train" / "chat" / "notes.txt").write_text("x")


@pytest.mark.parametrize(
    ("spoil", "parts"),
    [
        (damaged, ["2 images that cannot be read", "1.png", "0.png"]),
        (leaking, ["1 images that stand in both parts", "twin.bmp", "chat"]),
        (one_part, ["that stand in one part only", "new (not in test)"]),
        (few, ["classes with fewer than 2 training images", "日本 (1)"]),
        (others, ["no images of a class", "notes.txt"]),
    ],
)
def test_what_is_wrong_is_listed(tree, tmp_path, spoil, parts):
    spoil(tree)
    with pytest.raises(DataError) as error:
        load(remember(ImageFolder(tree, RGB)), tmp_path / "cache")
    for part in parts:
        assert part in str(error.value)
    assert not list((tmp_path / "cache").glob("packed/flowers*"))


@pytest.mark.parametrize(
    ("below", "share", "message"),
    [
        ("nowhere", 0, "is not a folder"),
        ("train", 0, "has no folder train"),
        ("", 0.2, "leave data.test out"),
        ("train/chat", 0.2, "no images of a class"),
        ("train", 0.001, "data.test"),
    ],
)
def test_a_layout_that_is_neither_form_is_refused(tree, below, share, message):
    with pytest.raises(DataError, match=message):
        ImageFolder(tree / below, FolderSettings(8, test=share)).scan()


def test_a_damaged_pack_is_named(tree, tmp_path):
    name = remember(ImageFolder(tree, RGB))
    load(name, tmp_path)
    path = tmp_path / "packed" / name / "train-pixels.npy"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train-pixels\.npy is damaged.*Delete it"):
        load(name, tmp_path)
    path.unlink()
    assert len(load(name, tmp_path).labels) == 18
    (path.parent / "packed.json").write_text("[]")
    with pytest.raises(DataError, match=r"packed\.json is damaged. Delete it"):
        load(name, tmp_path)


def test_files_that_change_after_they_were_hashed_are_not_packed_under_their_old_address(
    tree, tmp_path
):
    name = remember(ImageFolder(tree, RGB))
    save(tree / "train" / "chat" / "0.png", picture(999))
    with pytest.raises(DataError, match="changed while they were read"):
        load(name, tmp_path)
    assert not list(tmp_path.glob("packed/flowers*"))


def test_images_for_which_there_is_no_room_are_said_before_any_is_read(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "shutil", FullDisk)
    monkeypatch.setattr(ImageFolder, "examples", lambda _: pytest.fail("images are read"))
    with pytest.raises(DiskFull, match=r"no room for .*pixels\.npy"):
        load(remember(ImageFolder(tree, RGB)), tmp_path)
    assert not list(tmp_path.glob("packed/flowers*"))


@pytest.mark.skipif(sys.platform != "linux", reason="the maps of a process are Linux's")
def test_pixels_stay_in_their_file(tree, tmp_path):
    name = remember(ImageFolder(tree, RGB))
    for data in (load(name, tmp_path), open_test_set(name, tmp_path)):
        start = data.images.data_ptr()
        ranges = [line.split()[::5] for line in Path("/proc/self/maps").read_text().splitlines()]
        (where,) = (
            path[0]
            for span, *path in ranges
            if path and int(span.split("-")[0], 16) <= start < int(span.split("-")[1], 16)
        )
        assert where.endswith("-pixels.npy")
        assert Views(data)._store.data_ptr() == start


def test_what_is_read_from_the_file_is_what_was_in_memory(tree, tmp_path):
    """The checksum and statistics of the whole arrays, taken in one piece."""
    data = load(remember(ImageFolder(tree, RGB)), tmp_path)
    images = data.images.numpy()
    whole = hashlib.sha256(np.ascontiguousarray(images).tobytes() + data.labels.numpy().tobytes())
    assert data.checksum == whole.hexdigest()[:12]
    scaled = images.astype(np.float64) / 255
    assert data.mean == tuple(np.round(scaled.mean((0, 2, 3)), 6))
    assert data.std == tuple(np.round(scaled.std((0, 2, 3)), 6))
    held = dataclasses.replace(data, images=data.images.clone())
    for augment in VIEWS:
        mapped, own = Views(data, augment), Views(held, augment)
        position, view = torch.arange(18), torch.arange(18) % mapped.count
        assert torch.equal(mapped.take(position, view), own.take(position, view))


@pytest.mark.parametrize(
    "name", ["../../x@0123456789ab", "x@../0123456789a", "a/b@0123456789ab", "x@"]
)
def test_no_name_of_packed_images_leaves_their_folder(name, tmp_path):
    assert not is_packed(name)
    with pytest.raises(UnknownName):
        load(name, tmp_path)


def test_images_that_were_packed_elsewhere_are_missed_in_one_line(tmp_path):
    with pytest.raises(DataError, match="Run the study once more beside its images"):
        load("flowers@0123456789ab", tmp_path)
