"""The command, students with a head, and what a format's own tools refuse."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from support.command_line import output, refused

from kdbench.data import DATASETS
from kdbench.export import write
from kdbench.export.description import read_description
from kdbench.export.errors import CannotExport
from kdbench.export.formats import FORMATS
from kdbench.export.network import run_all
from kdbench.export.write import Request, export_student
from kdbench.records.store import Store
from kdbench.records.students import write_students
from kdbench.tracking import sync_study
from kdbench.tracking.client import client

Requests = Callable[..., Request]


def test_the_command_says_what_it_did(root: Path, tmp_path: Path) -> None:
    words = ("export", "small", "kd", "--to", "safetensors", "--root", root)
    text = output(*words, "--seed", 1, "--out", tmp_path / "a")
    assert "proved       597 test images" in text
    assert "kd (tuned) seed 1, named with --seed" in text
    described = json.loads(output(*words, "--out", tmp_path / "b", "--json"))
    assert described["method"] == "kd"
    assert described["proof"]["images"] == 597
    assert "best" not in described["seed_chosen"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "README.md", "config.json", "model.py", "model.safetensors",
    ]  # fmt: skip
    assert "is not empty" in refused(*words, "--out", tmp_path / "a")


def test_an_export_is_registered(
    root: Path, tmp_path: Path, empty_database: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    (tmp_path / "mlflow.db").write_bytes(empty_database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    words = ("export", "small", "kd", "--to", "safetensors", "--root", root, "--seed", 1)
    out = tmp_path / "out"
    assert "kdbench sync" in refused(*words, "--out", out, "--register", "student")
    assert "no : in it" in refused(*words, "--out", out, "--register", "a:b")
    assert not out.exists()
    sync_study(Store(root), "small", uri)
    text = output(*words, "--out", out, "--register", "student")
    assert "registered   student version 1" in text
    version = client(uri).get_model_version("student", "1")
    assert version.run_id
    kept = Path(client(uri).get_logged_model(version.source.removeprefix("models:/"))
                .artifact_location.removeprefix("file://"))  # fmt: skip
    assert {"MLmodel", "config.json", "model.safetensors"} <= {p.name for p in kept.iterdir()}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none", "kd", "--to", "onnx"), "study 'none' has not run under"),
        (("small", "rkd", "--to", "torch"), "no method 'rkd'"),
        (("small", "kd", "--to", "tflite"), "unknown format"),
        (("small", "kd", "--to", "torch", "--seed", "8"), "with seed 8"),
        (("small", "kd", "--to", "torch", "--row", "pinned"), "no row 'pinned'"),
    ],
)
def test_what_is_not_there(root: Path, tmp_path: Path, words: tuple, message: str) -> None:
    out = tmp_path / "new" / "out"
    assert message in refused("export", *words, "--out", out, "--root", root)
    assert not any(tmp_path.iterdir())


def test_a_file_with_several_students(tmp_path: Path) -> None:
    write_students(Store(tmp_path), "mine", ["mine-a", "mine-b"])
    words = ("export", "mine", "kd", "--to", "torch", "--out", tmp_path / "out")
    message = refused(*words, "--root", tmp_path)
    assert "name one of mine-a, mine-b" in message


@pytest.mark.parametrize("format", ["torch", pytest.param("onnx", marks=pytest.mark.long)])
def test_a_head_is_inside(request_for: Requests, root: Path, format: str) -> None:
    request = request_for("simkd", format)
    export_student(request)
    description = read_description(request.out)
    runner = FORMATS[format].load(request.out / description.file, description)
    images, _ = DATASETS["digits"].read("test", Path())
    recorded = Store(root).record(description.run).predictions()["last"]
    logits = run_all(runner, torch.from_numpy(images), 16)
    np.testing.assert_allclose(logits, recorded, atol=1e-4)


class WithBessel(write.NormalisedModel):
    """Computes what ONNX has no operator for."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = super().forward(images)
        return logits + 0 * torch.special.bessel_j0(logits)


def test_an_operator_that_onnx_lacks(
    request_for: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "NormalisedModel", WithBessel)
    request = request_for(format="onnx", seed="0")
    with pytest.raises(CannotExport, match=r"cannot be written as ONNX.*bessel_j0") as raised:
        export_student(request)
    assert "\n" not in str(raised.value)
    assert "--to torch keeps every operator" in str(raised.value)
    assert not request.out.exists()
