"""A confusion matrix on the page: counts where there are few classes, otherwise a picture."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

READABLE = 20
"""More classes than this are shown as shades without counts."""

COLOUR = (47, 129, 247)
"""Of the shades, whose strength is their opacity: visible on white and on black."""

LEVELS = 16
"""Opacities in a picture."""


@dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """Counts of test images: a row for each true class, a column for each predicted class."""

    names: tuple[str, ...]
    counts: np.ndarray

    @property
    def readable(self) -> bool:
        """Whether there are few enough classes to show the counts."""
        return len(self.names) <= READABLE

    @property
    def rows(self) -> Iterator[tuple[str, list[tuple[int, float]]]]:
        """For each true class its name, and each count with its shade from 0 to 1."""
        for name, counts, shades in zip(self.names, self.counts, self._shades, strict=True):
            pairs = zip(counts, shades, strict=True)
            yield name, [(int(c), round(float(s), 2)) for c, s in pairs]

    @property
    def picture(self) -> str:
        """The shades as a PNG in a data URL."""
        from PIL import Image

        image = Image.fromarray(np.rint((LEVELS - 1) * self._shades).astype(np.uint8))
        image.putpalette(COLOUR * LEVELS)  # which makes the levels indices into it
        opacities = bytes(255 * k // (LEVELS - 1) for k in range(LEVELS))
        buffer = io.BytesIO()
        # Uncompressed, since compressed bytes depend on the version of zlib.
        image.save(buffer, "PNG", transparency=opacities, compress_level=0)
        return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"

    @property
    def _shades(self) -> np.ndarray:
        """The square root of the share of each row, so that one image in a hundred is visible."""
        totals = self.counts.sum(axis=1, keepdims=True)
        return np.sqrt(self.counts / np.maximum(totals, 1))


def confusion_matrix(confusions: pd.DataFrame, classes: Sequence[str]) -> ConfusionMatrix | None:
    """The matrix of one row of the table from its confusions against the truth; None if
    there are none. Classes without a name get their index."""
    if confusions.empty:
        return None
    expected = confusions["expected"].to_numpy(int)
    predicted = confusions["predicted"].to_numpy(int)
    size = max(len(classes), int(max(expected.max(), predicted.max())) + 1)
    counts = np.zeros((size, size), int)
    counts[expected, predicted] = confusions["count"].to_numpy(int)
    return ConfusionMatrix((*classes, *map(str, range(len(classes), size))), counts)
