"""`import kdbench` from a notebook."""

import inspect
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

import kdbench
from kdbench.data import Views, load, split
from kdbench.execution import study_file
from kdbench.records.files import read_json
from kdbench.records.store import Store
from kdbench.registry import UnknownName


def test_the_import_loads_nothing_heavy() -> None:
    code = (
        "import sys, kdbench\n"
        "heavy = {'torch', 'pandas', 'numpy', 'scipy', 'mlflow', 'optuna', 'rich', 'typer'}\n"
        "print('LOADED', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "LOADED []\n", done.stderr


def test_every_public_name_has_a_docstring() -> None:
    for name in kdbench.__all__:
        assert name == "__version__" or getattr(kdbench, name).__doc__


@pytest.mark.parametrize(("row", "chosen"), [(None, "tuned"), ("default", "default")])
def test_a_student_gives_the_predictions_of_its_record(
    tiny_root: Path, row: str | None, chosen: str
) -> None:
    student = kdbench.load_student("tiny", "kd", 1, root=tiny_root, row=row)
    assert not student.training
    assert not any(p.requires_grad for p in student.parameters())
    store = Store(tiny_root)
    rows = read_json(store.plan_path("tiny"))["rows"]
    (run,) = (r["runs"]["1"] for r in rows if (r["label"], r["row"]) == ("kd", chosen))
    digits = load("digits")
    _, held_out = split(digits.labels, 200, store.record(run).spec().data.split_seed)
    with torch.no_grad():
        logits = student(Views(digits).take(held_out))
    accuracy = (logits.argmax(1) == digits.labels[held_out]).float().mean().item()
    assert accuracy == pytest.approx(store.record(run).epochs()[-1]["val.accuracy"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none", "kd", 0), "has not run under"),
        (("tiny", "rkd", 0), "no method 'rkd'; it has ce, kd"),
        (("tiny", "kd", 9), r"no run of kd \(tuned\) with seed 9; it has 0, 1, 2"),
        (("tiny", "ce", 0, "tuned"), "no row 'tuned' of ce; it has only"),
    ],
)
def test_a_student_that_is_not_there(tiny_root: Path, words: tuple, message: str) -> None:
    study, method, seed, *row = words
    with pytest.raises(UnknownName, match=message):
        kdbench.load_student(study, method, seed, tiny_root, *row)


@pytest.mark.usefixtures("inside")
def test_a_study_runs(tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_file, "publish_report", lambda *_: None)
    lines: list[str] = []
    reporter = SimpleNamespace(update=lambda *_: None, log=lines.append)
    folder = kdbench.run_study(
        tiny_root / "tiny.yaml",
        tmp_path,
        only=["kd"],
        seeds=[4],
        changes={"tune": None},
        reporter=reporter,
    )
    assert folder == tmp_path / "reports" / "tiny"
    assert not kdbench.load_student("tiny", "kd", 4, tmp_path).training
    assert not any(line.startswith("failed") for line in lines)


def test_run_study_takes_what_the_inner_function_takes() -> None:
    face, inner = (
        {name: parameter.default for name, parameter in inspect.signature(f).parameters.items()}
        for f in (kdbench.run_study, study_file.run_study)
    )
    assert face == inner


def test_a_report_has_its_table_verdicts_and_captions(tiny_root: Path) -> None:
    report = kdbench.load_report(tiny_root / "reports" / "tiny")
    rows = report.table.set_index(["method", "row"])
    written = pd.read_csv(tiny_root / "reports" / "tiny" / "leaderboard.csv")
    for row in written.to_dict("records"):
        if row["row"] != "teacher":
            accuracy = rows.loc[(row["method"], row["row"]), "accuracy"]
            assert accuracy == pytest.approx(row["accuracy"])
    assert report.family.verdicts["kd"].text == rows.loc[("kd", "tuned"), "verdict"]
    assert "Student t interval" in " ".join(map(str, report.captions))


def test_a_folder_without_a_report(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"study\.json"):
        kdbench.load_report(tmp_path)
