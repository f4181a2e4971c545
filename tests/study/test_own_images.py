"""Images of a user's own in a study file: what stands in place of a name, and wrong forms of it."""

import sys

import numpy as np
import pytest
from PIL import Image

from kdbench.data import load
from kdbench.study.load import StudyError, load_study

STUDY = """
name: mine
data: {DATA, validation: 4}
student: {model: lightnn}
teacher: {model: deepnn}
recipe: {epochs: 1, batch: 4, lr: 1.0e-3}
methods: [ce, kd]
final: {seeds: [0, 1]}
report: {reference: ce}
"""


@pytest.fixture
def study(tmp_path):
    """A study whose images are in an npz file and in a folder beside it."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (32, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", x=images, y=np.arange(32) % 2)
    for number, image in enumerate(images):
        path = tmp_path / "Pets" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)

    def study(data):
        path = tmp_path / "mine.yaml"
        path.write_text(STUDY.replace("DATA", data))
        return load_study(str(path))

    return study


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("arrays: ./mine.npz, test: 25%", "mine"),
        ("folder: ./Pets, size: 8, test: 0.25", "pets"),
    ],
)
def test_a_study_names_its_own_images(study, tmp_path, data, name):
    named = study(data).data
    assert named.name.startswith(f"{name}@")
    assert named.validation == 4
    images = load(named.name, tmp_path / "cache")
    assert (images.shape, len(images.labels)) == ((3, 8, 8), 24)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("arrays: ./mine.npz", "data: {folder}/mine.npz should hold x_train"),
        ("arrays: ./none.npz", "data: {folder}/none.npz is not a file"),
        ("arrays: ./mine.npz, test: 25%, size: 8", "data: size cannot stand beside arrays"),
        ("arrays: ./mine.npz, folder: ./Pets", "data: images of your own have no name, and one of"),
        ("arrays: ./mine.npz, name: digits", "data: images of your own have no name"),
        ("arrays: [1]", "data: images of your own have no name"),
        ("array: ./mine.npz, test: 25%", "did you mean 'arrays'"),
        ("arrays: ./mine.npz, test: 125%", "data: test should be a share of the images, as 20%"),
        ("arrays: ./mine.npz, test: yes", "data: test should be a share"),
        ("arrays: ./mine.npz, test: 1%", "data: data.test: "),
        ("folder: ./Pets, size: 8", "data: {folder}/Pets has no folder train"),
        ("folder: ./Pets, test: 25%", "data: size should be a number of pixels"),
        ("folder: ./Pets, size: 8, test: 25%, channels: [x]", "data: channels should be one of"),
        ("folder: ./Pet, size: 8, test: 25%", "data: {folder}/Pet is not a folder"),
        ("size: 8", "data: images of your own have no name"),
    ],
)
def test_a_wrong_form_is_one_line(study, tmp_path, data, message):
    with pytest.raises(StudyError) as error:
        study(data)
    assert message.replace("{folder}", str(tmp_path)) in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("hub: a/b, size: 8", "data: datasets is not installed: pip install 'kdbench[hub]'"),
        ("hub: a/b", "data: size should be a number of pixels"),
        ("hub: a/b, size: 8, config: 7", "data: config should be a text, not 7"),
    ],
)
def test_a_hub_needs_its_library(study, monkeypatch, data, message):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(StudyError) as error:
        study(data)
    assert message in str(error.value)
