"""Every table and page names the versions of kdbench and of plug-ins, and the CSV file holds each
hyperparameter with all its digits."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest

from kdbench.report.check import check_report
from kdbench.report.data.report_data import UnreadableReport, load
from kdbench.report.data.software import merged, software_of
from kdbench.report.pooled import pool_settings
from kdbench.report.pooled_table import pooled_files
from kdbench.report.write import write_report

SOFTWARE = {"kdbench": ("0.1.0", "0.2.0"), "my-methods": ("1.2",)}
TABLES = ("leaderboard.csv", "leaderboard.md", "leaderboard.tex", "leaderboard-full.tex")


def test_records_tell_the_versions():
    def record(origin, version, **more):
        spec, result = SimpleNamespace(origin=origin), {"versions": {"kdbench": version}, **more}
        return SimpleNamespace(spec=lambda: spec, result=result)

    runs = {
        "a": record("kdbench", "0.2.0"),
        "b": record("my-methods==1.2", "0.1.0"),
        "c": record("", "0.1.0"),
        "none": SimpleNamespace(spec=lambda: None, result=None),
    }
    found = software_of(SimpleNamespace(record=runs.get), runs)
    assert found == SOFTWARE
    assert list(merged({"other": ("1",)}, found)) == ["kdbench", "my-methods", "other"]
    packages = {"torchvision": "0.26", "my-data": "3"}
    runs["d"] = record("my-methods==1.2", "0.2.0", packages=packages)
    found = software_of(SimpleNamespace(record=runs.get), runs)
    assert found == {**SOFTWARE, "my-data": ("3",), "torchvision": ("0.26",)}


def test_every_table_and_page_names_them(report_data, tmp_path):
    write_report(replace(report_data, software=SOFTWARE), tmp_path / "r")
    for name in (*TABLES, "methods.tex", "index.html"):
        text = (tmp_path / "r" / name).read_text()
        assert "kdbench 0.1.0 and 0.2.0, my-methods 1.2" in text, name
    assert load(tmp_path / "r").software == SOFTWARE
    assert check_report(tmp_path / "r") == []
    study = tmp_path / "r" / "study.json"
    content = json.loads(study.read_text())
    study.write_text(json.dumps({**content, "software": {"kdbench": "0.1.0"}}))
    with pytest.raises(UnreadableReport, match="software"):
        load(tmp_path / "r")


def test_pooled_tables_name_those_of_all_settings(report_data):
    other = replace(report_data.plan, study="other")
    settings = {
        "one": replace(report_data, software={"kdbench": ("0.1.0",)}),
        "two": replace(report_data, plan=other, software=SOFTWARE),
    }
    for name, content in pooled_files(pool_settings("both", settings)).items():
        assert "kdbench 0.1.0 and 0.2.0, my-methods 1.2" in content.decode(), name


def test_the_csv_file_holds_hyperparameters_with_all_digits(report_data, tmp_path):
    exact = 0.12345678901234568
    rows = [
        replace(row, hparams={**row.hparams, "alpha": exact}) if row.row == "tuned" else row
        for row in report_data.plan.rows
    ]
    data = replace(report_data, plan=replace(report_data.plan, rows=tuple(rows)))
    write_report(data, tmp_path)
    table = pd.read_csv(tmp_path / "leaderboard.csv")
    by_row = table.set_index(["method", "row"])
    assert by_row.loc[("kd", "tuned"), "hparam.alpha"] == exact
    assert by_row.loc[("kd", "default"), "hparam.temperature"] == 4.0
    assert pd.isna(by_row.loc[("ce", "only"), "hparam.alpha"])
    assert check_report(tmp_path / "leaderboard.csv") == []
