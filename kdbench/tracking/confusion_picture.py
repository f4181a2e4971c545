"""A run's confusion matrix as a picture, drawn in a few milliseconds: matplotlib takes a hundred,
and there is one for each final run."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

#: Beyond this many classes the numbers in a confusion matrix cannot be read.
NUMBERED = 20
#: Pixels: the side of the matrix, the room above it, and that of a margin without class names.
SIDE, TITLE, MARGIN = 400, 24, 40
#: Letters of a class's name that are shown.
LETTERS = 24


def draw_confusion_matrix(
    labels: np.ndarray, logits: np.ndarray, classes: Sequence[str] | None, path: Path
) -> None:
    """Draw the confusion matrix of `logits` (images x classes) as a PNG: true classes from top to
    bottom, predicted ones from left to right."""
    from matplotlib import colormaps
    from PIL import Image, ImageDraw

    count = logits.shape[1]
    seen = labels < count  # a network may have fewer outputs than the data has classes
    pairs = labels[seen] * count + logits.argmax(axis=1)[seen]
    matrix = np.bincount(pairs, minlength=count**2).reshape(count, count)
    known = classes if classes and len(classes) == count else range(count)
    names = [" ".join(str(name).split())[:LETTERS] for name in known]
    share = matrix / max(1, matrix.max())
    colours = (colormaps["Blues"](share)[..., :3] * 255).astype(np.uint8)
    cells = Image.fromarray(colours).resize((SIDE, SIDE), Image.Resampling.NEAREST)

    font, numbered = _font(), count <= NUMBERED
    longest = max(font.getlength(name) for name in names) if numbered else 0
    margin = max(MARGIN, int(longest) + 26)
    picture = Image.new("RGB", (SIDE + margin + 8, SIDE + TITLE + margin), "white")
    picture.paste(cells, (margin, TITLE))
    draw = ImageDraw.Draw(picture)
    accuracy = np.trace(matrix) / max(1, matrix.sum())
    title = f"test set: {100 * accuracy:.2f} % of {matrix.sum()} images"
    draw.text((margin + SIDE / 2, TITLE / 2), title, "black", font, "mm")
    draw.text((margin + SIDE / 2, picture.height - 9), "predicted", "black", font, "mm")
    _upright(picture, "true", (9, TITLE + SIDE // 2), font)
    if numbered:
        step = SIDE / count
        for row, name in enumerate(names):
            middle = TITLE + (row + 0.5) * step
            draw.text((margin - 4, middle), name, "black", font, "rm")
            end = (int(margin + (row + 0.5) * step), TITLE + SIDE + 4)
            _upright(picture, name, end, font, from_top=True)
            for column in np.flatnonzero(matrix[row]):
                ink = "white" if share[row, column] > 0.5 else "black"
                centre = (margin + (column + 0.5) * step, middle)
                draw.text(centre, str(matrix[row, column]), ink, font, "mm")
    picture.save(path)


@cache
def _font() -> Any:
    """matplotlib's own font, which has the letters of most alphabets."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf", 11)


def _upright(
    picture: Any, text: str, place: tuple[int, int], font: Any, from_top: bool = False
) -> None:
    """Write `text` from bottom to top, its middle at `place`, or its end there with `from_top`."""
    from PIL import Image, ImageDraw

    line = Image.new("RGB", (int(font.getlength(text)) + 2, 16), "white")
    ImageDraw.Draw(line).text((1, 8), text, "black", font, "lm")
    turned = line.transpose(Image.Transpose.ROTATE_90)
    top = place[1] if from_top else place[1] - turned.height // 2
    picture.paste(turned, (place[0] - turned.width // 2, top))
