"""`run_study`, as a notebook calls it, and what its options choose."""

import shutil
from pathlib import Path

import pytest
import torch
from support import crash

from kdbench.execution.errors import InvalidOption
from kdbench.execution.run_study import Options, chosen_study, pick_device
from kdbench.execution.study_file import run_study
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.study.load import StudyError, parse_study

STUDY = parse_study(crash.STUDY, "crash")


def test_a_finished_study_is_reported_again_and_nothing_is_trained(
    tmp_path: Path, reference_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    shutil.copytree(reference_root, root)
    shutil.rmtree(root / "reports")
    folder = run_study(STUDY, root=root, workers=1)
    assert folder == root / "reports" / "crash"
    assert crash.content(root) == crash.content(reference_root)
    assert crash.finished(root) == crash.finished(reference_root)
    output = capsys.readouterr().out
    assert "31 of 31 runs, 100 % of the work" in output
    assert "measuring" not in output
    plan = PlanFile.load(Store(root).plan_path("crash"))
    links = (root / "reports" / "crash.mlflow.css").read_text()
    runs = [run for row in plan.rows for run in row.runs.values()]
    assert runs
    assert all(f"%22{run}%22: %22http://127.0.0.1:5000/#/experiments/" in links for run in runs)


def test_options_change_a_loaded_study_as_they_change_a_file(tmp_path: Path) -> None:
    path = tmp_path / "crash.yaml"
    path.write_text(crash.STUDY)
    changes = {"recipe.epochs": 1, "tune": None}
    of_object, of_file = (
        chosen_study(Options(study, tmp_path, only=("kd",), seeds=(5, 6), changes=changes))
        for study in (STUDY, str(path))
    )
    assert of_object == of_file
    assert (of_object.recipe.epochs, of_object.final.seeds, of_object.tune) == (1, (5, 6), None)
    assert [entry.label for entry in of_object.methods] == ["ce", "kd"]
    assert STUDY.recipe.epochs == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": ("kdd",)}, "no method 'kdd' in it.*did you mean 'kd'"),
        ({"only": ("fitnets",)}, "fitnets"),
        ({"changes": {"recipe.epoch": 1}}, "epoch"),
        ({"changes": {"nothing.epochs": 1}}, "no mapping 'nothing'"),
        ({"seeds": (100,)}, "100"),
    ],
)
def test_wrong_options_are_errors_of_the_study(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        chosen_study(Options(STUDY, tmp_path, **options))  # type: ignore[arg-type]


def test_devices() -> None:
    assert pick_device("cpu") == "cpu"
    with pytest.raises(InvalidOption, match="auto, cpu or cuda"):
        pick_device("tpu")
    assert pick_device("cuda", "ray") == "cuda"  # the cluster's nodes know


@pytest.mark.parametrize("there", [True, False])
def test_a_mac_s_gpu_is_refused_with_the_reason_and_never_taken(
    monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidOption, match=r"--device mps: .* would depend on .* --device cpu"):
        pick_device("mps")
    assert pick_device("auto") == "cpu"
