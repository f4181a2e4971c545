"""The links from a report's page to the pages of its runs in MLflow: where they stand, and that a
browser follows them."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from support.browser import Tab, browser, installed

from kdbench.records.files import write_json
from kdbench.records.store import Store
from kdbench.report.check import check_report
from kdbench.report.data.report_data import ReportData
from kdbench.report.figures.render import Drawn
from kdbench.report.page import render_page
from kdbench.report.page.run_pages import lead_run_pages_to, write_run_pages
from kdbench.report.write import leaderboard_of, write_report
from kdbench.tracking.client import tracking_uri
from kdbench.tracking.known import _key

ODD = """it's "100%" \\ } %0A <b>é"""
"""A study's name that would end a text of a stylesheet, of JavaScript and of HTML."""


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Store(tmp_path)


def remember(store: Store, data: ReportData) -> dict[str, str]:
    """What training leaves in the records: the id in MLflow of each run, in the experiment 7."""
    runs = {run: f"{k:032x}" for k, run in enumerate(data.runs["id"].dropna().unique())}
    key = _key(tracking_uri(store.root), data.plan.study)
    for run, name in runs.items():
        folder = store.record(run).folder
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "mlflow.json", {key: {"experiment_id": "7", "run": name}})
    return runs


def written(store: Store, study: str) -> dict:
    text = (store.root / "reports" / f"{study}.mlflow.css").read_text()
    (value,) = re.findall(r'^:root \{ --run-pages: "([^"\\\n]*)"; \}$', text.rstrip("\n"))
    return json.loads(unquote(value))


def test_every_run_is_linked_by_its_id(store: Store, report_data: ReportData) -> None:
    runs = remember(store, report_data)
    (store.root / "reports").mkdir()
    write_run_pages(store, report_data)
    pages = written(store, "fake_study")
    base = "http://127.0.0.1:5000/#/experiments/7/runs"
    assert pages["runs"] == {run: f"{base}/{name}" for run, name in runs.items()}
    assert pages["view"].startswith(base)
    assert pages["view"].endswith("viewStateShareKey=leaderboard")
    assert pages["serve"] == "kdbench ui fake_study"


def test_a_server_is_linked_without_its_password(
    store: Store, report_data: ReportData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host/mlflow/?tok=secret")
    remember(store, report_data)
    (store.root / "reports").mkdir()
    write_run_pages(store, report_data)
    pages = written(store, "fake_study")
    assert "secret" not in json.dumps(pages)
    assert all(page.startswith("https://host/mlflow/#/") for page in pages["runs"].values())
    assert pages["serve"] == ""


def test_links_follow_the_port_that_serves(store: Store, report_data: ReportData) -> None:
    runs = remember(store, report_data)
    (store.root / "reports").mkdir()
    write_run_pages(store, report_data)
    first = written(store, "fake_study")
    lead_run_pages_to(store.root, 5001)
    pages = written(store, "fake_study")
    base = "http://127.0.0.1:5001/#/experiments/7/runs"
    assert pages["runs"] == {run: f"{base}/{name}" for run, name in runs.items()}
    assert pages["view"].startswith(base)
    assert pages["serve"] == "kdbench ui fake_study --port 5001"
    lead_run_pages_to(store.root, 5002)
    assert written(store, "fake_study")["serve"] == "kdbench ui fake_study --port 5002"
    lead_run_pages_to(store.root, 5000)
    assert written(store, "fake_study") == first


def test_links_to_a_server_stay_and_other_files_too(
    store: Store, report_data: ReportData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:8080")
    remember(store, report_data)
    (store.root / "reports").mkdir()
    write_run_pages(store, report_data)
    (store.root / "reports" / "mine.mlflow.css").write_text("body { color: red }")
    before = {path: path.read_bytes() for path in (store.root / "reports").iterdir()}
    lead_run_pages_to(store.root, 5001)
    assert {path: path.read_bytes() for path in (store.root / "reports").iterdir()} == before


@pytest.mark.parametrize("uri", ["", "databricks://me:secret@host"])
def test_nothing_is_written_where_there_is_nothing_to_link(
    store: Store, report_data: ReportData, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        remember(store, report_data)
    write_run_pages(store, report_data)
    assert not (store.root / "reports").exists()


def test_a_report_is_the_same_with_links_and_without(store: Store, report_data: ReportData) -> None:
    folder = store.report_folder("fake_study")
    write_report(report_data, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    remember(store, report_data)
    write_run_pages(store, report_data)
    write_report(report_data, folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert check_report(folder) == []


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    if installed() is None:
        pytest.skip("no Chromium is installed")
    with browser() as opened:
        yield opened


LINKS = """JSON.stringify(Object.fromEntries([...document.querySelectorAll("[data-run] a")].map(
  a => [a.textContent + " in row " + a.closest("[data-run]").dataset.run, a.href])))"""
HEAD = "document.querySelector('.all-reports').textContent"
#: Waits until the page has read the file, or found none, for half a minute at most.
READ = """new Promise(done => { const end = Date.now() + 30000; const look = () => {
  const sheet = document.querySelector("link[rel=stylesheet]");
  const links = document.querySelectorAll(".all-reports a").length;
  if (!sheet || links === 2 || Date.now() > end) done(links); else setTimeout(look, 20); }; look();
})"""


def test_a_browser_shows_the_links(store: Store, report_data: ReportData, tab: Tab) -> None:
    data = replace(report_data, plan=replace(report_data.plan, study=ODD))
    page = store.report_folder(ODD) / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text(render_page(leaderboard_of(data), data, Drawn({}, {}, {}, {})))
    tab.show(page, 1440)
    assert tab.run(READ) == 1
    assert tab.run(HEAD) == "All reports"
    assert json.loads(tab.run(LINKS)) == {}
    runs = remember(store, data)
    write_run_pages(store, data)
    tab.show(page, 1440)
    assert tab.run(READ) == 2
    base = "http://127.0.0.1:5000/#/experiments/7/runs/"
    assert json.loads(tab.run(LINKS)) == {
        f"{run} in row {run}": base + name for run, name in runs.items()
    }
    command = """kdbench ui 'it'"'"'s "100%" \\ } %0A <b>é'"""
    assert tab.run(HEAD) == f"All reports · Runs in MLflow (while {command} runs)"
    view = tab.run("document.querySelectorAll('.all-reports a')[1].href")
    assert view == f"{base[:-1]}?workflowType=machine_learning&viewStateShareKey=leaderboard"
