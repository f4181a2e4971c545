"""Fuzz: whatever happens to a data file, there are images and labels, or a `DataError` that
names the file and says what to do. `make fuzz` runs a long form."""

import dataclasses
import hashlib
import os
import shutil
import struct
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.data_files import FILED, PER_FILE, fake_file, md5

from kdbench.data import DataError, File
from kdbench.data.builtin import BUILTIN
from kdbench.data.datasets import DATASETS
from kdbench.data.load import load, verify_test_files
from kdbench.data.test_set import open_test_set

#: Examples of study files in the long form, of which data files take a fortieth.
LONG = int(os.environ.get("KDBENCH_FUZZ", "0"))


@cache
def originals(name: str) -> dict[str, bytes]:
    """Small files in the real layout, by path."""
    rng, found = np.random.default_rng(0), {}
    with tempfile.TemporaryDirectory() as folder:
        for index, file in enumerate((*BUILTIN[name].train_files, *BUILTIN[name].test_files)):
            path = Path(folder, file.path)
            fake_file(path, rng, index)
            found[file.path] = path.read_bytes()
    return found


@st.composite
def damage(draw: st.DrawFn, content: bytes) -> bytes:
    """Other content for a file."""
    kinds = ["tenth", "cut", "flip", "empty", "longer", "noise", "header", "swap"]
    deed = draw(st.sampled_from(kinds))
    size = len(content)
    if deed == "tenth":
        return content[: size * draw(st.integers(0, 9)) // 10]
    if deed == "cut":
        return content[: draw(st.integers(0, size - 1))]
    if deed == "empty":
        return b""
    if deed == "longer":
        return content + draw(st.binary(min_size=1, max_size=900))
    if deed == "noise":
        return draw(st.binary(max_size=3000))
    if deed == "swap":
        at = draw(st.integers(0, size - 1))
        return content[at:] + content[:at]
    changed = bytearray(content)
    if deed == "flip":
        for at in draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=20)):
            changed[at] ^= draw(st.integers(1, 255))
        return bytes(changed)
    # The first numbers: magic, count, height, width; or a pickle's first opcodes.
    at = 4 * draw(st.integers(0, 3))
    number = st.sampled_from([0, 1, 2049, 2051, 2**31, 2**32 - 1, PER_FILE - 1, 14, 56, 784, 27])
    changed[at : at + 4] = struct.pack(">I", draw(number))
    return bytes(changed)


@pytest.mark.parametrize("name", FILED)
@given(st.data())
@settings(
    max_examples=LONG // 40 or 15,
    deadline=None,
    derandomize=not LONG,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_a_damaged_data_file(tmp_path_factory: Any, name: str, data: Any) -> None:
    folder = tmp_path_factory.getbasetemp() / f"damaged-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    contents = dict(originals(name))
    hit = data.draw(st.sampled_from(sorted(contents)))
    contents[hit] = data.draw(damage(contents[hit]))
    gone = data.draw(st.sampled_from(["", "", "", "", "", "", "missing", "folder", "loop"]))
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    if gone:
        (folder / hit).unlink()
    if gone == "folder":
        (folder / hit).mkdir()
    elif gone == "loop":
        (folder / hit).symlink_to(folder / hit)
    # With the MD5 and size of the original known; or not, as with the files of MNIST's layout
    # whose MD5 nobody has published.
    known = "cifar" in name or data.draw(st.booleans())
    changes = {
        part: tuple(described(file, originals(name)[file.path], known) for file in files)
        for part in ("train_files", "test_files")
        for files in [getattr(BUILTIN[name], part)]
    }
    source = dataclasses.replace(BUILTIN[name], download=None, **changes)
    before = sorted(folder.rglob("*"))
    with mock.patch.dict(DATASETS, {name: source}):
        train = outcome(lambda: load(name, folder), folder / hit)
        test = outcome(lambda: open_test_set(name, folder), folder / hit)
        verified = outcome(lambda: verify_test_files(name, folder), folder / hit)
    assert sorted(folder.rglob("*")) == before
    same = contents[hit] == originals(name)[hit] and not gone
    in_train = any(file.path == hit for file in BUILTIN[name].train_files)
    if gone:
        assert isinstance(train, DataError)
        assert isinstance(test, DataError)
        assert in_train or isinstance(verified, DataError)
        return
    bad, good = (train, test) if in_train else (test, train)
    right(name, good)
    if same:
        right(name, bad)
        assert verified is None
    elif known:
        assert isinstance(bad, DataError)
        assert isinstance(verified, DataError) != in_train
    elif not isinstance(bad, DataError):
        right(name, bad)  # other pixels or labels, but pixels and labels
    elif "ubyte" in hit:
        assert "MemoryError" not in str(bad)


def described(file: File, content: bytes, known: bool) -> File:
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return File(file.path, digest, len(content)) if known else File(file.path)


def outcome(act: Callable[[], Any], hit: Path) -> Any:
    """What came back, or the DataError: a line that names the file and says what to do."""
    try:
        return act()
    except DataError as error:
        told = str(error)
        found = error
    assert str(hit) in told or ("looked in" in told and hit.name in told)
    assert "\n" not in told
    assert any(word in told for word in ("Replace", "replace", "Provide", "Check"))
    return found


def right(name: str, found: Any) -> None:
    """Arrays that can be trained on."""
    assert not isinstance(found, DataError), found
    assert found.images.dtype == torch.uint8
    assert found.images.shape[1:] == ((3, 32, 32) if "cifar" in name else (1, 28, 28))
    assert found.labels.dtype == torch.int64
    assert len(found.labels) == len(found.images) > 0
    assert 0 <= int(found.labels.min()) <= int(found.labels.max()) < len(found.class_names)


def test_the_small_files_are_sound(tmp_path: Path) -> None:
    for name in FILED:
        for path, content in originals(name).items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_bytes(content)
            assert md5(tmp_path / path) == described(File(path), content, True).md5
        loose = {
            part: tuple(File(file.path) for file in getattr(BUILTIN[name], part))
            for part in ("train_files", "test_files")
        }
        with mock.patch.dict(DATASETS, {name: dataclasses.replace(BUILTIN[name], **loose)}):
            right(name, load(name, tmp_path))
            right(name, open_test_set(name, tmp_path))
