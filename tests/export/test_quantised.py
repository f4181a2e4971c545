"""Smaller numbers: what they cost is judged over the seeds, against the float networks."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kdbench.data import DATASETS, load
from kdbench.export.choice import choose
from kdbench.export.description import Quantisation, read_description
from kdbench.export.formats import FORMATS
from kdbench.export.network import run_all
from kdbench.export.quantisation import CALIBRATION, calibration_images, judge_quantised
from kdbench.records.store import Store
from kdbench.stats import paired_difference

Exports = Callable[..., Path]
LABELS = np.arange(600) % 10


def logits(wrong: int) -> np.ndarray:
    """Right on all images but `wrong` ones."""
    answers = np.eye(10)[LABELS]
    answers[:wrong] = np.roll(answers[:wrong], 1, axis=1)
    return answers


def judged(root: Path, small: dict[int, int], full: dict[int, int]) -> Quantisation:
    """The verdict where so many images are wrong by seed."""
    choice = choose(Store(root), "small", "kd", "0")
    by_seed = [{seed: logits(n) for seed, n in wrong.items()} for wrong in (small, full)]
    return judge_quantised(choice, "int8", LABELS, *by_seed, calibrated_on=0)


def test_a_loss_is_worse(root: Path) -> None:
    found = judged(root, {s: 60 + s for s in range(5)}, {s: 6 + s % 2 for s in range(5)})
    assert found.verdict == "worse"
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.difference < found.high < 0
    expected = paired_difference(
        {int(s): v for s, v in found.scores.items()},
        {int(s): v for s, v in found.float_scores.items()},
        image=100 / 600,
    )
    assert (found.difference, found.low) == pytest.approx((expected.mean, expected.low))


def test_no_loss_on_many_seeds_is_equality(root: Path) -> None:
    same = dict.fromkeys(range(40), 6)
    assert judged(root, same, same).verdict == "practically equal"


def test_two_seeds_give_no_verdict(root: Path) -> None:
    found = judged(root, {0: 60, 1: 61}, {0: 6, 1: 7})
    assert found.verdict == "no verdict below 3 seeds"
    assert (found.low, found.high) == (None, None)


def test_calibration_sees_training_images_alone() -> None:
    digits = load("digits")
    images = calibration_images(digits)
    assert images.shape == (CALIBRATION, 1, 8, 8)
    assert images.dtype == np.float32
    training = {image.tobytes() for image in (digits.images.float() / digits.scale).numpy()}
    assert {image.tobytes() for image in images} <= training
    assert (calibration_images(digits) == images).all()


def scores_hold(folder: Path, root: Path) -> None:
    """The scores that are written are those of the file, and of the record."""
    description = read_description(folder)
    runner = FORMATS[description.format].load(folder / description.file, description)
    images, labels = DATASETS["digits"].read("test", Path())
    predicted = run_all(runner, torch.from_numpy(images), 16).argmax(1)
    quantised = description.quantisation
    assert quantised is not None
    own = str(description.seed)
    assert quantised.scores[own] == pytest.approx(100 * (predicted == labels).mean())
    test = Store(root).record(description.run).test
    assert test is not None
    assert quantised.float_scores[own] == pytest.approx(100 * test["last"]["accuracy"])
    assert set(quantised.scores) == {"0", "1", "2"}
    assert quantised.difference > -5
    card = (folder / "README.md").read_text()
    assert f"{quantised.kind} against float: {quantised.difference:+.2f} points" in card
    assert f"This network, seed {own}: {quantised.scores[own]:.2f} %." in card


@pytest.mark.parametrize("kind", ["bf16", "fp16"])
def test_a_state_dict_of_a_smaller_type(exports: Exports, root: Path, kind: str) -> None:
    folder = exports("safetensors", kind)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[kind]
    assert {value.dtype for value in load_file(folder / "model.safetensors").values()} == {dtype}
    scores_hold(folder, root)
    small, whole = (
        (path / "model.safetensors").stat().st_size for path in (folder, exports("safetensors"))
    )
    assert small < 0.6 * whole


def test_static_quantisation(exports: Exports, root: Path) -> None:
    folder = exports("onnx", "int8")
    scores_hold(folder, root)
    description = read_description(folder)
    assert description.quantisation is not None
    assert description.quantisation.calibrated_on == CALIBRATION
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "model.onnx",
    ]  # fmt: skip
    import onnx

    operators = {node.op_type for node in onnx.load(folder / "model.onnx").graph.node}
    assert "QuantizeLinear" in operators


@pytest.mark.long
@pytest.mark.parametrize(
    ("format", "kind"), [("onnx", "int8-dynamic"), ("onnx", "fp16"), ("torch", "bf16")]
)
def test_the_other_ways(exports: Exports, root: Path, format: str, kind: str) -> None:
    scores_hold(exports(format, kind), root)
