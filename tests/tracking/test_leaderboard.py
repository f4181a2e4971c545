"""The leaderboard in MLflow: rows on the methods' runs, and saved views that a browser opens."""

import base64
import json
import math
import re
import shutil
import socket
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from support.mlflow_root import STUDY, MlflowRoot, until

from kdbench.tracking import attach_report, links
from kdbench.tracking.experiment import StudyExperiment
from kdbench.tracking.leaderboard import VIEW, MethodRow, MethodTable

ROWS = (
    MethodRow("kd", {"accuracy": 91.5, "p_adjusted": 0.012}, {"verdict": "better", "row": "tuned"}),
    MethodRow("ce", {"accuracy": 90.0}, {"row": "only"}),
)
TABLE = MethodTable(
    ROWS, ("accuracy", "p_adjusted", "verdict"), "accuracy", ("test/accuracy", "test/nll")
)


def attach(root: MlflowRoot, table: MethodTable = TABLE) -> StudyExperiment:
    folder = root.store.root / "report"
    folder.mkdir(exist_ok=True)
    (folder / "index.html").write_text("a page")
    attach_report(root.store, STUDY, root.uri, folder, "The answer.", table)
    return root.experiment()


def method_runs(experiment: StudyExperiment) -> dict:
    runs = experiment.client.search_runs([experiment.id], "tags.`kdbench.kind` = 'method'")
    return {run.info.run_name: run for run in runs}


@pytest.fixture
def finished(root: MlflowRoot) -> MlflowRoot:
    for method in ("ce", "kd"):
        root.sync(root.final(method=method))
    return root


def test_the_methods_runs_carry_their_rows(finished: MlflowRoot) -> None:
    runs = method_runs(attach(finished))
    kd, ce = runs["kd"].data, runs["ce"].data
    assert kd.metrics == {
        "leaderboard/rank": 1, "leaderboard/accuracy": 91.5, "leaderboard/p_adjusted": 0.012,
    }  # fmt: skip
    assert kd.tags["leaderboard.verdict"] == "better"
    assert ce.metrics == {"leaderboard/rank": 2, "leaderboard/accuracy": 90.0}
    assert "leaderboard.verdict" not in ce.tags


def test_a_report_made_again_replaces_what_has_changed(finished: MlflowRoot) -> None:
    attach(finished)
    experiment = attach(finished)
    kd = method_runs(experiment)["kd"]
    history = experiment.client.get_metric_history(kd.info.run_id, "leaderboard/accuracy")
    assert [point.value for point in history] == [91.5]
    alone = MethodRow("kd", {"accuracy": 92.0}, {"row": "only"})
    kd = method_runs(attach(finished, MethodTable((alone,), ("accuracy",), "accuracy", ("x",))))[
        "kd"
    ]
    assert kd.data.metrics["leaderboard/accuracy"] == 92.0
    assert math.isnan(kd.data.metrics["leaderboard/p_adjusted"])
    assert "leaderboard.verdict" not in kd.data.tags


def test_the_views_are_saved_once(finished: MlflowRoot) -> None:
    experiment = attach(finished)
    tags = experiment.client.get_experiment(experiment.id).tags
    view = json.loads(tags[VIEW + "leaderboard"])
    assert view["name"] == "Leaderboard"
    state = json.loads(zlib.decompress(base64.b64decode(view["state"].removeprefix("deflate;"))))
    assert state["orderByKey"] == "metrics.`leaderboard/accuracy`"
    assert state["selectedColumns"] == [
        "metrics.`leaderboard/accuracy`", "metrics.`leaderboard/p_adjusted`",
        "tags.`leaderboard.verdict`",
    ]  # fmt: skip
    for name, count in (("leaderboard", 2), ("finals", 2)):
        view = json.loads(tags[VIEW + name])
        packed = base64.b64decode(view["state"].removeprefix("deflate;"))
        found = json.loads(zlib.decompress(packed))["searchFilter"]
        assert len(experiment.client.search_runs([experiment.id], found)) == count
    attach(finished)
    assert experiment.client.get_experiment(experiment.id).tags == tags
    pages = links.study_pages(finished.store.root, STUDY)
    assert list(pages) == [f"{STUDY} leaderboard", f"{STUDY} finals", f"{STUDY} runs"]
    assert pages[f"{STUDY} leaderboard"].endswith("&viewStateShareKey=leaderboard")


@pytest.mark.long
def test_a_browser_shows_the_leaderboard(finished: MlflowRoot, tmp_path: Path) -> None:
    """A real server, and a real browser where there is one: the columns of the view, and the
    methods with the best first."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium")
    attach(finished)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    words = ["ui", STUDY, "--root", str(finished.store.root), "--port", str(port), "--no-browser"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "kdbench", *words], stdout=log)
        try:
            until(lambda: "#/experiments/" in (tmp_path / "log").read_text(), 300)
            link = re.search(r"leaderboard  (\S+)", (tmp_path / "log").read_text()).group(1)
            command = [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1800,900",
                f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=60000",
                "--dump-dom", link,
            ]  # fmt: skip
            for _ in range(5):  # a slow server answers after the browser's time is over
                page = subprocess.run(
                    command, capture_output=True, text=True, timeout=300, check=True
                ).stdout
                if "91.5" in page:
                    break
        finally:
            server.terminate()
            server.wait(60)
    for text in ("leaderboard/accuracy", "leaderboard.verdict", "91.5", "better"):
        assert text in page
    assert page.index("91.5") < page.index(">90")
