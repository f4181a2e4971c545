"""The command line: what a person types, and the messages where it cannot be done."""

import dataclasses
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.command_line import kdbench, output, refused

import kdbench as package
from kdbench.cli import shell
from kdbench.cli.app import UsageError
from kdbench.cli.catalogue import page
from kdbench.cli.parsing import parse_change, parse_labels, parse_seeds
from kdbench.data.builtin import BUILTIN
from kdbench.data.datasets import DATASETS
from kdbench.errors import KdbenchError
from kdbench.methods import METHODS
from kdbench.registry import UnknownName
from kdbench.study.load import shipped

TINY = """
name: tiny
data:    {name: digits, validation: 200}
student: {model: digits-cnn-small}
teacher: {model: digits-cnn}
recipe:  {epochs: 1, batch: 256, lr: 1e-3}
methods: [ce, kd]
final:   {seeds: [0]}
report:  {reference: ce}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


# -- what a command loads


@pytest.mark.parametrize("words", [["--help"], ["study", "--help"], ["report", "--help"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['kdbench', *{words}]\n"
        "from kdbench.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "heavy = {'torch', 'pandas', 'mlflow', 'optuna', 'numpy', 'scipy', 'matplotlib'}\n"
        "print('LOADED', code, sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "LOADED 0 []" in done.stdout, done.stdout + done.stderr


def test_help_names_the_commands_and_options_of_the_manual() -> None:
    text = output("--help")
    for part in ("study", "report", "methods", "ui", "sync"):
        assert part in text
    text = output("study", "--help")
    for part in ("--dry-run", "--only", "--seeds", "--set", "--workers", "--device", "--root"):
        assert part in text
    for part in ("--data-dir", "--no-tune"):
        assert part in text


# -- methods


def test_methods_lists_every_key() -> None:
    text = output("methods")
    for key in METHODS:
        assert key in text


@pytest.mark.parametrize("key", sorted(METHODS))
def test_a_methods_page_has_formula_hyperparameters_and_paper(key: str) -> None:
    text = " ".join(output("methods", key).split())
    kind = METHODS[key]
    assert "Formula:" in text
    assert "Differs from the paper:" in text
    assert " ".join(kind.paper.title.split())[:40] in text
    assert str(kind.paper.year) in text
    assert (kind.paper.address or "") in text
    for name in kind.hparams():
        assert name[:8] in text
    for range in kind.searched().values():
        assert f"{range.low:g}" in text


def test_an_unknown_method_is_refused_with_the_nearest() -> None:
    assert "did you mean 'kd'?" in refused("methods", "kdd")
    with pytest.raises(UnknownName, match="rkd"):
        page("rkdd")


# -- dry runs


def test_a_dry_run_shows_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    text = output("study", "digits", "--dry-run", "--root", str(root))
    for part in ("kd", "ensemble", "tuned", "teacher", "trial", "final", "stage", "runs known"):
        assert part in text
    assert not root.exists()


def test_a_study_is_found_from_any_folder_by_name_and_by_path(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    for name in ("digits", str(tiny), "../tiny.yaml"):
        result = kdbench("study", name, "--dry-run")
        assert result.exit_code == 0, result.output
    assert list(elsewhere.iterdir()) == []


def test_options_change_the_study(tiny: Path) -> None:
    words = ("study", str(tiny), "--dry-run")
    assert "1 teacher, 2 final" in kdbench(*words).output
    assert "1 teacher, 6 final" in kdbench(*words, "--seeds", "0,4-5").output
    assert "1 teacher, 1 final" in kdbench(*words, "--only", "ce").output
    # Differences need the reference, whatever else is left out.
    assert "1 teacher, 2 final" in kdbench(*words, "--only", "kd").output
    text = output("study", "digits", "--dry-run", "--no-tune")
    assert "trial," not in text
    assert "tuned" not in text
    changed = kdbench(*words, "--set", "final.seeds=[1, 2]", "--set", "recipe.lr=5e-4")
    assert "1 teacher, 4 final" in changed.output


def test_hyperparameters_with_brackets_are_shown_as_they_are(tiny: Path) -> None:
    tiny.write_text(
        TINY.replace("[ce, kd]", '[ce, {method: at, hparams: {stages: "stage[a-z1]"}}]')
    )
    assert "stage[a-z1]" in kdbench("study", str(tiny), "--dry-run").output


# -- arguments that cannot be read


@pytest.mark.parametrize("text", ["x", "1-", "-1", "4-0", "1,,2", ",", "1.5", "0-999999999", "²"])
def test_seeds_that_cannot_be_read_are_refused(text: str) -> None:
    assert f"--seeds {text}" in refused("study", "digits", "--dry-run", f"--seeds={text}")


def test_seeds_labels_and_changes_as_they_are_meant() -> None:
    assert parse_seeds("0-2,7") == (0, 1, 2, 7)
    assert parse_seeds("") == ()
    assert parse_labels("kd, rkd") == ("kd", "rkd")
    assert parse_labels("") == ()
    assert parse_change("a.b=[1, 2]") == ("a.b", [1, 2])
    assert parse_change("a=b=c") == ("a", "b=c")
    for text in ("nonsense", "=1", "a=[1", "a={"):
        with pytest.raises(UsageError, match="--set"):
            parse_change(text)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["digitz"], ["did you mean 'digits'?"]),
        (["digits", "--set", "nonsense"], ["--set nonsense", "KEY=VALUE"]),
        (["digits", "--set", "recipe.epoch=2"], ["recipe", "did you mean 'epochs'?"]),
        (["digits", "--set", "recipe.epochs=0"], ["recipe.epochs", "0"]),
        (["digits", "--only", "kdd"], ["--only", "did you mean 'kd'?"]),
        (["digits", "--only", ","], ["--only"]),
        (["digits", "--seeds", "100"], ["tune.seeds and final.seeds share [100]"]),
        (["digits", "--workers", "0"], ["--workers"]),
        (["digits", "--workers", "many"], ["--workers"]),
        (["digits", "--device", "tpu"], ["--device tpu", "cuda"]),
        (["digits", "--set", "data.validation=5"], ["data.validation", "5"]),
        (["none.yaml"], ["none.yaml", "No such file"]),
    ],
    ids=" ".join,
)
def test_what_cannot_be_done_is_one_message(words: list[str], expected: list[str]) -> None:
    text = refused("study", *words, "--dry-run")
    for part in expected:
        assert part in text


def test_cuda_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    text = refused("study", "digits", "--device", "cuda", "--dry-run")
    for part in ("--device cuda", "no CUDA device", "--device cpu"):
        assert part in text


def test_a_data_folder_with_a_truncated_file(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        (folder / name).write_bytes(b"\x80\x02}q\x00(X\x05")
    root = tmp_path / "root"
    text = refused("study", "cifar10", "--data-dir", str(tmp_path), "--root", str(root))
    for part in ("cifar10", "data_batch_1", "damaged", "sound copy"):
        assert part in text
    assert not root.exists()


def test_a_layer_that_the_model_lacks(tiny: Path) -> None:
    tiny.write_text(TINY.replace("[ce, kd]", "[ce, {method: hint, hparams: {layer: stage9}}]"))
    text = refused("study", str(tiny), "--dry-run")
    for part in ("hint", "digits-cnn", "'stage9'", "stage1"):
        assert part in text


def test_a_report_of_what_never_ran(tmp_path: Path) -> None:
    text = refused("report", "digits", "--root", str(tmp_path))
    for part in ("no plan", "digits", "kdbench study digits"):
        assert part in text


def test_a_traceback_is_there_for_who_asks() -> None:
    result = kdbench("methods", "kdd", "--traceback")
    assert isinstance(result.exception, UnknownName)


# -- while a study runs


@pytest.mark.usefixtures("inside")
def test_a_teacher_that_diverges_is_one_message_and_exit_2(tiny: Path, tmp_path: Path) -> None:
    words = ["study", str(tiny), "--root", str(tmp_path / "root")]
    words += ["--set", "recipe.lr=1e30", "--set", "recipe.optimizer=sgd"]
    text = refused(*words)
    (record,) = (tmp_path / "root" / "runs").glob("*/result.json")
    for part in ("teacher digits-cnn seed 0", record.parent.name, "epoch 1", "recipe.lr"):
        assert part in text
    assert text.count("teacher digits-cnn seed 0 (run") == 1


@pytest.mark.usefixtures("inside")
def test_failed_runs_are_named_and_the_exit_code_says_so(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = METHODS["kd"].loss

    def loss(method: Any, out: Any, batch: Any, *rest: Any) -> Any:
        if len(batch.labels) == 2:  # what is wrong with two images stops the study at its start
            return sound(method, out, batch, *rest)
        raise RuntimeError("[/no] such thing")

    monkeypatch.setattr(METHODS["kd"], "loss", loss)
    result = kdbench("study", str(tiny), "--root", str(tmp_path / "root"))
    assert result.exit_code == 1, result.output
    assert "failed  kd seed 0: RuntimeError: [/no] such thing" in result.output
    assert "Traceback" not in result.output


def test_going_on_is_a_command_that_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["study", "my study.yaml", "--set", "final.seeds=[1, 2]"]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kdbench", *words])
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    again = shell.repeated_command()
    assert again == "kdbench study 'my study.yaml' --set 'final.seeds=[1, 2]'"


#: Images of the downloaded data sets of shipped studies: number and shape.
SIZES = {
    "cifar10": (50_000, 3, 32, 32),
    "cifar100": (50_000, 3, 32, 32),
    "mnist": (60_000, 1, 28, 28),
}


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_studies_can_be_planned(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On black images where the study's own would have to be downloaded."""

    def black(size: tuple[int, ...], classes: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(size, np.uint8), np.arange(size[0]) % classes

    for data, size in SIZES.items():
        stand_in = dataclasses.replace(
            BUILTIN[data],
            read=lambda part, folder, size=size, data=data: black(
                size, len(BUILTIN[data].class_names)
            ),
            train_files=(),
            test_files=(),
            download=None,
        )
        monkeypatch.setitem(DATASETS, data, stand_in)
    output("study", name, "--dry-run", "--root", tmp_path)


def test_the_package_runs_as_the_command() -> None:
    command = [sys.executable, "-m", "kdbench", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "knowledge-distillation" in done.stdout


#: Raised and caught inside of kdbench: what a user sees of them is made by the catcher.
INTERNAL = {"CaptureFailed", "CohortTooLarge", "Incompatible"}


def test_errors_for_the_user_have_one_base_class() -> None:
    """Every exception of kdbench derives from `KdbenchError`, or from what the system raises."""
    for module in pkgutil.walk_packages(package.__path__, "kdbench."):
        if module.name != "kdbench.__main__":
            importlib.import_module(module.name)
    todo: list[type[Exception]] = [Exception]
    wrong: set[str] = set()
    while todo:
        for kind in todo.pop().__subclasses__():
            inside = kind.__module__.startswith("kdbench.")
            if inside and not issubclass(kind, (KdbenchError, OSError)):
                wrong.add(kind.__name__)
            todo.append(kind)
    assert wrong <= INTERNAL
