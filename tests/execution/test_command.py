"""`kdbench study` from end to end: what an undisturbed study leaves."""

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from support import crash

from kdbench.records.files import read_json
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.report.data.runs import records_frame

FILES = ("leaderboard.csv", "leaderboard.md", "leaderboard.tex", "runs.csv.gz", "curves.csv.gz")


@pytest.fixture(scope="module")
def plan(reference_root: Path) -> PlanFile:
    plan = PlanFile.load(reference_root / "runs" / "plans" / "crash.json")
    assert plan is not None
    return plan


def table(root: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(root / "reports" / "crash" / name)


def test_a_study_ends_with_a_leaderboard_and_says_where_things_are(
    reference_root: Path, plan: PlanFile
) -> None:
    for name in FILES:
        assert (reference_root / "reports" / "crash" / name).stat().st_size
    output = (reference_root.parent / "log.txt").read_text()
    for words in ("reports/crash/index.html", " ui crash --root ", "optuna.journal"):
        assert words in output
    assert "Traceback" not in output
    assert plan.complete
    assert {"ce", "kd", "dml", "ban"} <= set(table(reference_root, "leaderboard.csv")["method"])
    rows = {(row.label, row.row) for row in plan.rows}
    assert {("ce", "only"), ("kd", "default"), ("kd", "tuned"), ("ban", "pinned")} <= rows
    runs = table(reference_root, "runs.csv.gz")
    assert set(runs["state"]) == {"done"}
    assert runs["accuracy"].between(0, 1).all()
    assert len(table(reference_root, "curves.csv.gz"))


def test_mlflow_holds_every_run_under_a_parent_and_none_is_left_running(
    reference_root: Path, plan: PlanFile
) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{reference_root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("crash")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert {run.info.status for run in runs} == {"FINISHED"}
    by_id = {r.data.tags["kdbench.id"]: r for r in runs if "kdbench.id" in r.data.tags}
    listing = plan.listing
    assert set(by_id) == set(listing) == set(crash.finished(reference_root))
    for run_id, entry in listing.items():
        assert by_id[run_id].info.run_name == entry.name
    names = {run.info.run_name for run in runs}
    assert {"ce seed 2", "kd trial 1", "dml trial 0", "ban seed 1"} <= names
    parents = {r.info.run_id: r for r in runs if r.data.tags.get("kdbench.kind") == "method"}
    for run in by_id.values():
        parent = parents[run.data.tags["mlflow.parentRunId"]]
        entry = listing[run.data.tags["kdbench.id"]]
        assert parent.info.run_name == entry.group
        if entry.kind == "final":
            assert "test/accuracy" in run.data.metrics


def test_the_leaderboard_from_mlflow_is_that_of_the_records(
    reference_root: Path, plan: PlanFile
) -> None:
    cost = read_json(reference_root / "runs" / "plans" / "crash.cost.json")
    assert set(cost["rows"]) == {"ce", "kd", "dml", "ban", "teacher"}
    assert cost["rows"]["ce"]["relative"] == 1.0
    frame = records_frame(Store(reference_root), plan, cost)
    runs = table(reference_root, "runs.csv.gz")
    assert frame["id"].tolist() == runs["id"].tolist()
    assert frame["accuracy"].tolist() == runs["accuracy"].tolist()


def test_nothing_but_finals_and_teachers_has_opened_the_test_set(
    reference_root: Path, plan: PlanFile
) -> None:
    for run_id, entry in plan.listing.items():
        opened = (reference_root / "runs" / run_id / "test.json").exists()
        assert opened == (entry.kind in ("final", "teacher"))


def test_a_report_gives_the_same_bytes_and_imports_no_torch(
    tmp_path: Path, reference_root: Path
) -> None:
    root = tmp_path / "root"
    shutil.copytree(reference_root, root)
    shutil.rmtree(root / "reports")
    code = (
        "import sys; sys.argv = ['kdbench', 'report', 'crash']\n"
        "from kdbench.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "assert not code, code\n"
        "print('LOADED', sorted({'torch', 'torchvision', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env=crash.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "LOADED []" in done.stdout
    for name in FILES:
        path = Path("reports") / "crash" / name
        assert (root / path).read_bytes() == (reference_root / path).read_bytes()
