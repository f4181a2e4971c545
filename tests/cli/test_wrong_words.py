"""Words that are wrong on a command line, or that nothing would heed: refused, with what to do."""

import math
from pathlib import Path

import pytest
from support.command_line import refused


@pytest.mark.parametrize(
    "option",
    [
        ("--margin", 1),
        ("--margin", 0.2),
        ("--reference", "kd"),
        ("--map", "score=acc"),
        ("--setting", "mine"),
        ("--fractions",),
        ("--no-shared-seeds",),
    ],
)
def test_an_option_for_a_file_of_results_is_not_dropped_in_silence(
    tiny_root: Path, option: tuple[object, ...]
) -> None:
    message = refused("report", "tiny", *option, "--root", tiny_root)
    assert f"{option[0]} goes with --from" in message
    assert "--set report.reference=" in message


@pytest.mark.parametrize("port", [0, -1, 70000])
def test_a_port_that_no_server_can_have_is_refused(tiny_root: Path, port: int) -> None:
    assert "--port" in refused("ui", f"--port={port}", "--no-browser", "--root", tiny_root)


@pytest.mark.parametrize("root", ["nowhere", "."])
def test_a_folder_without_runs_is_not_called_sound(tmp_path: Path, root: str) -> None:
    message = refused("doctor", "--root", tmp_path / root)
    assert "holds nothing of kdbench" in message
    assert "--root names another folder" in message


def test_an_engine_is_known_before_anything_runs(tiny_root: Path) -> None:
    words = ("study", tiny_root / "tiny.yaml", "--root", tiny_root, "--dry-run")
    assert "unknown engine 'rai' (did you mean 'ray'?)" in refused(*words, "--engine", "rai")
    message = refused(*words, "--address", "head:6379")
    assert "--address is that of a cluster" in message
    assert "--engine ray" in message


@pytest.mark.parametrize("option", ["--seeds", "--only"])
@pytest.mark.parametrize("command", [("study", "--dry-run"), ("plan", "--card", "cpu")])
def test_an_empty_variable_of_a_script_is_not_the_whole_study(
    tiny_root: Path, command: tuple[str, ...], option: str
) -> None:
    assert f"{option}: write" in refused(*command, tiny_root / "tiny.yaml", option, "")


AFTER = {
    "status": ("status", "NAME"),
    "report": ("report", "NAME"),
    "sync": ("sync", "NAME"),
    "profile": ("profile", "NAME"),
    "ui": ("ui", "NAME", "--no-browser"),
    "power": ("power", "NAME", "--detect", 1),
    "compare": ("compare", "kd", "ce", "--study", "NAME"),
    "export": ("export", "NAME", "kd", "--to", "onnx", "--out", "student"),
}


@pytest.mark.parametrize("command", AFTER)
@pytest.mark.parametrize("name", ["tiny.yaml", "./tiny.yaml", "reports/tiny", "../tiny", ""])
def test_a_study_that_has_run_goes_by_its_name(tiny_root: Path, command: str, name: str) -> None:
    words = [name if word == "NAME" else word for word in AFTER[command]]
    if command == "ui" and not name:
        return  # all studies
    message = refused(*words, "--root", tiny_root)
    assert f"'{name}' is no study's name" in message
    assert "`name:` in its file" in message
    assert "here are tiny" in message


@pytest.mark.parametrize("command", ["power", "compare"])
def test_a_study_without_a_report_is_named_as_such(tiny_root: Path, command: str) -> None:
    words = ["tinny" if word == "NAME" else word for word in AFTER[command]]
    message = refused(*words, "--root", tiny_root)
    assert "reports/tinny holds no study.json" in message
    assert "name the folder of a report" in message


def test_a_path_that_is_not_there_is_named_by_check(tiny_root: Path) -> None:
    missing = tiny_root / "reports" / "tinny"
    assert f"{missing}: no such file or folder" in refused("check", missing)


def test_a_row_is_not_compared_with_itself(tiny_root: Path) -> None:
    words = ("compare", "kd", "kd:tuned", "--study", "tiny", "--root", tiny_root)
    assert "both name the row kd:tuned" in refused(*words)


@pytest.mark.parametrize("difference", [math.inf, math.nan])
def test_a_difference_to_detect_is_a_number(tiny_root: Path, difference: float) -> None:
    assert "--detect" in refused("power", "tiny", "--detect", difference, "--root", tiny_root)


def test_a_seed_that_chose_the_hyperparameters_reproduces_no_tuned_row(tiny_root: Path) -> None:
    study, root = tiny_root / "tiny.yaml", ("--root", tiny_root)
    message = refused("reproduce", study, "kd", "--seed", 100, *root)
    assert "seed 100 is one of those" in message
    assert "take another" in message


def test_a_study_file_is_found_by_its_stem_in_words_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("name: mine")
    assert "no study of that name (did you mean mine.yaml?)" in refused("study", "mine")
    Path("mine").mkdir()
    assert "mine is a folder" in refused("study", "mine")
    assert "(did you mean" not in refused("study", "yours")


def test_threads_are_those_of_this_machine(tiny_root: Path) -> None:
    message = refused("profile", "tiny", "--threads", 100_000, "--root", tiny_root)
    assert "--threads 100000: this machine has" in message


def test_capital_letters_are_near_to_small_ones() -> None:
    assert "unknown method 'KD' (did you mean 'kd'?)" in refused("methods", "KD")


def test_an_empty_card_lists_the_cards_once() -> None:
    message = refused("plan", "digits", "--card", "")
    assert message.count("rtx4090") == 1
    assert "h200" in message
