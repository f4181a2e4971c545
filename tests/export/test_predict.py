"""Predictions of exports on image files."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.command_line import output, refused

from kdbench.data import DATASETS, DataError
from kdbench.export.description import read_description
from kdbench.export.errors import NoExport
from kdbench.export.predict import predict
from kdbench.records.store import Store

Exports = Callable[..., Path]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The first three test images of the digits as files: one in colour, one with edges that are
    cut off."""
    images, _ = DATASETS["digits"].read("test", Path())
    folder, paths = tmp_path_factory.mktemp("images"), []
    for number, image in enumerate(images[:3]):
        path = folder / f"{number}.png"
        grey = Image.fromarray((image[0] * (255 / 16)).round().astype(np.uint8))
        if number == 1:
            grey = grey.convert("RGB")
        if number == 2:  # 8x12: the middle is kept
            wide = Image.new("L", (12, 8))
            wide.paste(grey, (2, 0))
            grey = wide
        grey.save(path)
        paths.append(path)
    return paths


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("format", ["safetensors", "torch", "onnx"])
def test_files_are_seen_as_the_images_of_the_test_set(
    exports: Exports, files: list[Path], root: Path, format: str
) -> None:
    folder = exports(format)
    description = read_description(folder)
    store = Store(root)
    assert description.teacher is not None
    own, taught = (
        softmax(store.record(run).predictions()["last"][:3])
        for run in (description.run, description.teacher)
    )
    predictions = predict(folder, files, root)
    assert [p.image for p in predictions] == files
    for number, prediction in enumerate(predictions):
        for guesses, expected in ((prediction.student, own), (prediction.teacher, taught)):
            probabilities = {g.label: g.probability for g in guesses}
            assert len(probabilities) == 5
            assert list(probabilities.values()) == sorted(probabilities.values(), reverse=True)
            for label, probability in probabilities.items():
                # A pixel of 16 steps is rounded to one of 256.
                assert probability == pytest.approx(expected[number, int(label)], abs=0.01)


def test_without_its_teacher(exports: Exports, files: list[Path], tmp_path: Path) -> None:
    (prediction,) = predict(exports("safetensors"), files[:1], tmp_path)
    assert len(prediction.student) == 5
    assert prediction.teacher == ()
    text = output("predict", exports("safetensors"), files[0], "--root", tmp_path)
    assert "--root names" in text
    assert "teacher  " not in text


def test_the_command(exports: Exports, files: list[Path], root: Path) -> None:
    words = ("predict", exports("safetensors"), *files, "--root", root)
    predictions = json.loads(output(*words, "--json"))
    assert [len(p["student"]) for p in predictions] == [5, 5, 5]
    text = output(*words)
    for prediction in predictions:
        assert f"{100 * prediction['student'][0]['probability']:.1f}" in text
        assert f"{100 * prediction['teacher'][0]['probability']:.1f}" in text


def test_files_that_are_no_images(exports: Exports, files: list[Path], tmp_path: Path) -> None:
    broken, none = tmp_path / "broken.png", tmp_path / "none.png"
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"2 images that cannot be read") as raised:
        predict(exports("safetensors"), [*files, broken, none], tmp_path)
    assert str(broken) in str(raised.value)
    assert str(none) in str(raised.value)
    message = refused("predict", exports("safetensors"), broken)
    assert "cannot identify image" in message


def test_a_folder_that_is_no_export(tmp_path: Path, files: list[Path]) -> None:
    assert "holds no config.json" in refused("predict", tmp_path, files[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "version 99"),
        ({"format": "tflite"}, "unknown format 'tflite'"),
        ({"classes": None}, "cannot be read"),
        ({"spam": 1}, "cannot be read"),
    ],
)
def test_a_description_that_cannot_be_used(
    exports: Exports, files: list[Path], tmp_path: Path, change: dict, message: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(exports("safetensors"), folder)
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | change))
    with pytest.raises(NoExport, match=message):
        predict(folder, files, tmp_path)


def test_a_missing_extra_is_named(
    exports: Exports, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = exports("onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert 'pip install "kdbench[onnx]"' in refused("predict", folder, files[0])


def test_a_damaged_network(exports: Exports, files: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(exports("safetensors"), folder)
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(NoExport, match="cannot be run"):
        predict(folder, files, tmp_path)
