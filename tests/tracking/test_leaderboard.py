"""The leaderboard in MLflow: rows on the methods' runs, and saved views that a browser opens."""

import base64
import json
import math
import socket
import subprocess
import sys
import urllib.request
import zlib
from pathlib import Path

import pytest
from support.mlflow_root import STUDY, MlflowRoot, until

from kdbench.tracking import attach_report, links
from kdbench.tracking.client import client
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


def is_served(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.mark.long
def test_a_server_gives_what_the_view_asks_for(finished: MlflowRoot, tmp_path: Path) -> None:
    """A real server takes the view's filter and order: the methods, with the best first."""
    attach(finished)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    words = ["ui", STUDY, "--root", str(finished.store.root), "--port", str(port), "--no-browser"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "kdbench", *words], stdout=log)
        try:
            until(lambda: is_served(port), 300)
            until(lambda: "viewStateShareKey=leaderboard" in (tmp_path / "log").read_text(), 60)
            asked = client(f"http://127.0.0.1:{port}")
            experiment = asked.get_experiment_by_name(STUDY)
            packed = json.loads(experiment.tags[VIEW + "leaderboard"])["state"]
            state = json.loads(zlib.decompress(base64.b64decode(packed.removeprefix("deflate;"))))
            runs = asked.search_runs(
                [experiment.experiment_id],
                state["searchFilter"],
                order_by=[f"{state['orderByKey']} DESC"],
            )
        finally:
            server.terminate()
            server.wait(60)
    assert [run.info.run_name for run in runs] == ["kd", "ce"]
    for column in state["selectedColumns"]:
        kind, name = column.split(".", 1)
        assert name.strip("`") in getattr(runs[0].data, kind)
