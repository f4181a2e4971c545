"""A model, a method or a data set that is wrong is refused before the first run, in one line."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from support import crash
from torch import Tensor, nn
from torch.nn import functional as F

from kdbench.data import DATASETS, DataError
from kdbench.execution import run_study
from kdbench.execution.run_study import Options, prepare, probe_plan
from kdbench.methods import METHODS
from kdbench.methods.base import Method, Paper
from kdbench.methods.networks import Frozen, Trained
from kdbench.models import MODELS
from kdbench.study.load import StudyError, parse_study
from kdbench.study.schema import Study

TEXT = """
name: mine
data:    {name: digits, validation: 200}
student: {model: STUDENT}
teacher: {model: digits-cnn}
recipe:  {epochs: 1, batch: 256, lr: 1e-3}
methods: [ce, METHOD]
final:   {seeds: [0]}
report:  {reference: ce}
"""


def study_of(student: str = "digits-cnn-small", method: str = "kd") -> Study:
    return parse_study(TEXT.replace("STUDENT", student).replace("METHOD", method), "mine.yaml")


def refusal(root: Path, study: Study) -> str:
    """The one line that is said of a study that is wrong."""
    with pytest.raises(StudyError) as caught:
        prepare(Options(study, root))
    (fault,) = caught.value.faults
    assert str(caught.value) == f"mine: 1 error\n  - {fault}"
    assert not list(root.iterdir())
    return fault


# -- models


class Net(nn.Module):
    """A linear model whose output `answer` may change."""

    nodes: ClassVar[dict[str, str]] = {"logits": "fc", "embedding": "flatten"}

    def __init__(self, outputs: int, answer: Callable[[Tensor], Any] = lambda x: x) -> None:
        super().__init__()
        self.flatten, self.fc = nn.Flatten(), nn.Linear(64, outputs)
        self.answer = answer

    def forward(self, images: Tensor) -> Any:
        return self.answer(self.fc(self.flatten(images)))


class ChannelsLast(Net):
    """Reads images with the channels last."""

    def forward(self, images: Tensor) -> Tensor:
        _, _, _, channels = images.shape
        if channels != 1:
            raise ValueError(f"images have {channels} channels, not 1")
        return self.fc(self.flatten(images))


class NoNodes(nn.Module):
    """A module that names no layers."""


MODEL_FAULTS: dict[str, tuple[Callable[[int], Any], str]] = {
    "fewer": (
        lambda classes: Net(classes - 3),
        "model x returns 7 logits for an image, but the data has 10 classes: give it as many "
        "outputs as it is built with `classes`",
    ),
    "more": (
        lambda classes: Net(classes + 1),
        "model x returns 11 logits for an image, but the data has 10 classes: give it as many "
        "outputs as it is built with `classes`",
    ),
    "tuple": (
        lambda classes: Net(classes, lambda logits: (logits, logits)),
        "model x returns a tuple and not a tensor: let forward() return the logits alone",
    ),
    "dictionary": (
        lambda classes: Net(classes, lambda logits: {"logits": logits}),
        "model x returns a dict and not a tensor: let forward() return the logits alone",
    ),
    "summed": (
        lambda classes: Net(classes, lambda logits: logits.sum(1)),
        "model x returns a tensor of 2 for 2 images: let forward() return images x classes",
    ),
    "other node": (
        lambda classes: setattr(net := Net(classes), "nodes", {"logits": "flatten"}) or net,
        "model x returns 64 logits for an image, but the data has 10 classes: give it as many "
        "outputs as it is built with `classes` at the node of `logits`",
    ),
    "layout": (
        ChannelsLast,
        "model x fails on images of 1x8x8 (channels x height x width): ValueError: images have 8 "
        "channels, not 1",
    ),
    "no module": (lambda _: 3, "model x is built as a int, not an nn.Module"),
    "no nodes": (
        lambda _: NoNodes(),
        "model x has no attribute `nodes` that names at least `logits`",
    ),
}


@pytest.mark.parametrize("fault", MODEL_FAULTS)
def test_a_model_that_is_wrong(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build, message = MODEL_FAULTS[fault]
    name = f"wrong-{fault.replace(' ', '-')}"
    monkeypatch.setitem(MODELS, name, lambda shape, classes: build(classes))
    sound = study_of()
    study = sound.model_copy(update={"student": sound.student.model_copy(update={"model": name})})
    expected = message.replace("model x", f"model {name}")
    assert refusal(tmp_path, study) == f"student.model: {expected} (data: digits)"
    teacher = sound.model_copy(update={"teacher": sound.teacher.model_copy(update={"model": name})})
    assert refusal(tmp_path, teacher) == f"teacher.model: {expected} (data: digits)"


def test_every_model_that_is_wrong_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "wrong-fewer", lambda shape, classes: Net(7))
    monkeypatch.setitem(MODELS, "wrong-more", lambda shape, classes: Net(11))
    sound = study_of()
    slot = sound.student.model_copy(update={"model": "wrong-fewer"})
    entries = tuple(
        entry.model_copy(update={"slots": {"teacher": "wrong-more"}})
        if entry.label == "kd"
        else entry
        for entry in sound.methods
    )
    with pytest.raises(StudyError) as caught:
        prepare(Options(sound.model_copy(update={"student": slot, "methods": entries}), tmp_path))
    places = [fault.split(":")[0] for fault in caught.value.faults]
    assert places == ["student.model", "methods (kd).teacher.model"]


# -- methods


@dataclass(frozen=True)
class Mine(Method):
    """The student learns from labels and, idly, beside a teacher."""

    paper = Paper(key="mine2020", authors="Me, A.", title="T", venue="V", year=2020)

    def networks(self) -> Any:
        return {"student": Trained("student"), "teacher": Frozen()}

    def loss(self, out: Any, batch: Any, helpers: Any, progress: Any) -> Any:
        return {"task": F.cross_entropy(out["student"].logits, batch.labels)}


def losing(answer: Callable[[Any, Any], Any]) -> type[Method]:
    """`Mine` with another loss, which gets all outputs and the labels."""
    return type("Wrong", (Mine,), {"loss": lambda self, out, batch, *_: answer(out, batch.labels)})


def task(out: Any, labels: Tensor) -> Tensor:
    return F.cross_entropy(out["student"].logits, labels)


def raising(*_: Any) -> Any:
    raise KeyError("stage7")


def raising_long(*_: Any) -> Any:
    raise RuntimeError("several\n  lines of\ttext")


class Stops(torch.autograd.Function):
    """The identity, without a backward."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        raise NotImplementedError("no backward")


ADVICE = "compute a term from out['student'] that nothing detaches"
NO_NAME = "which is no name: use letters, digits, '.', '_' and '-', a letter first"
METHOD_FAULTS: dict[str, tuple[type[Method], str]] = {
    "vector": (
        losing(
            lambda out, y: {"task": F.cross_entropy(out["student"].logits, y, reduction="none")}
        ),
        "the term 'task' of loss() has the shape (2,): take its mean or its sum",
    ),
    "no gradient": (
        losing(lambda out, y: {"task": task(out, y).detach()}),
        f"what loss() returns has no gradient: {ADVICE}",
    ),
    "not the student's": (
        losing(lambda out, y: {"task": torch.ones((), requires_grad=True) * 2}),
        f"the gradient of loss() does not reach the student: {ADVICE}",
    ),
    "number for a name": (
        losing(lambda out, y: {3: task(out, y)}),
        f"loss() returns a term called 3, {NO_NAME}",
    ),
    "no name": (
        losing(lambda out, y: {"": task(out, y)}),
        f"loss() returns a term called '', {NO_NAME}",
    ),
    "two lines for a name": (
        losing(lambda out, y: {"a\nb": task(out, y)}),
        f"loss() returns a term called 'a\\nb', {NO_NAME}",
    ),
    "bare tensor": (
        losing(task),
        "loss() returns a Tensor and not its terms by name: return {'task': ...}",
    ),
    "nothing": (losing(lambda out, y: {}), "loss() returns no term: return {'task': ...}"),
    "no tensor": (
        losing(lambda out, y: {"task": float(task(out, y))}),
        "the term 'task' of loss() is a float and not a tensor",
    ),
    "raises": (losing(raising), "loss() raises KeyError: 'stage7'"),
    "raises at length": (losing(raising_long), "loss() raises RuntimeError: several lines of text"),
    "backward raises": (
        losing(lambda out, y: {"task": Stops.apply(task(out, y))}),
        "the gradient of loss() raises NotImplementedError: no backward",
    ),
    "image score raises": (
        type("Wrong", (Mine,), {"image_score": lambda self: lambda logits, labels: 1 / 0}),
        "image_score() raises ZeroDivisionError: division by zero",
    ),
    "weights": (
        type("Wrong", (Mine,), {"loss_weights": lambda self: {"task": "heavy"}}),
        "loss_weights()['task'] is a str and not a number",
    ),
}


def test_a_method_that_takes_no_account_of_label_smoothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "mine", Mine)
    study = study_of(method="mine")
    prepare(Options(study, tmp_path / "plain"))
    recipe = study.recipe.model_copy(update={"label_smoothing": 0.1})
    (tmp_path / "smoothed").mkdir()
    fault = refusal(tmp_path / "smoothed", study.model_copy(update={"recipe": recipe}))
    assert "methods (mine): loss() takes no account of recipe.label_smoothing" in fault
    assert "kdbench.methods.cross_entropy(logits, batch)" in fault


@pytest.mark.parametrize("fault", METHOD_FAULTS)
def test_a_method_that_is_wrong(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, message = METHOD_FAULTS[fault]
    monkeypatch.setitem(METHODS, "mine", kind)
    assert refusal(tmp_path, study_of(method="mine")) == f"methods (mine): {message} (data: digits)"


def test_helpers_that_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "mine", type("Wrong", (Mine,), {"helpers": raising}))
    expected = "methods (mine): helpers() raises KeyError: 'stage7'"
    assert refusal(tmp_path, study_of(method="mine")) == expected


def test_a_head_that_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Head(nn.Module):
        def forward(self, features: Any, parameters: Any) -> Any:
            return features["stage7"]

    monkeypatch.setitem(METHODS, "mine", type("Wrong", (Mine,), {"head": lambda *_: Head()}))
    expected = "methods (mine): head() raises KeyError: 'stage7' (data: digits)"
    assert refusal(tmp_path, study_of(method="mine")) == expected


def test_a_sound_method_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "mine", Mine)
    planner, _ = prepare(Options(study_of(method="mine"), tmp_path))
    assert not list(tmp_path.iterdir())
    assert len(planner.plan().nodes) == 3


# -- data


def changed(monkeypatch: pytest.MonkeyPatch, change: Callable[[str, np.ndarray], Any]) -> None:
    """Have each part of the digits read with other images."""
    sound = DATASETS["digits"]

    def read(part: Any, folder: Path) -> Any:
        images, labels = sound.read(part, folder)
        return change(part, images), labels

    monkeypatch.setitem(DATASETS, "digits", replace(sound, read=read))


def test_images_with_the_channels_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, lambda _, images: images.transpose(0, 2, 3, 1))
    with pytest.raises(DataError) as caught:
        prepare(Options(study_of(), tmp_path))
    assert str(caught.value) == (
        "data set digits: cannot read its source: images of the train part should be images x "
        "channels x height x width; found (1200, 8, 8, 1), which has the channels last: "
        "images.transpose(0, 3, 1, 2). Replace it with a sound copy."
    )


def test_test_images_of_another_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed(monkeypatch, lambda part, images: images[:, :, :6] if part == "test" else images)
    with pytest.raises(DataError) as caught:
        prepare(Options(study_of(), tmp_path))
    assert str(caught.value) == (
        "data set digits: its test images are 1x6x8, its training images 1x8x8 (channels x height "
        "x width): have both parts read in one shape"
    )


# -- what it leaves alone


def test_no_random_number_is_drawn_and_no_setting_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda _: pytest.fail("threads were set"))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    numbers = np.random.get_state()[1].copy()
    options = Options("digits", tmp_path, tune=False)
    planner, _ = prepare(options)
    probe_plan(planner, options)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numbers).all()
    assert torch.is_grad_enabled()


def test_a_finished_study_probes_nothing(
    reference_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probed(*_: Any) -> None:
        raise AssertionError("nothing is left to be trained")

    monkeypatch.setattr(run_study, "probe_methods", probed)
    monkeypatch.setattr(run_study.data, "check_test_shape", probed)
    study = parse_study(crash.STUDY, "crash")
    prepare(Options(study, reference_root))
    with pytest.raises(AssertionError, match="nothing is left"):
        prepare(Options(study, reference_root, seeds=(77,)))
