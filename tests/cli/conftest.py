"""A root in which a small study has run, for commands that look at what is there."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from support.command_line import output

from kdbench.cli import study as study_command
from kdbench.execution import run_study
from kdbench.execution.engines import ENGINES, worker
from kdbench.execution.protocols import NullTracker
from kdbench.records.galleries import gallery_path, read_gallery
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.report.data.collect import cost_of
from kdbench.report.data.confusion import confusions_frame
from kdbench.report.data.report_data import ReportData, tidy_curves, trials_frame
from kdbench.report.data.runs import records_frame
from kdbench.report.write import write_report

STUDY = """
name: tiny
question: Does a teacher help?
data:    {name: digits, validation: 200}
student: {model: digits-cnn-small}
teacher: {model: digits-cnn}
recipe:  {epochs: 1, batch: 256, lr: 1e-3}
methods: [ce, kd]
tune:    {trials: 2, epochs: 1, seeds: [100]}
final:   {seeds: [0, 1, 2]}
report:  {reference: ce}
"""


class NullBackgroundSync(NullTracker):
    """Tracks nothing, and is never out of date."""

    def __init__(self, *_: object, **__: object) -> None:
        self.experiment = SimpleNamespace(id="")

    def open(self, **_: object) -> None: ...
    def start(self) -> None: ...
    def close(self, *_: object) -> int:
        return 0


def _run_inside(patch: pytest.MonkeyPatch) -> None:
    cost = {"relative": 1.0, "peak_mb": 1.0, "seconds_per_step": 1.0, "steps": 1}
    patch.setattr(worker, "measure_costs", lambda specs, *_: dict.fromkeys(specs, cost))
    patch.setitem(ENGINES, "local", ENGINES["inline"])
    patch.setattr(run_study, "BackgroundSync", NullBackgroundSync)
    patch.setattr(study_command, "publish_report", lambda *_: (None, ()))
    patch.setattr(study_command, "show_report", lambda *_: None)


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies run in this process, without MLflow."""
    _run_inside(monkeypatch)


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root with `tiny.yaml`, its finished runs and its report, made without MLflow."""
    root = tmp_path_factory.mktemp("tiny")
    (root / "tiny.yaml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        _run_inside(patch)
        output("study", root / "tiny.yaml", "--root", root)
    store = Store(root)
    plan = PlanFile.load(store.plan_path("tiny"))
    cost = cost_of(store, "tiny")
    runs = records_frame(store, plan, cost)
    rows = [(r["id"], e["epoch"], "val.accuracy", e["val.accuracy"])
            for r in runs.to_dict("records") for e in store.record(r["id"]).epochs()]  # fmt: skip
    curves = pd.DataFrame(rows, columns=["id", "epoch", "metric", "value"])
    curves = tidy_curves(curves.drop_duplicates())
    confusions = confusions_frame(store, plan, runs)
    report = ReportData(
        plan.without_runs(), cost, runs, curves, trials_frame(plan), confusions,
        gallery=read_gallery(gallery_path(root, "tiny")),
    )  # fmt: skip
    write_report(report, store.report_folder("tiny"))
    return root
