"""Published weights of torchvision and timm: found in the cache, fetched, or asked for in one
message."""

import sys
from dataclasses import replace
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from support.desk import study_of, unseen_digits

from kdbench import models
from kdbench.study.load import StudyError
from kdbench.study.pretrained import pretrained
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


def test_weights_of_timm_are_looked_for_in_the_hub(monkeypatch, tmp_path):
    """timm is not installed here: what stands in for it has its names and answers."""
    cfg = SimpleNamespace(hf_hub_id="timm/tiny.a1", mean=(0.5,) * 3, std=(0.25,) * 3)
    timm = SimpleNamespace(models=SimpleNamespace(get_pretrained_cfg={"tiny": cfg}.get))
    path, asked = tmp_path / "model.safetensors", []

    def download(*which):
        if not asked:
            asked.append(which)
            raise FileNotFoundError("no network")
        return str(path)

    monkeypatch.setitem(sys.modules, "timm", timm)
    hub = SimpleNamespace(hf_hub_download=download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    with pytest.raises(ValueError, match=r"fetch model\.safetensors of timm/tiny\.a1 .*no network"):
        pretrained("timm:tiny")
    assert pretrained("timm:tiny") == (path, [0.5] * 3, [0.25] * 3)
    assert asked == [("timm/tiny.a1", "model.safetensors")]
    with pytest.raises(ValueError, match="for others name a file"):
        pretrained("timm:other")


def test_timm_is_asked_for_by_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"pip install 'kdbench\[timm\]'"):
        pretrained("timm:resnet18")


@pytest.mark.parametrize("model", ["resnet8", "nowhere:resnet18", "torchvision:resnet1"])
def test_other_networks_have_no_such_weights(model):
    with pytest.raises(StudyError, match="for others name a file"):
        study_of("ce", "kd", teacher={"model": model, "weights": "pretrained"})
