"""Exports: which student, in which formats, proved, and nothing left where that fails."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file

import kdbench
from kdbench import models
from kdbench.data import DATASETS, TrainingData
from kdbench.export import formats, write
from kdbench.export.choice import Choice, choose
from kdbench.export.description import read_description
from kdbench.export.errors import CannotExport
from kdbench.export.formats import FORMATS
from kdbench.export.network import run_all
from kdbench.export.proof import prove
from kdbench.export.write import Request, export_student
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.registry import UnknownName

Exports = Callable[..., Path]
Requests = Callable[..., Request]


def images_of_test() -> tuple[torch.Tensor, int]:
    data = DATASETS["digits"]
    images, _ = data.read("test", Path())
    return torch.from_numpy(images), data.scale


def record_of(root: Path, folder: Path):
    return Store(root).record(read_description(folder).run)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_answers_as_the_record(exports: Exports, root: Path, format: str) -> None:
    folder = exports(format)
    description = read_description(folder)
    runner = FORMATS[format].load(folder / description.file, description)
    recorded = record_of(root, folder).predictions()["last"]
    logits = run_all(runner, *images_of_test())
    np.testing.assert_allclose(logits, recorded, atol=1e-4)
    assert (logits.argmax(1) == recorded.argmax(1)).all()
    # Any number of images, one too.
    images, scale = images_of_test()
    np.testing.assert_allclose(run_all(runner, images[:1], scale), recorded[:1], atol=1e-4)
    proof = description.proof
    assert proof is not None
    assert (proof.images, proof.ties) == (597, 0)
    assert proof.largest_difference == pytest.approx(np.abs(logits - recorded).max(), abs=1e-5)


def test_two_logits_within_twice_the_tolerance_may_change_places() -> None:
    """Each of the two moves by at most the tolerance: a thousandth of the largest logit, 0.01."""
    recorded = np.array([[10.0, 9.982], [0.0, 10.0]])
    record = SimpleNamespace(id="a1", predictions=lambda: {"last": recorded})
    choice = cast(Choice, SimpleNamespace(record=record, which="last"))
    proof = prove(np.array([[9.9905, 9.9915], [0.0, 10.0]]), choice, "model.onnx")
    assert proof.tolerance == pytest.approx(0.01)
    assert (proof.images, proof.ties) == (2, 1)
    with pytest.raises(CannotExport, match="the logits of 1 of 2 test images"):
        prove(np.array([[9.985, 9.986], [0.0, 10.0]]), choice, "model.onnx")


def test_the_state_dict_is_what_the_model_takes(exports: Exports, root: Path) -> None:
    path = exports("safetensors") / "model.safetensors"
    network = models.build("digits-cnn-small", (1, 8, 8), 10)
    network.load_state_dict(load_file(path))  # strict
    description = read_description(path.parent)
    student = kdbench.load_student("small", "kd", description.seed, root)
    for name, value in student.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])
    with safe_open(path, "pt") as file:
        texts = file.metadata()
    assert texts["format"] == "pt"
    assert json.loads(texts["classes"]) == [str(digit) for digit in range(10)]
    assert texts["kdbench.run"] == description.run


def test_onnx_says_what_it_is(exports: Exports) -> None:
    import onnx

    model = onnx.load(exports("onnx") / "model.onnx")
    onnx.checker.check_model(model)
    texts = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(texts["classes"])[0] == "0"
    dimensions = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dimensions] == ["batch", 1, 8, 8]


def test_the_description_has_what_a_user_needs(exports: Exports, digits: TrainingData) -> None:
    raw = json.loads((exports("safetensors") / "config.json").read_text())
    assert raw["classes"] == list(digits.class_names)
    assert raw["mean"] == list(digits.mean)
    assert raw["std"] == list(digits.std)
    assert raw["image_shape"] == [1, 8, 8]
    assert raw["normalised"] is False
    assert raw["spec"]["method"] == "kd"


# -- which seed


def test_best_is_by_validation_score_and_never_by_test(root: Path) -> None:
    store = Store(root)
    plan = PlanFile.load(store.plan_path("small"))
    assert plan is not None
    (row,) = (r for r in plan.rows if (r.label, r.row) == ("kd", "tuned"))
    validation = {
        int(seed): store.record(run).epochs()[-1]["val.accuracy"] for seed, run in row.runs.items()
    }
    chosen = choose(store, "small", "kd", "best")
    assert validation[chosen.seed] == max(validation.values())
    assert chosen.record.id == row.runs[str(chosen.seed)]
    assert "validation" in chosen.how


def test_best_does_not_look_at_the_test_scores(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kdbench.records.store import Record

    def best() -> int:
        return choose(Store(root), "small", "kd", "best").seed

    before = best()
    monkeypatch.setattr(Record, "test", property(lambda self: {"checksum": "", "last": {}}))
    assert best() == before


def test_a_row_may_be_named(root: Path) -> None:
    tuned, default = (choose(Store(root), "small", "kd", "1", row) for row in (None, "default"))
    assert (tuned.row.row, default.row.row) == ("tuned", "default")


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (("none", "kd", "0"), UnknownName, "has not run under"),
        (("small", "rkd", "0"), UnknownName, "no method 'rkd'; it has ce, kd"),
        (("small", "kd", "9"), UnknownName, "with seed 9; it has 0, 1, 2"),
        (("small", "kd", "0", "pinned"), UnknownName, "no row 'pinned' of kd; it has"),
        (("small", "kd", "first"), CannotExport, "write a number or best"),
    ],
)
def test_a_run_that_is_not_there(root: Path, words: tuple, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        choose(Store(root), *words)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, "is not finished; `kdbench study` continues it"),
        ({"state": "diverged", "diverged_epoch": 2}, "diverged in epoch 2"),
    ],
)
def test_a_run_without_weights(
    request_for: Requests, monkeypatch: pytest.MonkeyPatch, result: dict | None, message: str
) -> None:
    from kdbench.records.store import Record

    monkeypatch.setattr(Record, "result", property(lambda self: result))
    with pytest.raises(CannotExport, match=message):
        export_student(request_for(seed="0"))


def test_no_validation_score_tells_the_seeds_apart(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kdbench.records.store import Record

    blank = {"state": "done", "last": {"val.accuracy": None, "val.nll": None}, "best": {}}
    monkeypatch.setattr(Record, "result", property(lambda self: blank))
    with pytest.raises(CannotExport, match=r"name one, as in --seed 0 \(it has 0, 1, 2\)"):
        choose(Store(root), "small", "kd", "best")
    assert choose(Store(root), "small", "kd", "1").seed == 1


# -- what is refused


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"format": "tflite"}, "unknown format; known: onnx, safetensors, torch"),
        ({"format": "onxx"}, "did you mean 'onnx'"),
        ({"format": "torch", "quantize": "int8"}, "int8 is for --to onnx"),
        ({"format": "onnx", "quantize": "bf16"}, "bf16 is for --to safetensors or torch"),
        ({"quantize": "int3"}, "--to safetensors has --quantize fp16, bf16, not int3"),
        ({"method": "simkd"}, "answers through a head of its method.*--to torch"),
    ],
)
def test_what_no_format_can_do(request_for: Requests, words: dict, message: str) -> None:
    with pytest.raises(CannotExport, match=message):
        export_student(request_for(**words))


def test_a_missing_extra_is_named(request_for: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(CannotExport, match=r'onnxruntime is not.*pip install "kdbench\[onnx\]"'):
        export_student(request_for(format="onnx"))


def test_a_folder_that_is_not_empty_is_left_alone(request_for: Requests) -> None:
    request = request_for()
    request.out.mkdir()
    (request.out / "mine.txt").write_text("mine")
    with pytest.raises(CannotExport, match="is not empty"):
        export_student(request)
    assert [path.name for path in request.out.iterdir()] == ["mine.txt"]


def test_a_file_in_the_way(request_for: Requests) -> None:
    request = request_for()
    request.out.write_text("mine")
    with pytest.raises(CannotExport, match="is no folder"):
        export_student(request)
    assert request.out.read_text() == "mine"


def test_an_empty_folder_is_taken(request_for: Requests) -> None:
    request = request_for()
    request.out.mkdir()
    export_student(request)
    assert (request.out / "config.json").exists()


class Reversed(write.NormalisedModel):
    """Gives the classes in another order."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images).flip(1)


def test_a_wrong_network_leaves_nothing(
    request_for: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "NormalisedModel", Reversed)
    request = request_for(format="torch")
    deep = write.replace(request, out=request.out / "new" / "deep")
    with pytest.raises(CannotExport, match="does not answer as run"):
        export_student(deep)
    assert not request.out.exists()


def test_wrong_normalisation_is_found(
    request_for: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = formats.FORMATS["safetensors"].load

    def load(path: Path, description: write.Description):
        return real(path, write.replace(description, mean=(0.0,)))

    changed = write.replace(formats.FORMATS["safetensors"], load=load)
    monkeypatch.setitem(formats.FORMATS, "safetensors", changed)
    with pytest.raises(CannotExport, match="get another class"):
        export_student(request_for())


def test_an_interrupt_leaves_nothing(
    request_for: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "write_card", stop)
    with pytest.raises(KeyboardInterrupt):
        export_student(request_for())
    assert not request_for().out.exists()


# -- the card


def test_the_card_has_what_the_hub_reads(exports: Exports, root: Path) -> None:
    folder = exports("safetensors")
    text = (folder / "README.md").read_text()
    _, matter, body = text.split("---\n", 2)
    front = yaml.safe_load(matter)
    assert front["pipeline_tag"] == "image-classification"
    assert front["datasets"] == ["digits"]
    (entry,) = front["model-index"]
    (result,) = entry["results"]
    (metric,) = result["metrics"]
    test = record_of(root, folder).test
    assert test is not None
    assert metric["value"] == pytest.approx(test["last"]["accuracy"], abs=1e-6)
    description = read_description(folder)
    for part in (
        f"| seed | {description.seed}: the highest validation accuracy of 3 seeds",
        "load_state_dict(load_file(",
        "hinton2015distilling",
        "| ce (reference) |",
        "| teacher |",
        "597 test images",
    ):
        assert part in body, part


def test_an_interval_stands_beside_each_mean(exports: Exports, root: Path) -> None:
    from kdbench.stats import mean_interval

    store = Store(root)
    plan = PlanFile.load(store.plan_path("small"))
    assert plan is not None
    (row,) = (r for r in plan.rows if (r.label, r.row) == ("kd", "tuned"))
    scores = {
        int(s): 100 * (store.record(run).test or {})["last"]["accuracy"]
        for s, run in row.runs.items()
    }
    interval = mean_interval(scores)
    line = f"| {interval.mean:.2f} | {interval.low:.2f} to {interval.high:.2f} | 3 |"
    assert f"| kd (tuned) {line}" in (exports("safetensors") / "README.md").read_text()
