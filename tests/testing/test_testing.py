"""What an outside package runs: sound components pass, and faults are named."""

import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from kdbench.data import DATASETS
from kdbench.losses import label_logits
from kdbench.methods import METHODS, PREVIOUS, SAME_CLASS, hparam
from kdbench.models import MODELS
from kdbench.registry import Paper, UnknownName
from kdbench.testing import check_data, check_method, check_model

KD = METHODS["kd"]
#: Not in the proceedings of a conference, though its kind says so.
PREPRINT = Paper("rossi2024a", "Rossi, Ada", "T", "arXiv:2401.00001", 2024)


def test_sound_components_pass():
    check_method("hint")
    check_data("digits")


#: Models of the kinds that others of their family show in less time.
SLOW = re.compile(r"resnet(14|20|32|44|50|56|110)|resnet8x4|vgg13|wrn|deepnn")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.long] * bool(SLOW.match(n))) for n in MODELS]
)
def test_every_model_passes(name):
    shapes = {"digits": (1, 8, 8), "mnist": (1, 28, 28)}
    check_model(name, shapes.get(name.split("-")[0], (3, 32, 32)))


def test_a_class_need_not_be_registered():
    before = list(METHODS)
    check_method(KD)
    assert list(METHODS) == before


@pytest.mark.parametrize(
    ("check", "name"), [(check_method, "kdd"), (check_model, "digits-cn"), (check_data, "digit")]
)
def test_unknown_names(check, name):
    with pytest.raises(UnknownName, match="did you mean"):
        check(name)


def faulty(**members):
    """kd with other members, checked as a class."""
    kind = type("Faulty", (KD,), {"__doc__": KD.__doc__, **members})
    return dataclass(frozen=True)(kind)


def not_detached(self, out, batch, helpers, progress):
    terms = KD.loss(self, out, batch, helpers, progress)
    return terms | {"soft": terms["soft"] + out["teacher"].logits.sum() * 1e-3}


def classifier_not_detached(self, out, batch, helpers, progress):
    terms = KD.loss(self, out, batch, helpers, progress)
    classifier = out["teacher"].parameters["classifier.weight"]
    return terms | {"soft": terms["soft"] + classifier.square().sum() * 1e-6}


def moves_a_weight(self, out, batch, helpers, progress):
    with torch.no_grad():
        helpers["scale"].weight += 1
    terms = KD.loss(self, out, batch, helpers, progress)
    return {name: term * helpers["scale"].weight.square().sum() for name, term in terms.items()}


def reads_a_value(self, out, batch, helpers, progress):
    terms = KD.loss(self, out, batch, helpers, progress)
    return {name: term * (term.item() > 0) for name, term in terms.items()}


def draws(self, out, batch, helpers, progress):
    torch.rand(())
    return KD.loss(self, out, batch, helpers, progress)


def other_weight(self, out, batch, helpers, progress):
    terms = KD.loss(self, out, batch, helpers, progress)
    return terms | {"soft": terms["soft"].detach() * 0 + out["student"].logits.square().mean()}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"__doc__": "Nothing."}, "does not begin with a sentence `The student"),
        ({"__annotations__": {"size": float}, "size": hparam(1.0)}, "size has no help"),
        ({"networks": lambda self: {}}, "lacks the trained student"),
        ({"paper": None}, "no class attribute `paper`"),
        ({"paper": PREPRINT}, "paper.venue is arXiv:2401.00001, so paper.kind is 'misc'"),
        ({"loss_weights": lambda self: {"task": 1.0}}, "do not match weights"),
        ({"loss": not_detached}, "a gradient reaches the teacher: detach what is frozen"),
        ({"loss": classifier_not_detached}, "a gradient reaches the teacher: detach"),
        ({"layers": lambda self: ("embedding",)}, "layers\\(\\) asks for them in vain"),
        (
            {
                "helpers": lambda *_: nn.ModuleDict({"scale": nn.Linear(1, 1, bias=False)}),
                "loss": moves_a_weight,
            },
            "loss\\(\\) changes outputs or helper modules",
        ),
        ({"examples": {"again": SAME_CLASS}}, "examples names again, which is not in networks"),
        ({"examples": {"teacher": PREVIOUS}}, "the frozen teacher sees the batch's own examples"),
        ({"examples": {"student": "others"}}, "examples gives student 'others'"),
        ({"image_score": lambda self: label_logits}, "image gradient of the student; image_score"),
        ({"momentum_shifts": lambda self: {"hard": 0.1}}, "terms that are not there: .'hard'"),
        ({"loss": reads_a_value}, "reads a value back"),
        ({"loss": draws}, "draws from torch's global generator"),
        ({"loss": other_weight}, "does not use loss_weights"),
        ({"loss": lambda self, *_: 1 / 0}, "ZeroDivisionError"),
    ],
)
def test_a_faulty_method_is_named(members, message):
    with pytest.raises(AssertionError, match=message):
        check_method(faulty(**members))


class Model(nn.Module):
    """A network that is sound unless a subclass says otherwise."""

    nodes = {"embedding": "flatten", "logits": "layer"}  # noqa: RUF012

    def __init__(self, image_shape, classes):
        super().__init__()
        self.layer = nn.Linear(image_shape[1] * image_shape[2], classes)

    def forward(self, images):
        return self.layer(images.flatten(1))


class Noise(Model):
    """It draws random numbers also in eval mode."""

    def forward(self, images):
        return self.layer(nn.functional.dropout(images.flatten(1), training=True))


class Unused(Model):
    """One of its weights has no use."""

    def __init__(self, image_shape, classes):
        super().__init__(image_shape, classes)
        self.extra = nn.Linear(2, 2)


class NoEmbedding(Model):
    """It does not say where its embedding is."""

    nodes = {"logits": "layer"}  # noqa: RUF012


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Noise, "two forwards in eval mode differ"),
        (Unused, "no gradient reaches extra.weight"),
        (NoEmbedding, "names no `embedding`"),
    ],
)
def test_a_faulty_model_is_named(monkeypatch, model, message):
    monkeypatch.setitem(MODELS, f"faulty-{model.__name__}", model)
    with pytest.raises(AssertionError, match=message):
        check_model(f"faulty-{model.__name__}", (1, 8, 8))


def same_part(part, folder):
    return DATASETS["digits"].read("train", folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"read": same_part}, "the test part is the training part"),
        ({"mean": (0.9,), "std": (0.1,)}, "mean and std are"),
        ({"class_names": tuple("0123456789x")}, "no training image is of the class x"),
    ],
)
def test_a_faulty_data_set_is_named(monkeypatch, changes, message):
    monkeypatch.setitem(DATASETS, "faulty", replace(DATASETS["digits"], **changes))
    with pytest.raises(AssertionError, match=message):
        check_data("faulty")


def test_light_to_import():
    code = (
        "import sys, kdbench.testing; sys.exit('torch' in sys.modules or 'pytest' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_method_of_the_documentation_passes(tmp_path, monkeypatch):
    """docs/your-own-method.md, copied as it stands."""
    page = Path(__file__).parents[2] / "docs" / "your-own-method.md"
    code = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)[0]
    (tmp_path / "pkt_kd.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    check_method(__import__("pkt_kd").PKT)
