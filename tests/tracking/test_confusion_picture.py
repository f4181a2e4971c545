"""The picture of a run's confusion matrix."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdbench.tracking.confusion_picture import SIDE, TITLE, draw_confusion_matrix


def drawn(path: Path, predicted: list[int], names: list[str] | None = None) -> Image.Image:
    """The picture where image k is of class k and `predicted[k]` is what a network says."""
    count = len(predicted)
    logits = np.eye(count)[predicted]
    draw_confusion_matrix(np.arange(count), logits, names, path)
    with Image.open(path) as picture:
        picture.load()
    return picture


def cells(picture: Image.Image, count: int) -> np.ndarray:
    """How dark each cell's corner is, rows from top to bottom."""
    left = picture.width - SIDE - 8
    pixels = np.asarray(picture.convert("L"), dtype=float)
    at = [int((k + 0.1) * SIDE / count) for k in range(count)]
    return 255 - pixels[np.ix_([TITLE + y for y in at], [left + x for x in at])]


@pytest.mark.parametrize("count", [2, 10, 30, 100])
def test_a_row_is_a_true_class_and_a_column_a_predicted_one(tmp_path: Path, count: int) -> None:
    predicted = [0] * (count - 1) + [count - 1]
    darkness = cells(drawn(tmp_path / "picture.png", predicted), count)
    dark = {(row, column) for row, column in np.argwhere(darkness > 100).tolist()}
    assert dark == set(enumerate(predicted))


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 300, "дом", "猫", "é\u202e\x07", "%_{}"])
def test_any_name_can_be_drawn(tmp_path: Path, name: str) -> None:
    picture = drawn(tmp_path / "picture.png", [0, 1, 2], [name, "cat", "dog"])
    assert picture.width < 2 * SIDE
    assert (cells(picture, 3) > 100).tolist() == np.eye(3, dtype=bool).tolist()


def test_labels_without_an_output_are_left_out(tmp_path: Path) -> None:
    draw_confusion_matrix(np.array([0, 1, 2]), np.eye(3)[:, :2], None, tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert (cells(picture, 2) > 100).tolist() == [[True, False], [False, True]]


def test_a_run_without_test_images_is_drawn(tmp_path: Path) -> None:
    draw_confusion_matrix(
        np.zeros(0, dtype=np.int64), np.zeros((0, 3)), None, tmp_path / "picture.png"
    )
    assert (tmp_path / "picture.png").exists()
