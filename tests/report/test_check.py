"""`kdbench check`: one wrong digit, star or bold in any format of a table is found and named."""

import re
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from kdbench.cli import app
from kdbench.report.check import Uncheckable, check_report, data_differences
from kdbench.report.data.report_data import NoReportData, compress, csv, load
from kdbench.report.write import write_report

#: What `kd` is called in a format that has display names in place of labels.
METHOD = {"leaderboard-full.tex": "Knowledge distillation"}
FORMATS = ("leaderboard.csv", "leaderboard.md", "leaderboard-full.tex", "index.html")


@pytest.fixture(scope="module")
def original(report_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(report_data, folder)
    return folder


@pytest.fixture
def report(original, tmp_path):
    """A copy to change."""
    for path in original.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def change(folder, name, old, new):
    """Replace `old` by `new` where it stands first in the table; returns the differences."""
    path = folder / name
    text = path.read_text()
    start = {".tex": "\\midrule", ".html": "<tbody", ".md": "| method"}.get(path.suffix, "kd")
    at = text.index(old, text.index(start))
    path.write_text(text[:at] + new + text[at + len(old) :])
    return check_report(path)


def test_a_report_as_it_was_written_is_right(report):
    assert check_report(report) == []
    for name in FORMATS:
        assert check_report(report / name) == []


# The mean of kd's tuned row: 93.3 %, 2.98 points above ce.
@pytest.mark.parametrize("name", FORMATS)
def test_one_digit(report, name):
    old, new = ("2.98", "2.97")
    (difference,) = change(report, name, old, new)
    line = next(
        n for n, text in enumerate((report / name).read_text().split("\n"), 1) if new in text
    )
    number = int(re.match(rf"{name}: line (\d+), row ", difference)[1])
    # On the page a row of the table takes a line for each cell, and is named by its first.
    assert line - 20 < number <= line if name.endswith("html") else number == line
    assert METHOD.get(name, "kd") in difference
    assert "tuned" in difference
    assert new in difference
    assert old in difference
    column = "difference" if name.endswith("csv") else "Δ"
    assert f"column '{column}" in difference.replace("$Delta$", "Δ")


@pytest.mark.parametrize("name", FORMATS[1:])
def test_one_star(report, name):
    text = (report / name).read_text()
    star = re.search(r"\+2\.98(\\?\*)", text)
    assert star
    (difference,) = change(report, name, f"+2.98{star.group(1)}", "+2.98")
    assert METHOD.get(name, "kd") in difference
    assert re.search(r"tuned', column '", difference)


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("leaderboard.csv", "True", "False"),
        ("leaderboard.md", "**kd**", "kd"),
        ("leaderboard-full.tex", "\\textbf{Knowledge distillation}", "Knowledge distillation"),
        ("index.html", "<strong>Knowledge distillation</strong>", "Knowledge distillation"),
    ],
)
def test_one_bold(report, name, old, new):
    (difference,) = change(report, name, old, new)
    assert "column '" in difference
    assert "tuned" in difference


@pytest.mark.parametrize("name", ["leaderboard.md", "index.html", "methods.tex"])
def test_words_outside_the_table(report, name):
    path = report / name
    path.write_text(path.read_text().replace("Holm-corrected", "Bonferroni-corrected", 1))
    differences = check_report(path)
    assert differences
    assert "Bonferroni" in differences[0]


def test_a_row_too_many_and_a_file_too_few(report):
    path = report / "leaderboard.md"
    lines = path.read_text().splitlines(keepends=True)
    rows = [k for k, line in enumerate(lines) if line.startswith("| ")]
    path.write_text("".join(lines[: rows[-1]] + lines[rows[-1] + 1 :]))
    (difference,) = check_report(path)
    assert difference.startswith(f"leaderboard.md: line {rows[-1] + 1}: '| ")
    assert "is missing before it" in difference
    path.unlink()
    assert check_report(report)[0] == "leaderboard.md: the file is missing"


def test_changed_runs_are_found_in_every_format(report):
    """The numbers beside the table were changed, so no format agrees with them any more."""
    runs = load(report).runs
    kd = (runs["label"] == "kd") & (runs["row"] == "tuned") & (runs["seed"] == 0)
    runs.loc[kd, "accuracy"] += 0.001
    (report / "runs.csv.gz").write_bytes(compress(csv(runs)))
    for name in FORMATS[:3]:
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


def test_a_row_that_should_not_be_there(report):
    path = report / "leaderboard.tex"
    text = path.read_text()
    path.write_text(text.replace("\\midrule\n", "\\midrule\nce & surplus \\\\\n", 1))
    (difference,) = check_report(path)
    assert difference.endswith("'ce & surplus \\\\\\\\' should not be there")


def test_drawings_are_left_out_and_lines_counted_as_they_stand_in_the_file(report):
    path = report / "index.html"
    text = re.sub(r"<svg\b.*?</svg>", "<svg>\nother\nfonts\n</svg>", path.read_text(), flags=re.S)
    path.write_text(text)
    assert check_report(path) == []
    path.write_text(text.replace("<svg>\nother\nfonts\n</svg>", "", 1))
    assert len(check_report(path)) == 1  # a drawing is missing
    lines = text.split("\n")
    number = next(n for n, line in enumerate(lines, 1) if "Holm-corrected" in line)
    path.write_text(text.replace("Holm-corrected", "uncorrected", 1))
    (difference,) = check_report(path)
    assert difference.startswith(f"index.html: line {number}: ")


def test_data_that_differ_from_what_mlflow_gives(original):
    kept = load(original)
    assert data_differences(kept, load(original)) == []
    now = load(original)
    kd = (now.runs["label"] == "kd") & (now.runs["row"] == "tuned") & (now.runs["seed"] == 0)
    now.runs.loc[kd, "accuracy"] = 0.5
    changed = replace(now, plan=replace(now.plan, margin=9.0), cost={}, trials=now.trials.iloc[1:])
    plan, cost, accuracy, trials = data_differences(kept, changed)
    assert plan == "study.json: the study's plan is another now: margin"
    assert cost == "study.json: the measured costs are others now"
    assert accuracy.startswith("runs.csv.gz: label kd, row tuned, seed 0: accuracy is 0.9")
    assert accuracy.endswith("now 0.5")
    assert trials == f"trials.csv.gz: {len(kept.trials)} lines, now {len(kept.trials) - 1}"


def test_a_column_that_one_side_lacks_is_named_and_the_others_are_compared(original):
    kept, now = load(original), load(original)
    trial = ", ".join(f"{key} {now.trials[key].iloc[0]}" for key in ("label", "number"))
    now.trials.loc[0, "accuracy"] = 0.5
    confirmed = replace(now, trials=now.trials.assign(confirmed=0.9))
    new, changed = data_differences(kept, confirmed)
    assert new == "trials.csv.gz: the column 'confirmed' is there now, and was not"
    assert changed.startswith(f"trials.csv.gz: {trial}: accuracy is ")
    lost, back = data_differences(confirmed, kept)
    assert lost == "trials.csv.gz: the column 'confirmed' was there, and is not now"
    assert back.startswith(f"trials.csv.gz: {trial}: accuracy is 0.5, now ")


def test_a_long_line_is_cut_around_its_difference(report):
    path = report / "methods.tex"
    path.write_text(path.read_text().replace("\n", " longer" * 100 + " end\n", 1))
    (difference,) = check_report(path)
    assert "longer longer" in difference
    assert "..." in difference
    assert len(difference) < 800
