"""A confusion matrix for people: counts where they can be read, else a picture."""

import base64
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

READABLE = 20
"""More classes than this are shown as shades alone."""

COLOUR = (47, 129, 247)
"""Of the shades: seen on white and on black, for its strength is its opacity."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """Counts of test images, a row for each true class, a column for each predicted one."""

    names: tuple[str, ...]
    counts: np.ndarray

    @property
    def readable(self) -> bool:
        """Whether there are so few classes that counts can be read."""
        return len(self.names) <= READABLE

    @property
    def rows(self) -> Iterator[tuple[str, list[tuple[int, float]]]]:
        """By true class, each count with its shade from 0 to 1."""
        for name, counts, shades in zip(self.names, self.counts, self._shades, strict=True):
            pairs = zip(counts, shades, strict=True)
            yield name, [(int(c), round(float(s), 2)) for c, s in pairs]

    @property
    def picture(self) -> str:
        """The shades as the address of a PNG that holds itself."""
        levels = np.rint(15 * self._shades).astype(np.uint8)
        return f"data:image/png;base64,{base64.b64encode(_png(levels)).decode()}"

    @property
    def _shades(self) -> np.ndarray:
        """The share of each row, under a square root: one image in a hundred is to be seen."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return np.sqrt(self.counts / np.maximum(totals, 1))


def matrix(confusions: pd.DataFrame, classes: Sequence[str]) -> Matrix | None:
    """From the lines of one table row, counted against the truth; None where there are none.
    Classes without a name are called by their index."""
    if confusions.empty:
        return None
    expected = confusions["expected"].to_numpy(int)
    predicted = confusions["predicted"].to_numpy(int)
    size = max(len(classes), int(max(expected.max(), predicted.max())) + 1)
    counts = np.zeros((size, size), int)
    counts[expected, predicted] = confusions["count"].to_numpy(int)
    return Matrix((*classes, *map(str, range(len(classes), size))), counts)


# -- a PNG of sixteen opacities, without a library


def _png(levels: np.ndarray) -> bytes:
    height, width = levels.shape
    even = np.pad(levels, ((0, 0), (0, width % 2)))
    packed = (even[:, ::2] << 4) | even[:, 1::2]
    body = b"".join(b"\0" + line.tobytes() for line in packed)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 4, 3, 0, 0, 0)),
            _chunk(b"PLTE", bytes(COLOUR) * 16),
            _chunk(b"tRNS", bytes(round(255 * k / 15) for k in range(16))),
            _chunk(b"IDAT", _stored(body)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(name: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def _stored(body: bytes, most: int = 65535) -> bytes:
    """As a zlib stream that is not compressed: two versions of zlib compress differently,
    and equal numbers are to give equal pages."""
    count = math.ceil(len(body) / most)
    blocks = (body[k * most : (k + 1) * most] for k in range(count))
    stored = b"".join(
        struct.pack("<BHH", k == count - 1, len(block), len(block) ^ 0xFFFF) + block
        for k, block in enumerate(blocks)
    )
    return b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(body))
