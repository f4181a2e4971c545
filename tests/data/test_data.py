"""Data sets: their facts, damaged and missing files, the split, and every view."""

import ast
import dataclasses
import hashlib
import os
import pickle
import socket
import struct
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.data_files import FILED, PER_FILE, fake_file, md5, write
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import functional as tv

from kdbench import data as kd
from kdbench.data import VIEWS, DataError, Views
from kdbench.data import augment as augment_module
from kdbench.data.builtin import BUILTIN, _digits_parts
from kdbench.data.datasets import DATASETS, _check
from kdbench.data.files import File
from kdbench.data.load import load, split
from kdbench.data.test_set import open_test_set
from kdbench.registry import Registry


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """`fake(name)` writes a small copy of a data set to a folder and has it accepted."""

    def made(name):
        rng = np.random.default_rng(0)
        described = dataclasses.replace(BUILTIN[name], download=None)
        parts = {}
        for part in ("train_files", "test_files"):
            files = []
            for index, file in enumerate(getattr(described, part)):
                path = tmp_path / file.path
                fake_file(path, rng, index)
                files.append(File(file.path, md5(path), path.stat().st_size))
            parts[part] = tuple(files)
        monkeypatch.setitem(DATASETS, name, dataclasses.replace(described, **parts))
        return tmp_path

    return made


@pytest.mark.parametrize("name", FILED)
def test_files_are_read_in_their_layout(name, fake):
    folder = fake(name)
    found = load(name, folder)
    files = 5 if name == "cifar10" else 1
    shape = (3, 32, 32) if "cifar" in name else (1, 28, 28)
    assert found.images.shape == (files * PER_FILE, *shape)
    assert found.shape == shape
    assert found.images.dtype == torch.uint8
    assert found.labels.dtype == torch.int64
    assert found.labels.shape == (files * PER_FILE,)
    assert found.classes == len(found.class_names) == (100 if name == "cifar100" else 10)
    first = DATASETS[name].train_files[0]
    content = (folder / first.path).read_bytes()
    if "cifar" in name:
        batch = pickle.loads(content)
        assert found.images[1].numpy().tobytes() == batch["data"][1].tobytes()
        key = "fine_labels" if name == "cifar100" else "labels"
        assert found.labels[:PER_FILE].tolist() == batch[key]
    else:
        assert found.images[1].numpy().tobytes() == content[16 + 784 : 16 + 2 * 784]
        assert found.labels.tolist() == [k % 10 for k in range(PER_FILE)]
    test = open_test_set(name, folder)
    assert test.images.shape == (PER_FILE, *shape)
    assert (test.mean, test.std, test.scale) == (found.mean, found.std, found.scale)
    assert test.checksum != found.checksum


def test_torchvision_reads_the_same_from_cifar(fake, monkeypatch):
    from torchvision.datasets import CIFAR10

    folder = fake("cifar10")
    described = DATASETS["cifar10"]
    for kind, files in (("train_list", described.train_files), ("test_list", described.test_files)):
        monkeypatch.setattr(CIFAR10, kind, [[Path(f.path).name, f.md5] for f in files])
    monkeypatch.setattr(CIFAR10, "_load_meta", lambda self: None)
    theirs, ours = CIFAR10(folder), load("cifar10", folder)
    assert np.array_equal(theirs.data, ours.images.permute(0, 2, 3, 1).numpy())
    assert theirs.targets == ours.labels.tolist()


def test_class_names_are_torchvisions():
    from torchvision.datasets import MNIST, FashionMNIST

    assert list(BUILTIN["fashion-mnist"].class_names) == FashionMNIST.classes
    assert [name.split(" ")[0] for name in MNIST.classes] == list(BUILTIN["mnist"].class_names)
    assert len(set(BUILTIN["cifar100"].class_names)) == 100
    assert sorted(BUILTIN["cifar100"].class_names) == list(BUILTIN["cifar100"].class_names)


def test_md5_lists_are_torchvisions():
    from torchvision.datasets import CIFAR10, CIFAR100

    for name, theirs in (("cifar10", CIFAR10), ("cifar100", CIFAR100)):
        for part, listed in (("train_files", theirs.train_list), ("test_files", theirs.test_list)):
            ours = [[Path(f.path).name, f.md5] for f in getattr(BUILTIN[name], part)]
            assert ours == listed


def test_the_folder_comes_from_the_environment(fake, monkeypatch):
    monkeypatch.setenv("KDBENCH_DATA", str(fake("mnist")))
    assert len(load("mnist").labels) == PER_FILE


def test_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("KDBENCH_DATA", "/from/environment")
    assert kd.data_folder(tmp_path) == tmp_path
    assert kd.data_folder(None) == Path("/from/environment")
    monkeypatch.delenv("KDBENCH_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/cache")
    cache = kd.data_folder()
    assert cache.parts[-2:] == ("kdbench", "data")
    assert kd.data_folder("~/images") == Path.home() / "images"


# --- the training part does not know the test part --------------------------------------


@pytest.mark.parametrize("name", FILED)
def test_training_data_do_not_depend_on_test_content(name, fake):
    folder = fake(name)
    before = load(name, folder)
    for file in DATASETS[name].test_files:
        path = folder / file.path
        path.write_bytes(os.urandom(path.stat().st_size))
    after = load(name, folder)
    assert after.checksum == before.checksum
    assert torch.equal(after.images, before.images)
    with pytest.raises(DataError, match="is damaged"):
        open_test_set(name, folder)
    with pytest.raises(DataError, match="is damaged"):
        kd.verify_test_files(name, folder)


def test_checksum_is_over_training_images_and_labels(fake, monkeypatch):
    folder = fake("mnist")
    found = load("mnist", folder)
    content = found.images.contiguous().numpy().tobytes() + found.labels.numpy().tobytes()
    assert found.checksum == hashlib.sha256(content).hexdigest()[:12]
    path = folder / "MNIST/raw/train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    loose = tuple(File(f.path) for f in DATASETS["mnist"].train_files)
    changed = dataclasses.replace(DATASETS["mnist"], train_files=loose)
    monkeypatch.setitem(DATASETS, "mnist", changed)
    assert load("mnist", folder).checksum != found.checksum


def test_only_the_evaluation_opens_the_test_set():
    package = Path(kd.__file__).parents[1]
    users = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                modules = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
            if any(m.startswith("kdbench.data.test_set") for m in modules):
                users.add(str(path.relative_to(package)))
    assert users == {"training/evaluate.py"}


# --- missing and damaged files ----------------------------------------------------------


@pytest.mark.parametrize("name", FILED)
def test_missing_files_are_one_error_with_three_ways_out(name, tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise socket.gaierror("Name or service not known")

    # Every connection fails at once, network or not.
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(DataError) as caught:
        load(name, tmp_path)
    message = str(caught.value)
    for file in (*BUILTIN[name].train_files, *BUILTIN[name].test_files):
        assert file.path in message
    for part in (str(tmp_path), "--data-dir", "KDBENCH_DATA", "network", "download failed"):
        assert part in message
    assert "\n" not in message
    assert socket.getdefaulttimeout() is None


def test_a_download_that_comes_is_used(fake, monkeypatch):
    folder = fake("cifar10")
    described, moved = DATASETS["cifar10"], folder / "elsewhere"
    (folder / "cifar-10-batches-py").rename(moved)

    def download(root):
        assert socket.getdefaulttimeout() is not None
        moved.rename(root / "cifar-10-batches-py")

    monkeypatch.setitem(DATASETS, "cifar10", dataclasses.replace(described, download=download))
    assert len(load("cifar10", folder).labels) == 5 * PER_FILE


def test_a_download_that_leaves_something_out(fake, monkeypatch):
    folder = fake("cifar10")
    (folder / "cifar-10-batches-py/test_batch").unlink()
    described = dataclasses.replace(DATASETS["cifar10"], download=lambda root: None)
    monkeypatch.setitem(DATASETS, "cifar10", described)
    with pytest.raises(DataError, match=r"for cifar-10-batches-py/test_batch; .* left them out"):
        load("cifar10", folder)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match="the download failed"):
        load("cifar10", tmp_path / "file")


@pytest.mark.parametrize("name", FILED)
def test_truncated_file(name, fake):
    folder = fake(name)
    path = folder / DATASETS[name].train_files[0].path
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size // 2])
    with pytest.raises(DataError) as caught:
        load(name, folder)
    message = str(caught.value)
    assert str(path) in message
    assert f"{size // 2:,} bytes" in message
    assert f"{size:,} bytes" in message
    assert "Replace it with a sound copy" in message


@pytest.mark.parametrize("name", FILED)
def test_garbled_file(name, fake):
    folder = fake(name)
    path = folder / DATASETS[name].train_files[-1].path
    expected = md5(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 255
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load(name, folder)
    assert str(path) in str(caught.value)
    assert f"found MD5 {md5(path)}" in str(caught.value)
    assert f"expected MD5 {expected}" in str(caught.value)


def test_published_sizes_catch_what_has_no_published_md5(tmp_path):
    for file in (*BUILTIN["fashion-mnist"].train_files, *BUILTIN["fashion-mnist"].test_files):
        write(tmp_path / file.path, b"short")
    with pytest.raises(DataError, match=r"found 5 bytes, expected 47,040,016 bytes\. Delete it"):
        load("fashion-mnist", tmp_path)


def test_a_file_of_another_kind(fake, monkeypatch):
    folder = fake("cifar10")
    path = folder / "cifar-10-batches-py/data_batch_1"
    path.write_bytes(b"no pickle")
    loose = tuple(File(f.path) for f in DATASETS["cifar10"].train_files)
    described = dataclasses.replace(DATASETS["cifar10"], train_files=loose)
    monkeypatch.setitem(DATASETS, "cifar10", described)
    with pytest.raises(DataError, match=r"cannot read .*data_batch_1"):
        load("cifar10", folder)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 1, 2, 2), np.float32), [0, 1, 0], "should be uint8 images"),
        (np.zeros((3, 2, 2), np.uint8), [0, 1, 0], "of 4 dimensions"),
        (np.zeros((3, 1, 2, 2), np.uint8), [0, 1], "with a label each"),
        (np.zeros((3, 1, 2, 2), np.uint8), [0, 1, 2], "should be 0 to 1; found 0 to 2"),
        (np.zeros((0, 1, 2, 2), np.uint8), [], "should be 0 to 1; found none"),
        (np.zeros((3, 1, 0, 2), np.uint8), [0, 1, 0], "have no pixels"),
    ],
)
def test_arrays_of_another_package_are_checked(monkeypatch, images, labels, message):
    described = kd.DataSet(("a", "b"), lambda part, folder: (images, np.array(labels, int)))
    monkeypatch.setitem(DATASETS, "theirs", described)
    with pytest.raises(DataError, match=message):
        load("theirs")


def test_another_packages_data_set_is_loaded_from_its_entry_point(monkeypatch):
    entry = EntryPoint("theirs", f"{__name__}:THEIRS", "kdbench.data")
    registry = Registry("data set", "kdbench.data", {}, entries=[entry])
    monkeypatch.setitem(DATASETS, "theirs", registry["theirs"])
    images = load("theirs")
    assert images.mean == (0.5, 0.25)
    assert images.shape == (2, 2, 2)
    assert open_test_set("theirs").mean == images.mean


def test_an_entry_point_that_is_no_data_set_is_refused():
    entry = EntryPoint("theirs", f"{__name__}:_theirs", "kdbench.data")
    registry = Registry("data set", "kdbench.data", {}, check=_check, entries=[entry])
    with pytest.raises(TypeError, match=r"the data set theirs .* is no kdbench.data.DataSet"):
        registry["theirs"]


def _theirs(part, folder):
    images = np.zeros((4, 2, 2, 2), np.uint8)
    images[:, 0, 0] = 2
    images[:, 1, 0, 0] = 2
    return (images if part == "train" else 0 * images), np.array([0, 1, 0, 1])


THEIRS = kd.DataSet(("a", "b"), _theirs, scale=2)


def test_where_a_data_set_was_published():
    assert all(described.paper for described in BUILTIN.values())
    assert BUILTIN["digits"].paper.venue == "UCI Machine Learning Repository"
    assert BUILTIN["cifar10"].paper == BUILTIN["cifar100"].paper
    assert (BUILTIN["mnist"].paper.kind, BUILTIN["cifar10"].paper.kind) == ("article", "techreport")
    assert THEIRS.paper is None


def test_unknown_data_set():
    with pytest.raises(ValueError, match=r"unknown data set 'cifar01' \(did you mean 'cifar10'"):
        load("cifar01")
    with pytest.raises(ValueError, match="unknown data set 'qq'; known: cifar10, cifar100"):
        load("qq")


# --- files whose MD5 is theirs, and that are wrong all the same -----------------------------


def accepted(monkeypatch, name, folder, path, content):
    """`content` as the file at `path`, with no MD5 or size to be held against it."""
    write(folder / path, content)
    loose = {
        part: tuple(File(file.path) for file in getattr(DATASETS[name], part))
        for part in ("train_files", "test_files")
    }
    monkeypatch.setitem(DATASETS, name, dataclasses.replace(DATASETS[name], **loose))


def why(name, folder):
    """What `load` says: one line with what to do."""
    with pytest.raises(DataError) as caught:
        load(name, folder)
    assert "\n" not in str(caught.value)
    assert "Replace it" in str(caught.value)
    return str(caught.value)


def test_cifars_pickles_are_of_python_2(fake, monkeypatch):
    # As the published files name NumPy's parts.
    folder, path = fake("cifar100"), "cifar-100-python/train"
    before = load("cifar100", folder)
    batch = pickle.loads((folder / path).read_bytes())
    content = pickle.dumps(batch, 2).replace(b"numpy._core.", b"numpy.core.")
    accepted(monkeypatch, "cifar100", folder, path, content)
    assert load("cifar100", folder).checksum == before.checksum


LABELS = [k % 10 for k in range(PER_FILE)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": [1.7, *LABELS[1:]]}, "should be whole numbers, not float64"),
        ({"labels": [10, *LABELS[1:]]}, "should be 0 to 9; found 0 to 10"),
        ({"labels": ["a", *LABELS[1:]]}, "should be whole numbers"),
        ({"labels": [2**70, *LABELS[1:]]}, "should be whole numbers, not object"),
        ({"labels": LABELS[1:]}, "data_batch_1: it should hold rows of 3,072 pixels with a label"),
        ({"labels": None}, "data_batch_1: it should hold"),
        ({"data": [[1, 2], [3]]}, "data_batch_1: "),
        ({"data": np.zeros((PER_FILE, 3071), np.uint8)}, "found (20, 3071)"),
        ({"data": np.zeros((PER_FILE, 3072), np.float32)}, "should be uint8 images"),
    ],
    ids=str,
)
def test_a_cifar_batch_that_does_not_hold_together(changes, words, fake, monkeypatch):
    folder, path = fake("cifar10"), "cifar-10-batches-py/data_batch_1"
    batch = {**pickle.loads((folder / path).read_bytes()), **changes}
    accepted(monkeypatch, "cifar10", folder, path, pickle.dumps(batch))
    assert words in why("cifar10", folder)


def test_counts_that_are_right_in_sum_only(fake, monkeypatch):
    folder = fake("cifar10")
    for number, count in ((1, PER_FILE - 1), (2, PER_FILE + 1)):
        path = f"cifar-10-batches-py/data_batch_{number}"
        batch = pickle.loads((folder / path).read_bytes())
        batch["labels"] = (LABELS * 2)[:count]
        accepted(monkeypatch, "cifar10", folder, path, pickle.dumps(batch))
    assert "data_batch_1" in why("cifar10", folder)


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"(lp0\n0.", b"K\x01."])
def test_a_garbled_pickle_is_a_data_error(content, fake, monkeypatch):
    folder = fake("cifar10")
    accepted(monkeypatch, "cifar10", folder, "cifar-10-batches-py/data_batch_1", content)
    assert "data_batch_1" in why("cifar10", folder)


@pytest.mark.parametrize(
    "header",
    [
        (2051, PER_FILE, 14, 56),
        (2051, PER_FILE, 56, 14),
        (2051, 2**32 - 1, 28, 28),
        (2051, PER_FILE, 2**32 - 1, 2**32 - 1),
        (2049, PER_FILE, 28, 28),
        (0, PER_FILE, 28, 28),
        (2**32 - 1, PER_FILE, 28, 28),
        (0x0C03, PER_FILE, 28, 28),
    ],
    ids=str,
)
def test_a_header_that_is_not_mnists(header, fake, monkeypatch):
    folder, path = fake("fashion-mnist"), "FashionMNIST/raw/train-images-idx3-ubyte"
    content = struct.pack(">IIII", *header) + (folder / path).read_bytes()[16:]
    write(folder / path, content)
    described = DATASETS["fashion-mnist"]
    loose = tuple(File(f.path, size=f.size) for f in described.train_files)
    monkeypatch.setitem(
        DATASETS, "fashion-mnist", dataclasses.replace(described, train_files=loose)
    )
    assert f"found {header}" in why("fashion-mnist", folder)


@pytest.mark.parametrize("size", [0, 1, 3, 15, 16, 17])
def test_a_file_shorter_than_its_header(size, fake, monkeypatch):
    folder, path = fake("mnist"), "MNIST/raw/train-images-idx3-ubyte"
    accepted(monkeypatch, "mnist", folder, path, (folder / path).read_bytes()[:size])
    assert "train-images-idx3-ubyte should begin with" in why("mnist", folder)


def test_files_that_may_not_be_read(fake, monkeypatch):
    folder = fake("mnist")

    def refuse(self, *_args, **_kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    for act in (load, kd.verify_test_files, open_test_set):
        with pytest.raises(DataError, match=r"cannot read .*idx3-ubyte: Permission denied\. Check"):
            act("mnist", folder)


def test_verifying_files_that_are_not_there(fake):
    folder = fake("mnist")
    (folder / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"cannot read .*t10k-labels.*: No such file"):
        kd.verify_test_files("mnist", folder)


def test_verifying_a_folder_in_place_of_a_file(fake, monkeypatch):
    folder, path = fake("mnist"), "MNIST/raw/t10k-labels-idx1-ubyte"
    accepted(monkeypatch, "mnist", folder, path, b"")
    (folder / path).unlink()
    (folder / path).mkdir()
    with pytest.raises(DataError, match=r"cannot read .*t10k-labels.*: Is a directory"):
        kd.verify_test_files("mnist", folder)


def test_verifying_a_pipe_in_place_of_a_file(fake):
    folder, path = fake("mnist"), "MNIST/raw/t10k-labels-idx1-ubyte"
    (folder / path).unlink()
    os.mkfifo(folder / path)
    with pytest.raises(DataError, match=r"cannot read .*t10k-labels.*: Not a regular file"):
        kd.verify_test_files("mnist", folder)


def test_a_reader_of_another_package_that_fails(monkeypatch):
    def read(part, folder):
        raise AssertionError("of\nits own")

    monkeypatch.setitem(DATASETS, "theirs", kd.DataSet(("a", "b"), read))
    assert "cannot read its source: AssertionError: of its own. Replace" in why("theirs", None)


def test_a_home_folder_of_nobody(monkeypatch):
    assert kd.data_folder("~no-such-user/x") == Path("~no-such-user/x")


# --- digits -----------------------------------------------------------------------------


def test_digits_are_the_1797_of_scikit_learn():
    from sklearn.datasets import load_digits

    train, test = load("digits"), open_test_set("digits")
    assert train.images.shape == (1200, 1, 8, 8)
    assert test.images.shape == (597, 1, 8, 8)
    rows = _digits_parts()
    assert set(rows["train"]).isdisjoint(rows["test"])
    assert sorted([*rows["train"], *rows["test"]]) == list(range(1797))
    theirs = load_digits()
    for part, found in (("train", train), ("test", test)):
        assert np.array_equal(found.images[:, 0].numpy(), theirs.images[rows[part]])
        assert np.array_equal(found.labels.numpy(), theirs.target[rows[part]])
    assert train.images.max() == train.scale == 16


def test_digits_parts_are_stratified():
    train, test = load("digits"), open_test_set("digits")
    whole = torch.tensor([178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    counts = train.labels.bincount()
    assert torch.equal(counts + test.labels.bincount(), whole)
    assert (counts - whole * 1200 / 1797).abs().max() < 1


def test_digits_statistics_are_of_the_training_part():
    found = load("digits")
    scaled = found.images.double() / 16
    assert found.mean == (pytest.approx(scaled.mean().item(), abs=1e-6),)
    assert found.std == (pytest.approx(scaled.std(correction=0).item(), abs=1e-6),)
    assert open_test_set("digits").mean == found.mean


def test_digits_twice_are_the_same():
    assert load("digits").checksum == load("digits").checksum


# --- the real files, where they are -----------------------------------------------------

REAL = {
    # Shapes of the training and the test part.
    "mnist": ((60_000, 1, 28, 28), (10_000, 1, 28, 28)),
    "cifar10": ((50_000, 3, 32, 32), (10_000, 3, 32, 32)),
}


@pytest.mark.parametrize("name", REAL)
def test_the_real_files(name):
    folder = os.environ.get("KDBENCH_DATA")
    first = BUILTIN[name].train_files[0].path
    if not folder or not (Path(folder) / first).exists():
        pytest.skip("KDBENCH_DATA does not hold them")
    train, test = load(name), open_test_set(name)
    kd.verify_test_files(name)
    assert (tuple(train.images.shape), tuple(test.images.shape)) == REAL[name]
    scaled = train.images.float().div_(train.scale)
    mean, std = scaled.mean((0, 2, 3)), scaled.std((0, 2, 3))
    assert mean.tolist() == pytest.approx(train.mean, abs=2e-4)
    assert std.tolist() == pytest.approx(train.std, abs=2e-4)
    if name == "cifar10":
        assert train.labels.bincount().tolist() == [5000] * 10
        assert test.labels.bincount().tolist() == [1000] * 10


# --- the split --------------------------------------------------------------------------


@given(
    classes=st.integers(2, 7),
    each=st.integers(4, 30),
    share=st.floats(0, 1),
    seed=st.integers(0, 2**31 - 1),
)
@settings(max_examples=40, deadline=None)
def test_split(classes, each, share, seed):
    labels = torch.arange(classes * each) % classes
    validation = classes + round(share * (classes * each - 2 * classes))
    fit, held_out = split(labels, validation, seed)
    assert fit.dtype == held_out.dtype == torch.int64
    assert len(held_out) == validation
    assert torch.equal(torch.cat([fit, held_out]).sort().values, torch.arange(len(labels)))
    assert torch.equal(fit, fit.sort().values)
    assert torch.equal(held_out, held_out.sort().values)
    counts = labels[held_out].bincount(minlength=classes)
    assert counts.max() - counts.min() <= 1
    again = split(labels, validation, seed)
    assert torch.equal(fit, again[0])
    assert torch.equal(held_out, again[1])


def test_split_depends_on_its_seed_alone():
    labels = torch.arange(1000) % 10
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first, other = split(labels, 200, 0), split(labels, 200, 1)
    assert not torch.equal(first[1], other[1])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])
    torch.manual_seed(5)
    np.random.seed(5)
    assert torch.equal(split(labels, 200, 0)[1], first[1])


def test_split_of_nothing():
    fit, held_out = split(torch.arange(30) % 3, 0, 0)
    assert torch.equal(fit, torch.arange(30))
    assert held_out.shape == (0,)
    assert held_out.dtype == torch.int64


@pytest.mark.parametrize("validation", [-1, 2, 28, 30, 31])
def test_split_that_cannot_be(validation):
    message = f"cannot hold out {validation} of 30 images .* takes 3 to 27"
    with pytest.raises(ValueError, match=message):
        split(torch.arange(30) % 3, validation, 0)


def test_split_with_a_class_of_one():
    with pytest.raises(ValueError, match="class 1 has only one image"):
        split(torch.tensor([0, 0, 0, 0, 0, 1]), 2, 0)


# --- views ------------------------------------------------------------------------------


def small(channels=3, height=8, width=8, count=6, scale=255):
    rng = np.random.default_rng(4)
    images = rng.integers(scale + 1, size=(count, channels, height, width), dtype=np.uint8)
    return kd.TrainingData(
        name="small",
        images=torch.from_numpy(images),
        labels=torch.arange(count) % 2,
        class_names=("a", "b"),
        scale=scale,
        mean=(0.4914, 0.4822, 0.4465)[:channels],
        std=(0.2470, 0.2435, 0.2616)[:channels],
        checksum="",
    )


def reference(data, position, augment, view):
    """One view of one example by torchvision's own operations."""
    image = data.images[position]
    flip = 0
    if augment.endswith("flip"):
        view, flip = divmod(view, 2)
    if augment.startswith("crop"):
        top, left = divmod(view, 9)
        image = tv.crop(tv.pad(image, [4]), top, left, *image.shape[1:])
    if flip:
        image = tv.hflip(image)
    scaled = image.float().div(data.scale)
    return tv.normalize(scaled, data.mean, data.std)


@pytest.mark.parametrize("augment", VIEWS)
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 7, 10)])
def test_every_view_is_torchvisions_bit_for_bit(augment, shape):
    data = small(*shape)
    views = Views(data, augment)
    assert views.count == VIEWS[augment]
    position = torch.tensor([5, 0, 2])
    for view in range(VIEWS[augment]):
        batch = views.take(position, view)
        expected = torch.stack([reference(data, p, augment, view) for p in position.tolist()])
        assert torch.equal(batch, expected)
        assert batch.dtype == torch.float32
        assert batch.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("augment", VIEWS)
def test_a_value_does_not_depend_on_its_batch(augment):
    data = small(height=13, width=11, count=20)
    views = Views(data, augment)
    rng = np.random.default_rng(0)
    position = torch.from_numpy(rng.integers(20, size=77))
    view = views.draw(77, rng)
    batch = views.take(position, view)
    for k in range(77):
        alone = views.take(position[k : k + 1], view[k : k + 1])
        assert torch.equal(alone[0], batch[k])
    order = torch.from_numpy(rng.permutation(77))
    assert torch.equal(views.take(position[order], view[order]), batch[order])


@pytest.mark.parametrize("augment", VIEWS)
def test_the_plain_view_is_the_image(augment):
    data = small()
    views = Views(data, augment)
    every = torch.arange(len(views))
    plain = torch.stack([reference(data, k, "none", 0) for k in range(len(views))])
    assert torch.equal(views.take(every), plain)
    assert torch.equal(views.take(every, views.plain), plain)
    assert torch.equal(views.take(every, torch.full_like(every, views.plain)), plain)
    assert {"none": 0, "flip": 0, "crop": 40, "crop-flip": 80}[augment] == views.plain


def test_outside_the_image_is_the_pixel_value_zero():
    data = small(channels=1)
    corner = Views(data, "crop").take(torch.tensor([0]), 0)
    nothing = (torch.zeros(()) - data.mean[0]) / data.std[0]
    assert torch.equal(corner[0, 0, :4], nothing.expand(4, 8))
    assert torch.equal(corner[0, 0, :, :4], nothing.expand(8, 4))
    assert not (corner[0, 0, 4:, 4:] == nothing).all()


def test_normalised_training_images_have_mean_0_and_deviation_1():
    batch = Views(load("digits")).take(torch.arange(1200))
    assert batch.mean().item() == pytest.approx(0, abs=1e-4)
    assert batch.std().item() == pytest.approx(1, abs=1e-3)


def test_taking_leaves_the_images_alone():
    data = small()
    before = data.images.clone()
    for augment in VIEWS:
        Views(data, augment).take(torch.arange(6)).add_(1)
    assert torch.equal(data.images, before)


@pytest.mark.parametrize("augment", VIEWS)
def test_draws_are_uniform_and_repeatable(augment):
    views = Views(small(), augment)
    drawn = views.draw(200 * views.count, np.random.default_rng(3))
    assert drawn.dtype == torch.int64
    counts = drawn.bincount(minlength=views.count).double()
    assert len(counts) == views.count
    # Chi-squared with count - 1 degrees of freedom: mean count - 1, variance twice that.
    excess = ((counts - 200) ** 2 / 200).sum() - (views.count - 1)
    assert abs(excess) <= 5 * (2 * views.count) ** 0.5
    assert torch.equal(views.draw(50, np.random.default_rng(3)), drawn[:50])


def test_labels_stand_beside_the_views():
    data = small()
    assert torch.equal(Views(data).labels, data.labels)


def test_images_are_kept_once_on_the_cpu():
    data = load("digits")
    rgb = dataclasses.replace(
        small(), images=small().images.contiguous(memory_format=torch.channels_last)
    )
    for held in (data, rgb):
        assert Views(held)._store.data_ptr() == held.images.data_ptr()


def test_unknown_augmentation():
    with pytest.raises(ValueError, match="unknown augmentation 'mixup'; known: crop, crop-flip"):
        Views(small(), "mixup")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("augment", VIEWS)
def test_views_on_cuda_are_those_of_the_cpu(augment):
    data = small()
    here, there = Views(data, augment), Views(data, augment, "cuda")
    position = torch.arange(6)
    for view in range(here.count):
        assert torch.equal(there.take(position, view).cpu(), here.take(position, view))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("augment", VIEWS)
def test_images_too_many_for_the_device_give_the_same_views(augment, monkeypatch):
    data = small()
    there = Views(data, augment, "cuda")
    monkeypatch.setattr(augment_module, "place_of_images", lambda *_: torch.device("cpu"))
    sent = Views(data, augment, "cuda")
    assert sent._store.device.type == "cpu"
    position = torch.arange(6, device="cuda")
    for view in (*range(there.count), None, torch.arange(6, device="cuda") % there.count):
        batch = sent.take(position, view)
        assert batch.device.type == "cuda"
        assert torch.equal(batch, there.take(position, view))


def test_ids_on_their_way_from_a_gpu_are_waited_for():
    """On a tensor without values, so that no GPU is needed."""
    copies = []

    class Copies(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten._to_copy.default:
                copies.append((kwargs["device"].type, kwargs.get("non_blocking", False)))
            return func(*args, **(kwargs or {}))

    views = Views(small())
    with FakeTensorMode(), Copies():
        views._beside(torch.arange(6, device="cuda"))
    assert copies == [("cpu", False)]


def test_images_stay_on_the_host_where_they_would_fill_a_gpu(monkeypatch):
    gpu = SimpleNamespace(total_memory=2 * small().images.nbytes)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: gpu)
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert augment_module.place_of_images(small().images, cuda) == cuda
    assert augment_module.place_of_images(small(count=7).images, cuda) == cpu
    assert augment_module.place_of_images(small(count=7).images, cpu) == cpu


def test_a_plan_needs_no_pixels(digits):
    bare = digits.without_pixels()
    assert bare.images.numel() == 0
    assert (bare.shape, bare.classes, bare.checksum) == (
        digits.shape,
        digits.classes,
        digits.checksum,
    )
    assert torch.equal(bare.labels, digits.labels)
    assert len(digits.images) == len(digits.labels)
