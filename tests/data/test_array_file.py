"""A user's own images as arrays in an npz file: what is read, and what is refused."""

import io
import os
import resource
import zipfile

import numpy as np
import pytest

from kdbench.data import DataError, load
from kdbench.data.array_file import ArrayFile
from kdbench.data.npz import stored_arrays
from kdbench.data.packed import is_packed, remember
from kdbench.data.test_set import open_test_set

NAMES = np.array(["chat", "Öl", "日本"])


def arrays(**changes):
    """Three classes in two parts, 18 and 9 images of 6x5 pixels and 3 channels; `None` leaves a
    key out."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (27, 6, 5, 3), dtype=np.uint8)
    whole = {
        "x_train": images[:18], "y_train": np.arange(18) % 3,
        "x_test": images[18:], "y_test": np.arange(9) % 3,
    }  # fmt: skip
    return {key: value for key, value in (whole | changes).items() if value is not None}


def one_pair(**changes):
    whole = arrays()
    return {
        "x": np.concatenate([whole["x_train"], whole["x_test"]]),
        "y": np.concatenate([whole["y_train"], whole["y_test"]]),
        **changes,
    }


@pytest.fixture
def packed(tmp_path):
    """Both parts of arrays that are saved, packed and read."""

    def packed(contents, test=0.0, save=np.savez):
        save(tmp_path / "mine.npz", **contents)
        name = remember(ArrayFile(tmp_path / "mine.npz", test))
        return load(name, tmp_path / "cache"), open_test_set(name, tmp_path / "cache")

    return packed


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_both_parts_are_the_arrays(packed, save):
    data, test = packed(arrays(), save=save)
    assert is_packed(data.name)
    assert data.name.startswith("mine@")
    assert data.class_names == test.class_names == ("0", "1", "2")
    for part, (images, labels) in ((data, ("x_train", "y_train")), (test, ("x_test", "y_test"))):
        assert np.array_equal(part.images.numpy(), arrays()[images].transpose(0, 3, 1, 2))
        assert np.array_equal(part.labels.numpy(), arrays()[labels])


def test_every_layout_gives_the_same_images(packed):
    last = arrays()
    first = {
        key: np.ascontiguousarray(value.transpose(0, 3, 1, 2)) if key[0] == "x" else value
        for key, value in last.items()
    }
    assert packed(first)[0].checksum == packed(last)[0].checksum
    grey = {key: value[..., :1] if key[0] == "x" else value for key, value in last.items()}
    flat = {key: value[..., 0] if key[0] == "x" else value for key, value in last.items()}
    assert packed(flat)[0].shape == (1, 6, 5)
    assert packed(flat)[0].checksum == packed(grey)[0].checksum


def test_a_share_of_one_pair_is_the_test_part(packed):
    data, test = packed(one_pair(), test=1 / 3)
    assert data.labels.bincount().tolist() == [6, 6, 6]
    assert test.labels.bincount().tolist() == [3, 3, 3]
    every = np.concatenate([data.images.numpy(), test.images.numpy()])
    found = {image.tobytes() for image in every}
    assert found == {image.tobytes() for image in one_pair()["x"].transpose(0, 3, 1, 2)}


def test_classes_have_the_names_that_are_given(packed):
    data, test = packed(arrays(classes=NAMES))
    assert data.class_names == test.class_names == tuple(NAMES)


def test_the_address_follows_contents_and_share(tmp_path):
    def name(contents, test=0.0):
        np.savez(tmp_path / "mine.npz", **contents)
        return ArrayFile(tmp_path / "mine.npz", test).name()

    other = arrays()
    other["x_train"] = other["x_train"] ^ 1
    names = [name(arrays()), name(other), name(one_pair(), 0.2), name(one_pair(), 0.3)]
    assert len(set(names)) == 4
    assert name(arrays()) == names[0]


def shifted(key, by):
    return {key: arrays()[key] + by}


LEAK = {"x_test": np.concatenate([arrays()["x_train"][3:4], arrays()["x_test"][1:]])}
FLOAT = arrays()["x_train"] / 255
NOT_A_NUMBER = np.where(arrays()["y_train"] == 1, np.nan, arrays()["y_train"])
GREENLESS = np.array([255, 0, 255], dtype=np.uint8)
OBJECTS = np.array([{"a": 1}, None], dtype=object)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"y_test": None}, ["should hold x_train, y_train, x_test, y_test", "found", "data.test"]),
        ({"x": arrays()["x_train"]}, ["should hold x_train", "found x, x_test"]),
        ({"y_train": np.arange(17) % 3}, ["18 images", "17 labels"]),
        ({"x_train": FLOAT}, ["x_train is float64", "astype('uint8')"]),
        ({"x_train": FLOAT * np.nan}, ["x_train is float64", "uint8"]),
        ({"x_train": arrays()["x_train"].astype(np.int64)}, ["x_train is int64", "uint8"]),
        ({"x_train": OBJECTS}, ["x_train holds Python objects"]),
        ({"y_train": OBJECTS}, ["y_train holds Python objects"]),
        ({"y_train": NOT_A_NUMBER}, ["y_train is float64", "whole numbers"]),
        ({"y_train": arrays()["y_train"] == 1}, ["y_train is bool"]),
        ({"y_train": np.eye(3, dtype=int)[arrays()["y_train"]]}, ["(18, 3)", "argmax(1)"]),
        ({"y_train": arrays()["y_train"][:, None]}, ["(18, 1)", "ravel()"]),
        (shifted("y_train", 1) | shifted("y_test", 1), ["0 to 2", "found 3", "return_inverse"]),
        (shifted("y_train", -1) | shifted("y_test", -1), ["0 to 2", "found -1"]),
        ({"y_train": np.full(18, 2**63, np.uint64)}, ["0 to 3", "found 9223372036854775808"]),
        (shifted("y_test", 1), ["0 (not in test)", "3 (not in train)"]),
        ({"y_train": np.arange(18) // 17 * 2 % 3}, ["stand in one part only", "1 (not in train)"]),
        ({"classes": NAMES[:2]}, ["as there are 2 classes", "found 2"]),
        ({"classes": np.array([*NAMES, "neu"])}, ["classes without an image", "3 (neu)"]),
        ({"classes": np.array(["a", "b", "a"])}, ["one name"]),
        ({"classes": np.arange(3)}, ["classes is int64", "list of names"]),
        ({"x_test": arrays()["x_test"][:, :5]}, ["one shape", "(18, 6, 5, 3)", "(9, 5, 5, 3)"]),
        ({"x_train": np.zeros((18, 9, 9, 9), np.uint8)}, ["(18, 9, 9, 9)", "channels last or"]),
        ({"x_train": np.zeros((18, 75), np.uint8)}, ["(18, 75)", "images x height x width"]),
        ({"x_train": np.zeros((18, 4, 4, 4), np.uint8)}, ["(18, 4, 4, 4)"]),
        ({"x_train": np.asfortranarray(arrays()["x_train"])}, ["Fortran", "ascontiguousarray"]),
        ({"x_train": arrays()["x_train"][:0], "y_train": arrays()["y_train"][:0]}, ["not in tr"]),
        (LEAK, ["1 images that stand in both parts", "x_train[3] and x_test[0]", "remove"]),
        ({"x_train": arrays()["x_train"] & GREENLESS}, ["channel 1", "value 0", "normalised"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_error(packed, tmp_path, changes, parts):
    with pytest.raises(DataError) as error:
        packed(arrays(**changes))
    for part in parts:
        assert part in str(error.value)
    assert not list(tmp_path.glob("cache/packed/mine*"))


def test_an_image_that_a_share_would_put_into_both_parts_is_named(packed):
    whole = one_pair()
    whole["x"] = np.repeat(whole["x"][:3], 9, axis=0)
    whole["y"] = np.repeat(np.arange(3), 9)
    with pytest.raises(DataError, match=r"stand in both parts[^\0]*x\[\d+\] and x\[\d+\]"):
        packed(whole, test=1 / 3)


def test_one_pair_without_a_share_says_what_it_would_take(packed):
    with pytest.raises(DataError, match=r"found x, y\. With data.test, a share of them, it should"):
        packed(one_pair())
    with pytest.raises(DataError, match=r"should hold x, y \(and .* Without data.test it should"):
        packed(arrays(), test=0.2)


# --- files that are none, or hostile ------------------------------------------------------


def npy(shape, content, descr="|u1"):
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + content


def archive(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as opened:
        for name, content in members.items():
            opened.writestr(f"{name}.npy", content)


def cut(path):
    np.savez(path, **arrays())
    path.write_bytes(path.read_bytes()[:-400])


def flipped(path):
    np.savez(path, **arrays())
    content = bytearray(path.read_bytes())
    content[content.index(arrays()["x_train"].tobytes()[:64])] ^= 1
    path.write_bytes(content)


def declared_longer(path):
    labels = npy((18,), bytes(18))
    archive(path, {"x_train": npy((10**12, 6, 5, 3), b""), "y_train": labels,
                   "x_test": npy((9, 6, 5, 3), b""), "y_test": labels})  # fmt: skip


def packed_by_lzma(path):
    archive(path, {"x_train": npy((1,), b"x")}, zipfile.ZIP_LZMA)


def many(path):
    archive(path, {f"a{number}": b"" for number in range(65)})


def pickled(path):
    archive(path, {"x_train": npy((1,), b"cos\nsystem\n(S'touch /tmp/x'\ntR.", "|O")})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: None, "is not a file"),
        (os.mkfifo, "is not a file"),
        (lambda path: path.write_bytes(b"not a zip"), "cannot be read as an npz file"),
        (lambda path: np.save(path.open("wb"), np.zeros(3)), "cannot be read as an npz file"),
        (cut, "cannot be read as an npz file"),
        (flipped, "Bad CRC-32"),
        (declared_longer, "90,000,000,000,128 were declared"),
        (packed_by_lzma, "compressed in another way"),
        (many, "more than 64 arrays"),
        (pickled, "Python objects"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, spoil, message):
    spoil(tmp_path / "mine.npz")
    with pytest.raises(DataError, match=message):
        load(remember(ArrayFile(tmp_path / "mine.npz")), tmp_path / "cache")
    assert not list(tmp_path.glob("cache/packed/mine*"))


def test_an_array_is_read_in_pieces_and_labels_of_a_bomb_are_not(tmp_path):
    """Zeros that compress to a thousandth, declared as they are."""
    size = 150 << 20
    path = tmp_path / "mine.npz"
    archive(path, {"x": npy((size // 16, 4, 4), bytes(size))}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 1 << 20
    (array,) = stored_arrays(path).values()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(piece.nbytes for piece in array.pieces()) == size
    with pytest.raises(DataError, match="x has more than 134,217,728 bytes"):
        array.whole()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 80 << 10
