"""A student with a head is that network wherever it is used: validated, scored, saved, counted,
loaded, and learned from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch.nn import functional as F

from kdbench import models
from kdbench.data import Views
from kdbench.data.test_set import open_test_set
from kdbench.methods import METHODS
from kdbench.methods.base import Method, Paper
from kdbench.methods.networks import Frozen, Stage, Trained
from kdbench.records.readers import CorruptRecord
from kdbench.records.store import Store
from kdbench.study.schema import Study
from kdbench.testing.world import NOISY, World
from kdbench.training.evaluate import score_run
from kdbench.training.examples import examples_of
from kdbench.training.teachers import HEAD, TeacherNetwork, load_student

CPU = torch.device("cpu")
KEYS = ("simkd", "norm")


class Pooled(World):
    """A world whose teacher averages its last stage."""

    def study(self, *methods: object, **parts: object) -> Study:
        return super().study(*methods, **{"teacher": "resnet14", **parts})


@pytest.fixture(
    scope="module",
    params=[(key, kind) for key in KEYS for kind in (World, Pooled)],
    ids=lambda p: f"{p[0]}-{p[1].__name__}",
)
def trained(
    request: pytest.FixtureRequest, world: World, tmp_path_factory: pytest.TempPathFactory
) -> tuple[World, str]:
    """A finished run and its world: of networks that flatten their last stage, or average it."""
    key, kind = request.param
    if kind is World:
        return world, kept(world, key, NOISY)
    own = Pooled(world.data, Store(tmp_path_factory.mktemp("pooled")))
    return own, kept(own, key, "resnet8")


def kept(world: World, key: str, student: str) -> str:
    job = world.job(key, student=student)
    world.keep(job)
    return job.spec.id


def validated(world: World, run_id: str, which: str) -> tuple[float, float]:
    """Accuracy and NLL of a loaded student on the held-out images."""
    held_out = examples_of(world.store.record(run_id).spec(), world.context()).held_out
    logits = load_student(world.store, run_id, which, world.data.without_pixels())(
        Views(world.data).take(held_out)
    )
    labels = world.data.labels[held_out]
    nll = F.cross_entropy(logits, labels).item()
    return (logits.argmax(1) == labels).float().mean().item(), nll


@pytest.mark.parametrize("which", ["last", "best"])
def test_validation_is_of_the_student_that_is_saved(trained: tuple[World, str], which: str) -> None:
    world, run_id = trained
    result = world.store.record(run_id).result
    expected = result[which]["val.accuracy"], result[which]["val.nll"]
    assert validated(world, run_id, which) == pytest.approx(expected, rel=1e-5)


def test_the_test_score_is_of_the_student_that_is_saved(trained: tuple[World, str]) -> None:
    world, run_id = trained
    test = open_test_set("digits", None)
    scores, arrays = score_run(world.store, run_id, world.data, test, CPU)
    student = load_student(world.store, run_id, "last", world.data)
    with torch.no_grad():
        logits = student(Views(test).take(torch.arange(len(test.labels))))
    torch.testing.assert_close(torch.from_numpy(arrays["last"]), logits, rtol=1e-4, atol=1e-5)
    accuracy = (logits.argmax(1) == test.labels).double().mean().item()
    assert scores["last"]["accuracy"] == pytest.approx(accuracy)


#: Convolutions, batch normalisations and biases of the student below its classifier, and the
#: multiply-accumulates of an image of 8x8 pixels.
NOISY_BELOW = (16 * 9 + 2 * 16) + (16 * 32 * 9 + 2 * 32)
NOISY_MACS = 16 * 9 * 64 + 16 * 32 * 9 * 16
RESNET_BELOW = (
    16 * 9 + 2 * 16
    + 2 * (16 * 16 * 9 + 2 * 16)
    + (16 * 32 + 32 * 32) * 9 + 16 * 32 + 3 * 2 * 32
    + (32 * 64 + 64 * 64) * 9 + 32 * 64 + 3 * 2 * 64
)  # fmt: skip
RESNET_MACS = (
    (16 * 9 + 2 * 16 * 16 * 9) * 64
    + ((16 * 32 + 32 * 32) * 9 + 16 * 32) * 16
    + ((32 * 64 + 64 * 64) * 9 + 32 * 64) * 4
)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    ("student", "below", "macs", "width", "positions"),
    [(NOISY, NOISY_BELOW, NOISY_MACS, 128, 1), ("resnet8", RESNET_BELOW, RESNET_MACS, 64, 4)],
)
def test_parameters_and_macs_are_of_the_student_that_is_used(
    key: str, student: str, below: int, macs: int, width: int, positions: int,
    world: World, tmp_path: Path,
) -> None:  # fmt: skip
    kind = World if student == NOISY else Pooled
    own = kind(world.data, world.store if student == NOISY else Store(tmp_path))
    half, wide = width // 2, 8 * width
    simkd = 2 * width * half + half * half * 9
    weights, norms = {
        "simkd": (simkd, 2 * (2 * half + width)),
        "norm": (2 * width * wide, 2 * (wide + width)),
    }[key]
    result = own.alone(own.job(key, student=student)).result
    assert result["student_parameters"] == below + weights + norms + 10 * width + 10
    assert result["macs"] == macs + weights * positions + 10 * width
    # The teacher's classifier is used and not trained.
    reused = 10 * width + 10 if key == "simkd" else 0
    assert result["parameters"] == result["student_parameters"] - reused


def test_simkd_saves_the_teachers_classifier(world: World) -> None:
    run_id = kept(world, "simkd", NOISY)
    spec = world.store.record(run_id).spec()
    teacher = load_student(world.store, spec.frozen_runs["teacher"], "last", world.data)
    head = load_student(world.store, run_id, "last", world.data).headed.head
    assert torch.equal(head.weight, teacher.classifier.weight)
    assert torch.equal(head.bias, teacher.classifier.bias)


def changed(run_id: str, world: World, empty: World, change: Callable[[dict], dict]) -> Store:
    """A store with the run, its weights changed, and those it learned from."""
    spec = world.store.record(run_id).spec()
    for each in (run_id, *spec.frozen_runs.values()):
        old, new = world.store.record(each), empty.store.record(each)
        weights = load_tensors(old.state_dict())
        weights = change(weights) if each == run_id else weights
        new.begin(old.spec())
        new.finish(old.result, save_tensors(weights))
    return empty.store


def test_weights_that_do_not_fit_the_head_are_named(world: World, empty_world: World) -> None:
    run_id = kept(world, "simkd", NOISY)

    def without_bias(weights: dict) -> dict:
        return {name: w for name, w in weights.items() if name != f"last/{HEAD}bias"}

    store = changed(run_id, world, empty_world, without_bias)
    with pytest.raises(CorruptRecord, match="bias"):
        load_student(store, run_id, "last", world.data)
    load_student(store, run_id, "best", world.data)


def test_the_run_that_the_head_is_from_must_be_there(world: World, tmp_path: Path) -> None:
    run_id = kept(world, "simkd", NOISY)
    old, new = world.store.record(run_id), Store(tmp_path).record(run_id)
    new.begin(old.spec())
    new.finish(old.result, old.weights_path.read_bytes())
    with pytest.raises(FileNotFoundError, match="is missing"):
        load_student(Store(tmp_path), run_id, "last", world.data)


@dataclass(frozen=True)
class Later(Method):
    """The student learns from the answers of a student that another method has trained."""

    paper: ClassVar[Paper] = Paper("none1951none", "None, Nobody", "None", "None", 1951)
    earlier: ClassVar[str] = "simkd"

    def networks(self):
        earlier = Stage("student", self.earlier, own_seed=True)
        return {"student": Trained("student"), "teacher": Frozen(earlier)}

    def layers(self):
        return ("stage1",)

    def loss(self, out, batch, helpers, progress):
        teacher = out["teacher"]
        assert set(teacher.features) >= {"stage1"}
        return {"task": F.mse_loss(out["student"].logits, teacher.logits)}


@pytest.mark.parametrize("access", ["live", "cache"])
@pytest.mark.parametrize("key", KEYS)
def test_a_later_generation_learns_from_the_student_with_its_head(
    world: World, monkeypatch: pytest.MonkeyPatch, key: str, access: str
) -> None:
    monkeypatch.setitem(METHODS, "later", type("Later", (Later,), {"earlier": key}))
    job = world.job("later", recipe={"teacher_outputs": access}, data={"augment": "none"})
    outcome = world.alone(job)
    assert outcome.finished, outcome.failed
    run_id = job.spec.frozen_runs["teacher"]
    position = torch.arange(len(world.data.labels))
    images = Views(world.data).take(position)
    direct = load_student(world.store, run_id, "last", world.data)(images)
    teacher = TeacherNetwork(world.store, run_id, "last", world.data, Views(world.data))
    answers = {
        "live": lambda: teacher.live(images, ["stage1"]),
        "cache": lambda: teacher.cached(position, ["stage1"]),
    }
    answer = answers[access]()
    torch.testing.assert_close(answer.logits, direct, rtol=1e-4, atol=1e-5)
    assert "stage1" in answer.features
    model = world.store.record(run_id).spec().models["student"]
    sizes = models.parameter_shapes(model, world.data.shape, world.data.classes)
    assert {name: p.shape for name, p in answer.parameters.items()} == sizes
