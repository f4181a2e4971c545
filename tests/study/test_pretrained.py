"""Published weights of torchvision: found in the cache, fetched, or asked for in one message."""

from dataclasses import replace
from urllib.error import URLError

import pytest
import torch
from support.desk import study_of, unseen_digits

from kdbench import models
from kdbench.study.load import StudyError
from kdbench.training.given_weights import BadWeights, fitting_weights

TEACHER = {"model": "torchvision:squeezenet1_1", "weights": "pretrained"}
FILE = "squeezenet1_1-b8a52dc0.pth"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of `torch.hub` on a machine without a network."""

    def offline(url, *_, **__):
        raise URLError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def filled(cache):
    cache.mkdir(parents=True)
    torch.save(models.build(TEACHER["model"], (3, 64, 64), 1000).state_dict(), cache / FILE)
    return cache


def test_weights_in_the_cache_are_a_file_with_its_normalisation(filled):
    teacher = study_of("ce", "kd", teacher=TEACHER).teacher
    name, _, checksum = teacher.weights.partition("#")
    assert name == FILE
    assert len(checksum) == 12
    assert teacher.normalise.mean == (0.485, 0.456, 0.406)
    assert teacher.normalise.std == (0.229, 0.224, 0.225)
    own = {"mean": [0.5] * 3, "std": [0.5] * 3}
    teacher = study_of("ce", "kd", teacher={**TEACHER, "normalise": own}).teacher
    assert teacher.normalise.mean == (0.5, 0.5, 0.5)


def test_weights_for_other_classes_are_refused(filled):
    grey = unseen_digits()
    pixels = torch.zeros(1, 3, 64, 64, dtype=torch.uint8).expand(len(grey.labels), 3, 64, 64)
    data = replace(grey, images=pixels)
    with pytest.raises(BadWeights, match="tells 1000 classes apart, and digits has 10"):
        fitting_weights(filled / FILE, TEACHER["model"], data)


def test_without_a_network_the_file_is_asked_for(cache):
    with pytest.raises(StudyError) as error:
        study_of("ce", "kd", teacher=TEACHER)
    assert f"no network>; put that file at {cache / FILE}" in str(error.value)


@pytest.mark.parametrize("model", ["resnet8", "timm:resnet18", "torchvision:resnet1"])
def test_other_networks_have_no_such_weights(model):
    with pytest.raises(StudyError, match="for others name a file"):
        study_of("ce", "kd", teacher={"model": model, "weights": "pretrained"})
