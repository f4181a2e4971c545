"""`kdbench check`: one wrong digit, star or bold in any face of a table is found and named."""

import gc
import re

import pytest
from support.fake_study import FakeStudy
from typer.testing import CliRunner

from kdbench.cli import app
from kdbench.report.check import Uncheckable, check_report
from kdbench.report.data.report_data import NoReportData
from kdbench.report.write import write_report

FACES = ("leaderboard.csv", "leaderboard.md", "leaderboard.tex", "index.html")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda *a: 0)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(FakeStudy(tmp_path_factory.mktemp("made")).report_data(), folder)
    return folder


@pytest.fixture
def report(original, tmp_path, monkeypatch):
    """A copy to spoil; the page's figures are not drawn again for each spoiling."""
    for path in original.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def spoil(folder, name, old, new):
    """Replace `old` by `new` where it stands first in the table; the checker's faults."""
    path = folder / name
    text = path.read_text()
    start = {".tex": "\\midrule", ".html": "<tbody"}.get(path.suffix, "kd")
    at = text.index(old, text.index(start))
    path.write_text(text[:at] + new + text[at + len(old) :])
    return check_report(path)


def test_a_report_as_it_was_written_is_right(report):
    assert check_report(report) == []
    for name in FACES:
        assert check_report(report / name) == []


# The mean of kd's tuned row: 93.3 %, 2.98 points above ce.
@pytest.mark.parametrize("name", FACES)
def test_one_digit(report, name):
    old, new = ("2.98", "2.97")
    (fault,) = spoil(report, name, old, new)
    assert fault.startswith(f"{name}: row ")
    assert "kd" in fault
    assert "tuned" in fault
    assert new in fault
    assert old in fault
    column = "difference" if name.endswith("csv") else "Δ"
    assert f"column '{column}" in fault.replace("$Delta$", "Δ")


@pytest.mark.parametrize("name", FACES[1:])
def test_one_star(report, name):
    text = (report / name).read_text()
    star = re.search(r"\+2\.98(\\?\*)", text)
    assert star
    (fault,) = spoil(report, name, f"+2.98{star.group(1)}", "+2.98")
    assert "row 'kd, tuned', column '" in fault


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("leaderboard.csv", "True", "False"),
        ("leaderboard.md", "**kd**", "kd"),
        ("leaderboard.tex", "\\textbf{kd}", "kd"),
        ("index.html", "<strong>kd</strong>", "kd"),
    ],
)
def test_one_bold(report, name, old, new):
    (fault,) = spoil(report, name, old, new)
    assert "column '" in fault
    assert "tuned" in fault


@pytest.mark.parametrize("name", ["leaderboard.md", "leaderboard.tex", "index.html", "methods.tex"])
def test_words_outside_the_table(report, name):
    path = report / name
    path.write_text(path.read_text().replace("Holm-corrected", "Bonferroni-corrected", 1))
    faults = check_report(path)
    assert faults
    assert "Bonferroni" in faults[0]


def test_a_row_too_many_and_a_file_too_few(report):
    path = report / "leaderboard.md"
    lines = path.read_text().splitlines(keepends=True)
    rows = [k for k, line in enumerate(lines) if line.startswith("| ")]
    path.write_text("".join(lines[: rows[-1]] + lines[rows[-1] + 1 :]))
    (fault,) = check_report(path)
    assert "another shape" in fault
    path.unlink()
    assert check_report(report)[0] == "leaderboard.md: the file is missing"


def test_changed_runs_are_found_in_every_face(report):
    """The numbers beside the table were changed, so no face agrees with them any more."""
    from kdbench.report.data.report_data import csv, load, squeeze

    runs = load(report).runs
    kd = (runs["label"] == "kd") & (runs["row"] == "tuned") & (runs["seed"] == 0)
    runs.loc[kd, "accuracy"] += 0.001
    (report / "runs.csv.gz").write_bytes(squeeze(csv(runs)))
    for name in FACES[:3]:
        assert check_report(report / name)


def test_what_cannot_be_checked(report, tmp_path):
    with pytest.raises(Uncheckable, match=r"can check leaderboard\.csv, .*not notes"):
        check_report(report / "notes.txt")
    empty = tmp_path / "elsewhere"
    empty.mkdir()
    (empty / "leaderboard.tex").write_text("x")
    with pytest.raises(NoReportData, match=r"holds no study\.json"):
        check_report(empty / "leaderboard.tex")


def test_the_command(report):
    def run(*words):
        return CliRunner().invoke(app, ["check", *map(str, words)])

    good = run(report / "leaderboard.tex")
    assert (good.exit_code, "every number" in good.output) == (0, True)
    path = report / "leaderboard.tex"
    path.write_text(path.read_text().replace("2.98", "2.99", 1))
    bad = run(path)
    assert (bad.exit_code, "differs from its runs" in bad.output) == (1, True)
    missing = run(report / "notes.txt")
    assert missing.exit_code == 2
    assert "unexpected" not in missing.output
