"""Models of other libraries and of a user's file: their names, their layers, their weights."""

import subprocess
import sys
from itertools import pairwise

import pytest
import torch
from torch import nn

from kdbench import models
from kdbench.models import source_files
from kdbench.models.names import BadModelName, ModelName, is_foreign
from kdbench.models.source_files import NoSourceFile, keep_sources, read_source, search_sources
from kdbench.registry import UnknownName

TINY = """
from torch import nn

class TinyNet(nn.Module):
    def __init__(self, image_shape, classes, width=4):
        super().__init__()
        channels, height, _ = image_shape
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.act = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.body = nn.Sequential(nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(2 * width * (height // 2) ** 2, classes)

    def forward(self, x):
        x = self.pool(self.act(self.first(x)))
        return self.head(self.body(x).flatten(1))

def small(image_shape, classes):
    return TinyNet(image_shape, classes, width=2)

NOT_A_MODEL = 3
"""
SHAPE = (3, 8, 8)


@pytest.fixture
def tiny(tmp_path):
    """A user's file, and the name of a network in it."""
    path = tmp_path / "nets.py"
    path.write_text(TINY)
    checksum = read_source(path)
    return lambda entry="TinyNet", **parts: str(
        ModelName("nets.py", entry, checksum=checksum, **parts)
    )


def test_a_name_says_what_the_model_is_made_from():
    name = ModelName("nets.py", "TinyNet", {"width": 8}, {"stage1": "body"}, "0123456789ab")
    assert ModelName.parse(str(name)) == name
    assert str(ModelName("torchvision", "resnet18")) == "torchvision:resnet18"
    assert is_foreign(str(name))
    assert not is_foreign("resnet8x4")


@pytest.mark.parametrize("text", ["resnet8", ":x", "x:", "torchvision:x{", "torchvision:x{[]}"])
def test_a_name_that_cannot_be_read_is_refused(text):
    with pytest.raises(BadModelName):
        ModelName.parse(text)


def test_layers_of_a_user_s_network_are_found(tiny):
    shapes = models.feature_shapes(tiny(), SHAPE, 10)
    assert shapes == {
        "stage1": (4, 8, 8),
        "stage1_pre": (4, 8, 8),
        "stage2": (8, 4, 4),
        "stage2_pre": (8, 4, 4),
        "embedding": (8 * 16,),
    }
    assert models.parameter_shapes(tiny(), SHAPE, 10) == {
        "classifier.weight": (10, 128),
        "classifier.bias": (10,),
    }


def test_features_are_what_the_network_computes(tiny):
    torch.manual_seed(0)
    model = models.build(tiny(), SHAPE, 10)
    images = torch.randn(4, *SHAPE)
    output = models.with_features(model, ["stage1", "stage2_pre", "embedding"])(images)
    first = model.act(model.first(images))
    assert torch.equal(output.features["stage1"], first)
    assert torch.equal(output.features["stage2_pre"], model.body[0](model.pool(first)))
    assert torch.equal(output.features["embedding"], model.body(model.pool(first)).flatten(1))
    assert torch.equal(output.logits, model(images))


def test_options_and_layers_are_the_study_s(tiny):
    name = tiny(options={"width": 3}, layers={"stage1": "pool", "stage7": "body"})
    shapes = models.feature_shapes(name, SHAPE, 10)
    assert shapes["stage1"] == (3, 4, 4)
    assert shapes["stage7"] == (6, 4, 4)
    assert "stage2" not in shapes
    assert models.feature_shapes(tiny("small"), SHAPE, 10)["stage1"] == (2, 8, 8)


def test_a_network_that_names_its_own_layers_keeps_them(tmp_path):
    path = tmp_path / "named.py"
    path.write_text(TINY + "\nclass Named(TinyNet):\n    nodes = {'logits': 'head'}\n")
    name = str(ModelName("named.py", "Named", checksum=read_source(path)))
    assert models.feature_shapes(name, SHAPE, 10) == {}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"entry": "TinyNett"}, "nets.py has no 'TinyNett' (did you mean 'TinyNet'?)"),
        ({"entry": "NOT_A_MODEL"}, "nets.py has no 'NOT_A_MODEL'"),
        ({"options": {"depth": 3}}, "unexpected keyword argument 'depth'"),
        ({"layers": {"stage1": "neck"}}, "it has no node or module 'neck'; its nodes are first"),
    ],
)
def test_what_is_wrong_with_a_user_s_network_is_said(tiny, parts, message):
    with pytest.raises((models.BrokenModel, UnknownName)) as error:
        models.feature_shapes(tiny(**parts), SHAPE, 10)
    assert message in str(error.value)


def test_a_network_that_torch_cannot_trace_is_refused(tmp_path):
    path = tmp_path / "branches.py"
    path.write_text(
        "import torch\nclass Net(torch.nn.Module):\n"
        "    def __init__(self, image_shape, classes):\n        super().__init__()\n"
        "        self.head = torch.nn.Linear(192, classes)\n"
        "    def forward(self, x):\n        if x.sum() > 0:\n            x = -x\n"
        "        return self.head(x.flatten(1))\n"
    )
    name = str(ModelName("branches.py", "Net", checksum=read_source(path)))
    with pytest.raises(models.BrokenModel, match=r"its layers cannot be found: .*control flow"):
        models.feature_shapes(name, SHAPE, 10)


def test_a_file_that_cannot_be_run_is_named(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import no_such_package_of_mine\n")
    name = str(ModelName("broken.py", "Net", checksum=read_source(path)))
    with pytest.raises(NoSourceFile, match=r"broken.py cannot be run: .*no_such_package_of_mine"):
        models.build(name, SHAPE, 10)


def test_another_process_builds_from_the_copy(tiny, tmp_path):
    """The file itself may have changed or be gone."""
    name = tiny()
    keep_sources([name, "resnet8", "torchvision:resnet18"], tmp_path)
    (tmp_path / "nets.py").unlink()
    code = (
        "import sys; from pathlib import Path; from kdbench import models\n"
        "from kdbench.models.source_files import search_sources\n"
        "search_sources(Path(sys.argv[1])); print(models.build(sys.argv[2], (3, 8, 8), 10))"
    )
    command = [sys.executable, "-c", code, str(tmp_path), name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "TinyNet" in done.stdout


def test_a_file_that_is_nowhere_is_named(tiny, tmp_path, monkeypatch):
    name = tiny()
    monkeypatch.setattr(source_files, "_SOURCES", {})
    monkeypatch.setattr(source_files, "_MODULES", {})
    monkeypatch.setattr(source_files, "_FOLDERS", [])
    search_sources(tmp_path / "elsewhere")
    with pytest.raises(NoSourceFile, match=r"nets.py with checksum .* is not there any more"):
        models.build(name, SHAPE, 10)


@pytest.mark.parametrize(
    ("name", "side", "stages"),
    [("resnet18", 64, 5), ("mobilenet_v3_small", 64, 5), ("vgg11_bn", 32, 5), ("swin_t", 64, 2)],
)
def test_layers_of_torchvision_s_networks(name, side, stages):
    full = f"torchvision:{name}"
    shapes = models.feature_shapes(full, (3, side, side), 10)
    maps = [shapes[f"stage{n}"] for n in range(1, stages + 1)]
    assert f"stage{stages + 1}" not in shapes
    assert all(a[1] > b[1] for a, b in pairwise(maps))
    width = shapes["embedding"]
    assert models.parameter_shapes(full, (3, side, side), 10)["classifier.weight"] == (10, *width)


def test_the_small_stem_keeps_the_side_of_small_images():
    name = 'torchvision:resnet18{"options":{"stem":"small"}}'
    shapes = models.feature_shapes(name, (3, 32, 32), 10)
    # Of four groups of blocks the last three halve the side.
    assert [shapes[f"stage{n}"] for n in (1, 2, 3, 4)] == [
        (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)
    ]  # fmt: skip
    # 3x3 in place of 7x7, for 3 channels to 64.
    plain, small = (models.build(n, (3, 32, 32), 10) for n in ("torchvision:resnet18", name))
    sizes = [sum(p.numel() for p in model.parameters()) for model in (plain, small)]
    assert sizes[0] - sizes[1] == 3 * 64 * (49 - 9)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [("resnet18", "tiny", "should be 'small'"), ("vgg11", "small", "is for ResNets")],
)
def test_another_stem_or_network_is_refused(name, kind, message):
    full = f'torchvision:{name}{{"options":{{"stem":"{kind}"}}}}'
    with pytest.raises((models.BrokenModel, BadModelName), match=message):
        models.build(full, (3, 32, 32), 10)


def test_torchvision_s_networks_train(tmp_path):
    torch.manual_seed(0)
    model = models.build("torchvision:mobilenet_v3_small", (3, 32, 32), 10)
    layers = ["stage1", "embedding"]
    output = models.with_features(model.train(), layers)(torch.randn(4, 3, 32, 32))
    output.logits.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    assert isinstance(model, nn.Module)


@pytest.mark.parametrize("name", ["torchvision:resnet18x", "torch:resnet18"])
def test_an_unknown_library_or_network_is_refused(name):
    with pytest.raises((UnknownName, models.BrokenModel, BadModelName)) as error:
        models.build(name, (3, 32, 32), 10)
    assert "resnet18" in str(error.value)
