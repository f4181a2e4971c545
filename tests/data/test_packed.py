"""Packed images: where they lie, and what they take of memory."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kdbench.data import Views, load
from kdbench.data.files import digest_of

NAME = "large@0123456789ab"
SHAPE = (300, 224, 224, 3)
MEGABYTES = np.prod(SHAPE) / 2**20


def own_memory():
    """Megabytes of memory that are this process's own, without pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = (int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
    return kilobytes / 1024


@pytest.fixture
def large(tmp_path):
    """A packed data set of 43 MB; its files are sparse."""
    place = tmp_path / "packed" / NAME
    place.mkdir(parents=True)
    for part in ("train", "test"):
        pixels = np.lib.format.open_memmap(place / f"{part}-pixels.npy", "w+", np.uint8, SHAPE)
        pixels[::7, ::5] = 200
        np.save(place / f"{part}-labels.npy", np.arange(len(pixels)) % 2)
        del pixels
    described = {
        "classes": ["a", "b"],
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "files": {path.name: digest_of(path, "SHA256") for path in place.iterdir()},
        "checksums": {"train": "0" * 12, "test": "1" * 12},
    }
    (place / "packed.json").write_text(json.dumps(described))
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="RssAnon is Linux's")
@pytest.mark.parametrize("augment", ["none", "crop-flip"])
def test_images_that_are_read_by_position_take_no_memory_of_their_own(large, augment):
    def read_all():
        views = Views(load(NAME, large), augment)
        for position in torch.randperm(len(views)).split(4):
            views.take(position, views.draw(len(position), np.random.default_rng(0)))
        return views

    read_all()  # what torch takes once, it takes here
    before = own_memory()
    views = read_all()
    assert own_memory() - before < MEGABYTES / 2
    assert len(views) == SHAPE[0]
