"""All formats of torchvision's MobileNetV3 from a folder of images, and of a user's own network."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.command_line import output
from support.inline_study import Recorder

from kdbench.execution.protocols import NullTracker
from kdbench.execution.run_study import Options, prepare, run_plan
from kdbench.export.formats import FORMATS
from kdbench.records.store import Store

pytestmark = pytest.mark.long
STUDY = """
name: photos
data: {folder: ./photos, size: 32, validation: 30}
student: {model: "torchvision:mobilenet_v3_small"}
teacher: {model: resnet8}
recipe: {epochs: 20, batch: 8, lr: 2.0e-3}  # its running statistics move by a hundredth a step
methods: [{method: kd, hparams: {temperature: 4, alpha: 0.5}}]
final: {seeds: [0, 1, 2], epoch: last}
report: {reference: kd}
"""
NETS = """
from torch import nn


class TinyNet(nn.Module):
    def __init__(self, image_shape, classes, width=8):
        super().__init__()
        self.conv = nn.Conv2d(image_shape[0], width, 3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, x):
        return self.head(self.pool(self.relu(self.conv(x))).flatten(1))
"""
OWN = """
name: own
data: {name: digits, validation: 200}
student: {model: "./nets.py:TinyNet", options: {width: 12}}
teacher: {model: digits-cnn, size: 12}
recipe: {epochs: 2, batch: 64, lr: 1.0e-2}
methods: [{method: kd, hparams: {temperature: 4, alpha: 0.5}}]
final: {seeds: [0, 1, 2], epoch: best}
report: {reference: kd}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies that have run: images of three classes, which differ in colour and stripes."""
    folder = tmp_path_factory.mktemp("real")
    generator = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 30)):
        for label, name in enumerate(("across", "down", "plain")):
            for number in range(count):
                pixels = generator.integers(0, 120, (60, 72, 3))
                if label < 2:
                    lines = (np.arange(pixels.shape[label]) // 6 % 2) * 110
                    pixels[..., label] += lines[:, None] if label == 0 else lines
                path = folder / "photos" / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(path)
    (folder / "nets.py").write_text(NETS)
    for name, text in (("photos", STUDY), ("own", OWN)):
        (folder / f"{name}.yaml").write_text(text)
        options = Options(folder / f"{name}.yaml", folder, folder / "data", engine="inline")
        planner, store = prepare(options)
        run_plan(planner, store, options, NullTracker(), Recorder())
    return folder


@pytest.mark.parametrize(
    ("study", "format", "kind"),
    [
        *(("photos", key, kind) for key, f in FORMATS.items() for kind in (None, *f.quantize)),
        *(("own", key, None) for key in FORMATS),
        ("own", "onnx", "int8"),
    ],
)
def test_every_format_and_type(folder: Path, study: str, format: str, kind: str | None) -> None:
    out = folder / "exports" / f"{study}-{format}-{kind}"
    words = ["export", study, "kd", "--to", format, "--out", out, "--root", folder]
    words += ["--data-dir", folder / "data", *(["--quantize", kind] if kind else [])]
    description = json.loads(output(*words, "--json"))
    assert description["proof"]["ties"] == 0
    if kind:
        assert len(description["quantisation"]["scores"]) == 3
    photo = folder / "photos" / "test" / "across" / "0.png"
    (prediction,) = json.loads(output("predict", out, photo, "--root", folder, "--json"))
    count = min(5, len(description["classes"]))
    assert len(prediction["student"]) == len(prediction["teacher"]) == count
    if study == "photos" and kind is None:  # the first image of the test set
        record = Store(folder).record(description["run"])
        logits = record.predictions()["last"][0].astype(float)
        expected = np.exp(logits) / np.exp(logits).sum()
        for guess in prediction["student"]:
            place = description["classes"].index(guess["label"])
            assert guess["probability"] == pytest.approx(expected[place], abs=1e-4)
