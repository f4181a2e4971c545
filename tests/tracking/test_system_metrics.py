"""The machine's load on the study's own run: MLflow's names, few points, never in the way."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from support.mlflow_root import STUDY, MlflowRoot, until

from kdbench.tracking import BackgroundSync, system_metrics
from kdbench.tracking.system_metrics import SystemMetrics, sample

#: What MLflow's own thread logs on a machine without a GPU.
NAMES = {
    "system/cpu_utilization_percentage", "system/system_memory_usage_megabytes",
    "system/system_memory_usage_percentage", "system/disk_usage_percentage",
    "system/disk_usage_megabytes", "system/disk_available_megabytes",
    "system/network_receive_megabytes", "system/network_transmit_megabytes",
}  # fmt: skip


def own_run(root: MlflowRoot):
    """The study's run in MLflow, of which there is one at the most."""
    experiment = root.experiment()
    runs = experiment.client.search_runs([experiment.id], "tags.`kdbench.kind` = 'study'")
    assert len(runs) <= 1
    return runs[0] if runs else None


def test_the_load_stands_on_the_studys_own_run(
    root: MlflowRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_metrics, "INTERVAL", 0.2)
    messages: list[str] = []
    background = BackgroundSync(root.store, STUDY, root.uri, messages.append, system_metrics=True)
    assert background.open()
    background.start()
    record = root.final()
    background.touch(record.id)
    until(lambda: bool((run := own_run(root)) and run.data.metrics))
    assert background.close() == 0
    assert messages == []
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "page.html").write_text("a page")
    assert background.attach_report(tmp_path / "report", "The answer.")
    run = own_run(root)
    assert set(run.data.metrics) >= NAMES
    assert 0 <= run.data.metrics["system/cpu_utilization_percentage"] <= 100
    assert 0 < run.data.metrics["system/system_memory_usage_percentage"] < 100
    assert (run.info.run_name, run.info.status) == (STUDY, "FINISHED")
    assert "The answer." in run.data.tags["mlflow.note.content"]
    assert not NAMES & set(root.run(record).data.metrics)


def test_a_short_study_does_not_wait_for_the_monitors(
    root: MlflowRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(system_metrics, "monitors", lambda: asked.append("asked") or [])
    background = BackgroundSync(root.store, STUDY, root.uri, system_metrics=True)
    assert background.open()
    background.start()
    background.touch(root.final().id)
    assert background.close() == 0
    assert asked == []


def test_a_days_study_holds_few_points(root: MlflowRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    now, logged = [0.0], []
    clock = SimpleNamespace(monotonic=lambda: now[0], time=lambda: now[0])
    monkeypatch.setattr(system_metrics, "time", clock)
    monkeypatch.setattr(system_metrics, "monitors", lambda: [CPUMonitor()])
    run = SimpleNamespace(info=SimpleNamespace(run_id="own", start_time=0))
    monkeypatch.setattr(system_metrics, "study_run", lambda *_: run)
    client = SimpleNamespace(log_batch=lambda _, metrics: logged.append(metrics))
    load, experiment = (
        SystemMetrics(),
        SimpleNamespace(client=client, store=root.store, is_open=True, id="1", study=STUDY),
    )
    while now[0] < 86_400:
        assert load.wait >= 10
        now[0] += load.wait
        load.log(experiment)
    steps = [metrics[0].step for metrics in logged]
    assert steps[:3] == [20, 30, 40]
    assert len(set(steps)) == len(steps)
    assert 100 < len(steps) < 400


def test_what_cannot_be_measured_is_left_out() -> None:
    class Broken(CPUMonitor):
        def collect_metrics(self) -> None:
            raise RuntimeError("the driver is gone")

    assert set(sample([Broken(), CPUMonitor()])) == set(sample([CPUMonitor()]))
    assert sample([Broken()]) == {}


def test_a_load_that_mlflow_refuses_stops_nothing(
    root: MlflowRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_metrics, "INTERVAL", 0.05)
    tries: list[str] = []

    def refuse(*_: object) -> None:
        tries.append("a try")
        raise OSError("no space left")

    monkeypatch.setattr(system_metrics, "study_run", refuse)
    messages: list[str] = []
    background = BackgroundSync(root.store, STUDY, root.uri, messages.append, system_metrics=True)
    assert background.open()
    background.start()
    until(lambda: len(tries) > 1)
    record = root.final()
    background.touch(record.id)
    assert background.close() == 0
    assert len(messages) == 1
    assert root.run(record).info.status == "FINISHED"


def test_with_mlflow_away_a_study_ends_as_before(root: MlflowRoot, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    messages: list[str] = []
    uri = f"sqlite:///{tmp_path}/file/no.db"
    background = BackgroundSync(root.store, STUDY, uri, messages.append, system_metrics=True)
    record = root.final()
    assert not background.open(timeout=0.05)
    background.start()
    background.touch(record.id)
    assert background.close(timeout=0.2) == 1
    assert len(messages) == 1


def test_a_run_of_nothing_but_records_has_no_load(root: MlflowRoot) -> None:
    background = BackgroundSync(root.store, STUDY, root.uri)
    assert background.open()
    background.start()
    background.touch(root.final().id)
    assert background.close() == 0
    assert own_run(root) is None
