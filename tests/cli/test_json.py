"""`--json`: results that any parser can read."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.command_line import kdbench, output

from kdbench.cli.as_json import plain_value
from kdbench.methods import METHODS


def content(*words: object) -> Any:
    return json.loads(output(*words, "--json"))


def test_a_comparison_as_json(tiny_root: Path) -> None:
    pair = content("compare", "kd", "ce", "--study", "tiny", "--root", tiny_root)
    differences = [pair["scores"]["first"][s] - pair["scores"]["second"][s] for s in "012"]
    assert pair["verdict"]["difference"]["values"] == pytest.approx(differences)
    assert pair["first"] == "kd (tuned)"


def test_power_as_json(tiny_root: Path) -> None:
    need = content("power", "tiny", "--detect", "0.3", "--root", tiny_root)
    assert need["needs"][0]["label"] == "kd"
    assert need["typical_seeds"] is None or need["typical_seeds"] > 3


def test_methods_as_json() -> None:
    assert [m["key"] for m in content("methods")] == list(METHODS)
    kd = content("methods", "kd")
    assert kd["hparams"]["temperature"]["default"] == METHODS["kd"]().temperature
    assert kd["paper"]["year"] == 2015
    assert kdbench("methods", "kdd", "--json").exit_code == 2


def test_a_check_as_json(tiny_root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_root / "reports" / "tiny", folder)
    assert content("check", folder / "leaderboard.csv")["ok"]
    text = (folder / "leaderboard.csv").read_text()
    (folder / "leaderboard.csv").write_text(text.replace("only", "pinned"))
    result = kdbench("check", folder / "leaderboard.csv", "--json")
    assert result.exit_code == 1
    assert json.loads(result.output)["differences"]


def test_reports_as_json_are_read_by_any_parser(tmp_path: Path) -> None:
    rows = ["method,setting,seed,score"]
    rows += [
        f"{method},{setting},{seed},{70 + seed + gain}"
        for setting in ("one", "two")
        for method, gain in (("ce", 0), ("kd", 1 + len(setting) / 10))
        for seed in range(3)
    ]
    (tmp_path / "results.csv").write_text("\n".join(rows) + "\n")
    text = output("report", "--from", tmp_path / "results.csv", "--root", tmp_path, "--json")
    one, two, pooled = json.loads(text, parse_constant=pytest.fail)
    assert {row["method"] for row in one["rows"]} == {"ce", "kd"}
    assert Path(two["folder"], "index.html").is_file()
    assert pooled["settings"] == ["one", "two"]
    assert one["captions"]


def test_plain_values() -> None:
    frame = pd.DataFrame({"a": [1.5, float("nan")], "b": ["x", None]})
    values = {"frame": frame, 3: np.int64(2), "path": Path("x"), "inf": np.float64("inf")}
    assert plain_value(values) == {
        "frame": [{"a": 1.5, "b": "x"}, {"a": None, "b": None}],
        "3": 2,
        "path": "x",
        "inf": None,
    }
    assert plain_value(pd.NaT) is None
    with pytest.raises(TypeError, match="object"):
        plain_value(object())
