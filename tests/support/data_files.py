"""Small data files in the layout of the real ones."""

import hashlib
import pickle
import struct

import numpy as np

#: The data sets that are read from files.
FILED = ("mnist", "fashion-mnist", "cifar10", "cifar100")
ALL_NAMES = ("digits", *FILED)
#: Images in each file.
PER_FILE = 20


def md5(path):
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def fake_file(path, rng, index):
    """Random content for one file of MNIST's or CIFAR's layout."""
    if "ubyte" in path.name:
        if "labels" in path.name:
            body = np.arange(PER_FILE, dtype=np.uint8) % 10
            write(path, struct.pack(">II", 2049, PER_FILE) + body.tobytes())
        else:
            body = rng.integers(256, size=(PER_FILE, 28, 28), dtype=np.uint8)
            write(path, struct.pack(">IIII", 2051, PER_FILE, 28, 28) + body.tobytes())
        return
    pixels = rng.integers(256, size=(PER_FILE, 3072), dtype=np.uint8)
    labels = [(index + k) % 10 for k in range(PER_FILE)]
    batch = {"data": pixels, "labels": labels, "fine_labels": [9 * k for k in labels]}
    write(path, pickle.dumps(batch))
