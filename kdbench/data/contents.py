"""What images come to: their mean and standard deviation, and a checksum."""

import hashlib
from collections.abc import Iterator

import numpy as np

from kdbench.data.files import Statistics

#: Bytes of the images that are looked at at once.
BLOCK_BYTES = 16 << 20


def statistics(images: np.ndarray, scale: int) -> Statistics:
    """Mean and standard deviation per channel of scaled training images."""
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for block in _blocks(images):
        for channel, of_value in enumerate(counts):
            of_value += np.bincount(block[:, channel].ravel(), minlength=256)
    shares, values = counts / counts.sum(1, keepdims=True), np.arange(256) / scale
    mean = shares @ values
    std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(1))
    # Six digits, so that the last bits of a sum, which machines may differ in, do not show.
    return tuple(np.round(mean, 6).tolist()), tuple(np.round(std, 6).tolist())


def checksum(images: np.ndarray, labels: np.ndarray) -> str:
    """12 hex digits of sha256 over the images' bytes, then the labels' (little-endian int64)."""
    digest = hashlib.sha256()
    for block in _blocks(images):
        digest.update(block.data)
    digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
    return digest.hexdigest()[:12]


def _blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    """The images piece by piece, contiguous, so that none but a piece has to be in memory."""
    count = max(1, BLOCK_BYTES // images[0].nbytes)
    for start in range(0, len(images), count):
        yield np.ascontiguousarray(images[start : start + count])
