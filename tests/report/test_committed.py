"""The reports in this repository can be read, and say what their data give."""

import json
from pathlib import Path

import pytest

from kdbench.report.check import check_report, expected_files, text_differences
from kdbench.report.data.report_data import FORMAT, NoReportData, UnreadableReport, load
from kdbench.report.write import PAGE

REPORTS = Path(__file__).parents[2] / "reports"
STUDIES = (
    "digits",
    "digits-all",
    "digits-few-labels",
    "mnist",
    "mnist-few-labels",
    "cifar10",
    "cifar10-few-labels",
    "cifar100",
    "cifar100-logits",
    "folder",
    "precision",
)


def test_every_report_is_among_them():
    assert {path.parent.name for path in REPORTS.glob("*/study.json")} == set(STUDIES)


@pytest.mark.parametrize("study", STUDIES)
def test_the_tables_say_what_the_runs_give(study):
    folder = REPORTS / study
    for name, content in expected_files(folder).items():
        if name != PAGE:  # its figures take seconds
            path = folder / name
            assert text_differences(path.read_text(), content().decode(), path.suffix) == []


@pytest.mark.long
@pytest.mark.parametrize("study", STUDIES)
def test_all_files_say_what_the_runs_give(study):
    assert check_report(REPORTS / study) == []


def read(folder, text):
    (folder / "study.json").write_text(text)
    return load(folder)


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({}, f"an earlier version of kdbench (report format None, this one reads {FORMAT})"),
        ({"format": FORMAT - 1}, f"an earlier version of kdbench (report format {FORMAT - 1},"),
        ({"format": FORMAT + 1}, f"a later version of kdbench (report format {FORMAT + 1},"),
        ([], "report format None"),
        (
            {"format": FORMAT, "pooled": {"a": "../a", "b": "../b"}},
            "pooled from the reports of a, b",
        ),
    ],
)
def test_reports_of_another_format(tmp_path, study, message):
    with pytest.raises(UnreadableReport) as raised:
        read(tmp_path, json.dumps(study))
    assert message in str(raised.value)


def test_a_study_file_that_is_not_json(tmp_path):
    with pytest.raises(UnreadableReport, match=r"study\.json cannot be read: "):
        read(tmp_path, "{")


def test_a_report_without_its_runs(tmp_path):
    (tmp_path / "study.json").write_bytes((REPORTS / "precision" / "study.json").read_bytes())
    with pytest.raises(NoReportData, match=r"holds no runs\.csv\.gz"):
        load(tmp_path)
