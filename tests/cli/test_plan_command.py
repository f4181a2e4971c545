"""`kdbench plan`: a study's hours on a card, before anything is run."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kdbench.cli import app
from kdbench.hours.cards import CARDS

WORDS = ["plan", "digits", "--only", "kd", "--card"]


def output(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_the_hours_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = json.loads(output(*WORDS, "h100", "--json"))
    parts = {part["part"]: part for part in found["parts"]}
    # Two points of `confirm` and the default with three seeds each; ce and kd, default and tuned.
    assert parts["teachers"]["runs"] == 2
    assert parts["tuning"]["runs"] == 8 + 3 * 3
    assert parts["finals"]["runs"] == 3 * 5
    assert found["hours"] == pytest.approx(sum(part["hours"] for part in found["parts"]))
    assert found["hours"] < found["hours_at_most"]
    assert found["cache_bytes"] == 2 * 4 * 10 * 1200
    text = " ".join(found["sentences"])
    assert "one H200" in text
    assert "What a method adds to its networks is counted and not fitted" in text
    assert "Extrapolated to the H100 SXM by its peak rates (NVIDIA H100 datasheet)" in text
    assert "networks that are not in the fit: digits-cnn, digits-cnn-small" in text
    assert "One study was timed on a GPU: cifar100 on an H200" in text
    assert f"{found['error']['worst']:.2f} at most" in text
    assert not list(tmp_path.iterdir())


def test_on_the_cpu_a_worker_has_one_core() -> None:
    text = output(*WORDS, "cpu", "--workers", 4, "--set", "recipe.epochs=40")
    assert "digits on 4 x one core of an AMD EPYC" in text
    assert "Extrapolated where this machine's cores are others, or busy." in text
    assert "GPU" not in text


def test_a_card_that_is_not_known_lists_those_that_are() -> None:
    text = output("plan", "digits", "--card", "h10", code=2)
    assert "did you mean 'h100'" in text
    assert ", ".join(CARDS) in text


def test_a_card_without_the_precision_of_the_study() -> None:
    text = output(*WORDS, "t4", "--set", "recipe.precision=bf16", code=2)
    assert "T4 has no bf16; take --set recipe.precision=fp32, or another card" in text
