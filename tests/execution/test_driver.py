"""Whole studies in miniature: nothing is done twice, nothing depends on how it came about, and
what goes wrong is said."""

import gzip
import io
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from kdbench.data.load import TrainingData
from kdbench.execution.driver import StudyDriver
from kdbench.execution.engines.inline import InlineEngine
from kdbench.execution.engines.local import LocalEngine
from kdbench.execution.engines.protocol import Idle, Message, Task, WorkerSettings
from kdbench.execution.errors import Interrupted, TeacherFailed
from kdbench.methods import METHODS
from kdbench.records.files import read_json
from kdbench.records.store import Store
from kdbench.report.data.runs import records_frame
from kdbench.study import Node, Planner
from kdbench.study.load import parse_study
from kdbench.tracking.optuna_log import OptunaLog
from kdbench.training import loop as train
from kdbench.training.run import TrainingRun

MINI = """
name: mini
question: Does it work in miniature?
data:    {name: digits, validation: 200, augment: none}
student: {model: digits-cnn-small}
teacher: {model: digits-cnn, method: ce, seed: 0}
recipe:  {epochs: 2, batch: 128, optimizer: adam, lr: 5e-3, schedule: cosine}
methods:
  - ce
  - kd
  - dml
  - {method: ban, hparams: {temperature: 2.0, alpha: 0.5}}
tune:    {trials: 2, epochs: 1, seeds: [100], sampler: random}
final:   {seeds: [0, 1, 2], epoch: last, train_on: fit}
report:  {reference: ce, margin: 0.2}
"""
KDBENCH = str(Path(sys.executable).with_name("kdbench"))
FILES = ("leaderboard.csv", "leaderboard.md", "leaderboard.tex", "runs.csv.gz", "curves.csv.gz")


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "KDBENCH_"))}
    return {**kept, "OMP_NUM_THREADS": "1"}


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What a person would type, from any folder."""
    return subprocess.run(
        [KDBENCH, *words], cwd=cwd, env=environment(), capture_output=True, text=True, timeout=900
    )


def results(root: Path) -> dict[str, int]:
    """When each finished run was written, in nanoseconds."""
    return {p.parent.name: p.stat().st_mtime_ns for p in root.glob("runs/*/result.json")}


def tables(root: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Leaderboard, runs and curves, without what is marked as measured."""
    folder = root / "reports" / "mini"
    board = pd.read_csv(folder / "leaderboard.csv")
    board = board[[c for c in board.columns if "measured" not in c]]
    runs, curves = (
        pd.read_csv(io.BytesIO(gzip.decompress((folder / name).read_bytes())))
        for name in ("runs.csv.gz", "curves.csv.gz")
    )
    runs = runs[[c for c in runs.columns if not c.startswith("measured.")]]
    curves = curves[~curves["metric"].str.startswith("measured.")].reset_index(drop=True)
    return board, runs, curves


def scores(root: Path) -> dict[str, Any]:
    """What each finished run gave, less times and what is recorded beside it."""
    found = {}
    for path in sorted(root.glob("runs/*/result.json")):
        result = read_json(path)
        rows = [json.loads(line) for line in (path.parent / "metrics.jsonl").open()]
        found[path.parent.name] = (
            {k: result[k] for k in ("state", "epochs", "last", "best", "loss_weights")},
            [{k: v for k, v in row.items() if k != "seconds"} for row in rows],
            read_json(path.parent / "test.json"),
            (path.parent / "weights.safetensors").read_bytes(),
        )
    return found


# -- the command line, end to end


@dataclass
class Study:
    """A study that has run: its folder and what was printed."""

    root: Path
    done: subprocess.CompletedProcess[str]

    @property
    def plan(self) -> dict[str, Any]:
        return read_json(self.root / "runs" / "plans" / "mini.json")


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study in miniature, uninterrupted, on two workers."""
    folder = tmp_path_factory.mktemp("mini")
    (folder / "mini.yaml").write_text(MINI)
    done = command("study", "mini.yaml", "--root", "root", "--workers", "2", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return Study(folder / "root", done)


def test_a_study_ends_with_a_leaderboard_and_says_where_things_are(mini: Study) -> None:
    for name in FILES:
        assert (mini.root / "reports" / "mini" / name).stat().st_size
    for word in ("mlflow.db", "reports/mini", "optuna.journal"):
        assert word in mini.done.stdout
    assert "Traceback" not in mini.done.stdout + mini.done.stderr
    assert mini.plan["complete"]
    board, runs, curves = tables(mini.root)
    assert {"ce", "kd", "dml", "ban"} <= set(board["method"])
    rows = {(r["label"], r["row"]) for r in mini.plan["rows"]}
    assert {("ce", "only"), ("kd", "default"), ("kd", "tuned"), ("ban", "pinned")} <= rows
    assert set(runs["state"]) == {"done"}
    assert runs["accuracy"].between(0, 1).all()
    assert len(curves)


def test_mlflow_holds_every_run_under_a_parent_and_none_is_left_running(mini: Study) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{mini.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mini")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert {run.info.status for run in runs} == {"FINISHED"}
    by_id = {r.data.tags["kdbench.id"]: r for r in runs if "kdbench.id" in r.data.tags}
    listing = mini.plan["listing"]
    assert set(by_id) == set(listing) == set(results(mini.root))
    for run_id, entry in listing.items():
        assert by_id[run_id].info.run_name == entry["name"]
    names = {run.info.run_name for run in runs}
    assert {"ce seed 2", "kd trial 1", "dml trial 0", "ban seed 1"} <= names
    parents = {r.info.run_id: r for r in runs if r.data.tags.get("kdbench.kind") == "method"}
    for run in by_id.values():
        parent = parents[run.data.tags["mlflow.parentRunId"]]
        entry = listing[run.data.tags["kdbench.id"]]
        assert parent.info.run_name == entry["group"]
        if entry["kind"] == "final":
            assert "test.accuracy" in run.data.metrics


def test_the_leaderboard_from_mlflow_is_that_of_the_records(mini: Study) -> None:
    cost = read_json(mini.root / "runs" / "plans" / "mini.cost.json")
    assert set(cost["rows"]) == {"ce", "kd", "dml", "ban"}
    assert cost["rows"]["ce"]["relative"] == 1.0
    frame = records_frame(Store(mini.root), mini.plan, cost)
    _, runs, _ = tables(mini.root)
    assert frame["id"].tolist() == runs["id"].tolist()
    assert frame["accuracy"].tolist() == runs["accuracy"].tolist()


def test_nothing_but_finals_and_teachers_has_opened_the_test_set(mini: Study) -> None:
    for run_id, entry in mini.plan["listing"].items():
        opened = (mini.root / "runs" / run_id / "test.json").exists()
        assert opened == (entry["kind"] in ("final", "teacher"))


def test_a_second_study_repeats_nothing(mini: Study) -> None:
    before, files = results(mini.root), tables(mini.root)
    scored = {p: p.stat().st_mtime_ns for p in mini.root.glob("runs/*/test.json")}
    done = command("study", "../mini.yaml", "--root", ".", "--workers", "2", cwd=mini.root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert results(mini.root) == before
    assert {p: p.stat().st_mtime_ns for p in scored} == scored
    assert "measuring" not in done.stdout
    for one, other in zip(files, tables(mini.root), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def test_a_report_gives_the_same_bytes_and_imports_no_torch(mini: Study) -> None:
    folder = mini.root / "reports" / "mini"
    before = {name: (folder / name).read_bytes() for name in FILES}
    for name in FILES:
        (folder / name).unlink()
    code = (
        "import sys; sys.argv = ['kdbench', 'report', 'mini']\n"
        "from kdbench.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code\n"
        "assert not code, code\n"
        "print('LOADED', sorted({'torch', 'torchvision', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=mini.root,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "LOADED []" in done.stdout
    assert {name: (folder / name).read_bytes() for name in FILES} == before


def test_ctrl_c_and_one_worker_give_the_same_leaderboard(mini: Study, tmp_path: Path) -> None:
    study = tmp_path / "a folder" / "mini.yaml"
    study.parent.mkdir()
    study.write_text(MINI)
    root = tmp_path / "root"
    words = ["study", str(study), "--root", str(root), "--workers", "1"]
    started = subprocess.Popen(
        [KDBENCH, *words],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 600
    while not results(root) and started.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: to the whole group
    out, err = started.communicate(timeout=600)
    assert started.returncode == 130, out + err
    assert "Traceback" not in out + err
    finished = results(root)
    assert finished
    assert len(finished) < len(mini.plan["listing"])
    assert not list(root.glob("reports/*/*"))
    # What it says how to go on is what a person copies.
    line = next(line for line in out.splitlines() if "To continue: " in line)
    told = shlex.split(line.split("To continue: ")[1])
    assert told == ["kdbench", *words]
    done = command(*told[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {run: results(root)[run] for run in finished} == finished
    for one, other in zip(tables(mini.root), tables(root), strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert scores(root) == scores(mini.root)


# -- in this process: every way to stop and to fail


class Nobody:
    """A mirror that only counts, and a watcher that only listens."""

    def __init__(self) -> None:
        self.touched: list[str] = []
        self.said: list[str] = []
        self.shown: list[tuple[int, int]] = []

    def touch(self, run_id: str, listing: Mapping[str, Any]) -> None:
        self.touched.append(run_id)

    def plan(self, runs: int, over: int, work: float, worked: float) -> None:
        assert 0 <= worked <= work
        self.shown.append((over, runs))

    def log(self, text: str) -> None:
        self.said.append(text)


@dataclass
class TrainingContext:
    """A root in which a study is carried out in this process."""

    root: Path
    data: TrainingData
    text: str = MINI
    changes: dict[str, Any] = field(default_factory=dict)

    def settings(self) -> WorkerSettings:
        return WorkerSettings(self.root, "digits", None, "cpu")

    def sweep(self, engine: Any = None) -> tuple[StudyDriver, Nobody]:
        store, ear = Store(self.root), Nobody()
        planner = Planner(parse_study(self.text, "mini", self.changes), self.data, store)
        engine = engine or InlineEngine(self.settings())
        return StudyDriver(planner, store, engine, ear, ear, OptunaLog(self.root), "cpu"), ear

    def run(self, engine: Any = None) -> tuple[dict[str, Any], StudyDriver, Nobody]:
        sweep, ear = self.sweep(engine)
        return sweep.run(), sweep, ear


@pytest.fixture
def context(tmp_path: Path, digits: TrainingData) -> Iterator[TrainingContext]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    yield TrainingContext(tmp_path, digits)
    torch.set_num_threads(before)


SMALL = {"tune": None, "final.seeds": [0, 1], "methods": ["ce", "kd"]}


class Stopping(InlineEngine):
    """Sends this process a signal in the middle of a step, after some steps."""

    def __init__(self, settings: WorkerSettings, steps: int, kind: signal.Signals) -> None:
        super().__init__(settings)
        self.steps, self.kind = steps, kind

    def messages(self, timeout: float) -> Iterator[Message]:
        def stopping() -> bool:
            self.steps -= 1
            if self.steps == 0:
                os.kill(os.getpid(), self.kind)
            return self._stopping

        said: list[Message] = []
        while self._tasks:
            self._worker.run_task(self._tasks[0], said.append, stopping)
            self._tasks.pop(0)
        yield from (message for message in said if not isinstance(message, Idle))


def test_sigterm_again_and_again_changes_no_bit(mini: Study, context: TrainingContext) -> None:
    handlers = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    steps = iter([1, 12, 9, 30, 70, 14, *[200] * 50])
    kinds = [signal.SIGTERM, signal.SIGINT]
    stopped, finished = 0, {}
    while True:
        engine = Stopping(context.settings(), next(steps), kinds[stopped % 2])
        sweep, ear = context.sweep(engine)
        try:
            plan = sweep.run()
        except Interrupted:
            assert any("stopping" in text for text in ear.said)
            now = results(context.root)
            assert {run: now[run] for run in finished} == finished
            finished, stopped = now, stopped + 1
            continue
        break
    assert stopped >= 6
    assert plan["complete"]
    assert {run: results(context.root)[run] for run in finished} == finished
    assert [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)] == handlers
    # On another engine, in this process and in many pieces: the same runs bit for bit.
    assert scores(context.root) == scores(mini.root)
    assert not list(context.root.glob("runs/*/checkpoint.pt"))


def test_stopping_between_a_runs_last_epoch_and_its_result_loses_nothing(
    context: TrainingContext,
) -> None:
    """The last epochs of a run come without a checkpoint, just before its result."""
    context.changes = {**SMALL, "final.seeds": [0], "methods": ["ce"]}
    sweep, _ = context.sweep()
    engine: Any = sweep.engine
    passed: list[Message] = []

    def one_at_a_time(timeout: float) -> Iterator[Message]:
        passed.extend(InlineEngine.messages(engine, timeout))
        if passed:
            sweep.stop.request()
            yield passed.pop(0)

    engine.messages = one_at_a_time
    with pytest.raises(Interrupted):
        sweep.run()
    (teacher,) = results(context.root)
    assert not passed
    assert len(Store(context.root).record(teacher).epochs()) == 2


def test_a_method_that_raises_fails_alone_and_is_tried_again(
    context: TrainingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    context.changes = {"final.seeds": [0, 1], "methods": ["ce", "kd", "at"]}

    def loss(*_: Any) -> Any:
        raise RuntimeError("no [such] thing")

    with monkeypatch.context() as patch:
        patch.setattr(METHODS["kd"], "loss", loss)
        plan, sweep, ear = context.run()
    failed = sweep.failures()
    kd = {e["name"] for e in plan["listing"].values() if e["label"] == "kd"}
    assert set(failed) == kd
    assert set(failed.values()) == {"RuntimeError: no [such] thing"}
    assert not plan["complete"]
    assert any("kd seed 0" in text and "no [such] thing" in text for text in ear.said)
    names = {i: e["name"] for i, e in plan["listing"].items()}
    done = {names[i] for i in results(context.root)}
    assert done == set(names.values()) - kd
    for run_id, name in names.items():
        error = Store(context.root).record(run_id).error
        assert (error is not None) == (name in kd)
        assert error is None or "no [such] thing" in error["traceback"]
    cost = read_json(Store(context.root).costs_path("mini"))
    assert set(cost["rows"]) == {"ce", "at"}

    before = results(context.root)
    plan, sweep, _ = context.run()
    assert sweep.failures() == {}
    assert plan["complete"]
    assert {run: results(context.root)[run] for run in before} == before
    assert not list(context.root.glob("runs/*/error.json"))


def test_costs_that_cannot_be_measured_fail_no_run(
    context: TrainingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    context.changes = SMALL

    def measure_costs(*_: Any) -> Any:
        raise RuntimeError("no clock")

    monkeypatch.setattr("kdbench.execution.engines.worker.measure_costs", measure_costs)
    plan, sweep, ear = context.run()
    assert plan["complete"]
    assert sweep.failures() == {}
    assert not list(context.root.glob("runs/*/error.json"))
    assert sum("no clock" in text for text in ear.said) == 1


def test_a_teacher_that_diverges_ends_the_study_with_one_message(context: TrainingContext) -> None:
    context.changes = {**SMALL, "recipe.lr": 1e30, "recipe.optimizer": "sgd"}
    ends = []
    for _ in range(2):  # the second start knows it at once
        sweep, ear = context.sweep()
        with pytest.raises(TeacherFailed) as raised:
            sweep.run()
        (teacher,) = results(context.root)
        for word in ("teacher digits-cnn seed 0", teacher, "epoch 1", "recipe.lr", "1e+30"):
            assert word in str(raised.value)
        ends.append(results(context.root))
    assert ends[0] == ends[1]
    assert ear.touched == [teacher]  # shown to MLflow, should the first start have died
    context.changes["recipe.lr"] = 0.1
    assert context.run()[0]["complete"]


def test_an_assistant_that_diverges_is_the_reason_in_its_rows(
    context: TrainingContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    takd = {"method": "takd", "assistant": {"model": "digits-cnn-medium"}}
    context.changes = {"final.seeds": [0], "methods": ["ce", takd]}
    loss = METHODS["kd"].loss

    def infinite(self: Any, *words: Any) -> Any:
        return {name: term * float("inf") for name, term in loss(self, *words).items()}

    monkeypatch.setattr(METHODS["kd"], "loss", infinite)
    plan, sweep, ear = context.run()
    assert plan["complete"]
    assert sweep.failures() == {}
    rows = {(row["label"], row["row"]): row for row in plan["rows"]}
    assert "takd stage digits-cnn-medium kd" in rows["takd", "default"]["incompatible"]
    assert "trials diverged" in rows["takd", "tuned"]["incompatible"]
    assert rows["ce", "only"]["incompatible"] is None
    assert any("diverged in epoch 1" in text for text in ear.said)


def test_a_record_that_another_process_writes_is_waited_for(context: TrainingContext) -> None:
    context.changes = SMALL
    sweep, ear = context.sweep()
    teacher = next(iter(sweep.planner.plan().nodes))
    held = ExitStack()
    held.enter_context(Store(context.root).record(teacher).writing())
    began: list[bool] = []

    def release() -> None:
        began.append(Store(context.root).record(teacher).spec() is not None)
        held.close()

    timer = threading.Timer(1.5, release)
    timer.start()
    assert sweep.run()["complete"]
    timer.join()
    assert began == [False]  # nobody touched it while it was held
    assert any("another process" in text for text in ear.said)


def test_two_drivers_share_a_study_and_train_nothing_twice(context: TrainingContext) -> None:
    """Their turns are interleaved at every message."""
    first, _ = context.sweep()
    second, _ = context.sweep()
    begun: list[str] = []
    for sweep in (first, second):

        def begin(node: Node, real: Callable[[Node], bool] = sweep.state.begin) -> bool:
            taken = real(node)
            begun.extend([node.id] * taken)
            return taken

        sweep.state.begin = begin  # type: ignore[method-assign]
    messages = first.engine.messages
    plans: list[dict[str, Any]] = []

    def in_between(timeout: float) -> Iterator[Message]:
        yield from messages(timeout)
        if not plans and len(results(context.root)) > 3:
            first.engine.messages = messages  # type: ignore[method-assign]
            plans.append(second.run())

    first.engine.messages = in_between  # type: ignore[method-assign]
    plans.append(first.run())
    assert len(plans) == 2
    assert all(plan["complete"] for plan in plans)
    assert plans[0] == plans[1]
    assert sorted(begun) == sorted(set(begun)) == sorted(results(context.root))


def test_a_failed_run_is_tried_at_the_next_start_unless_told_otherwise(
    context: TrainingContext,
) -> None:
    context.changes = SMALL
    sweep, _ = context.sweep()
    (final,) = [n for n in sweep.planner.plan().nodes.values() if n.listing["name"] == "kd seed 1"]
    record = Store(context.root).record(final.id)
    record.begin(final.spec)
    record.fail({"message": "it broke", "traceback": "", "errno": None})
    sweep, _ = context.sweep()
    sweep.state.retry = False
    assert not sweep.run()["complete"]
    assert sweep.failures() == {"kd seed 1": "it broke"}
    plan, sweep, _ = context.run()
    assert plan["complete"]
    assert sweep.failures() == {}


def test_memory_that_runs_out_splits_the_cohort_and_changes_no_number(
    context: TrainingContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    context.changes = {**SMALL, "methods": ["ce", "kd", "label-smoothing", "dkd"]}
    context.run()
    whole = scores(context.root)
    context.root = tmp_path / "short of memory"
    together: list[int] = []
    lockstep, step = train._lockstep, TrainingRun.step

    def counted(members: list[TrainingRun], *rest: Any) -> None:
        together.append(len(members))
        lockstep(members, *rest)

    def short(self: TrainingRun, batch: Any) -> None:
        if self.epoch == 1 and together[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        step(self, batch)

    monkeypatch.setattr(train, "_lockstep", counted)
    monkeypatch.setattr(TrainingRun, "step", short)
    again, sweep, _ = context.run()
    assert sweep.failures() == {}
    assert again["complete"]
    assert 4 in together
    assert scores(context.root) == whole


def test_locks_are_given_back_as_runs_end(context: TrainingContext) -> None:
    """A large study has more runs than a process may have open files."""
    context.changes = SMALL
    sweep, _ = context.sweep()
    most = 0
    take: Callable[..., None] = sweep.handler.handle

    def watched(*words: Any) -> None:
        nonlocal most
        take(*words)
        most = max(most, len(sweep.state.locks.held))

    sweep.handler.handle = watched  # type: ignore[method-assign]
    sweep.run()
    assert most < 5
    assert sweep.state.locks.held == {}


class Rough(LocalEngine):
    """Its worker is interrupted while it starts, killed while idle, and killed at work."""

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(settings, 1)
        self.tasks: list[Task] = []

    def send(self, *kinds: signal.Signals) -> None:
        for kind in kinds:
            os.kill(self._workers[0][0].pid, kind)
        if signal.SIGKILL in kinds:
            self._workers[0][0].join()

    def submit(self, task: Task) -> None:
        self.tasks.append(task)
        if len(self.tasks) == 2:
            self.send(signal.SIGKILL)
            assert list(self.messages(10)) == []  # seen, and another is started
        if len(self.tasks) == 3:
            self.send(signal.SIGKILL)  # not seen yet
        super().submit(task)
        if len(self.tasks) == 1:
            self.send(signal.SIGINT, signal.SIGTERM)
        if len(self.tasks) == 2:
            self.send(signal.SIGKILL)


class Tardy(InlineEngine):
    """Its worker says that it is free well after its last result."""

    _asked_since = 2

    def submit(self, task: Task) -> None:
        super().submit(task)
        self._asked_since = 0

    def idle(self) -> int:
        self._asked_since += 1
        return super().idle() if self._asked_since > 2 else 0


def test_a_study_does_not_end_while_a_worker_has_yet_to_say_that_it_is_free(
    context: TrainingContext,
) -> None:
    context.changes = SMALL
    plan, sweep, _ = context.run(Tardy(context.settings()))
    assert plan["complete"]
    assert set(results(context.root)) == set(plan["listing"])
    assert sweep.failures() == {}
    finals = [run for run, entry in plan["listing"].items() if entry["kind"] == "final"]
    assert all((context.root / "runs" / run / "test.json").exists() for run in finals)


class Busy:
    """An engine whose only worker has said its last result, but not yet that it is free."""

    size = 1

    def idle(self) -> int:
        return 0

    def submit(self, task: Task) -> None:
        raise AssertionError("given a task while it was not free")


def test_costs_wait_for_a_free_worker(context: TrainingContext) -> None:
    context.changes = SMALL
    _, done, _ = context.run()
    done.store.costs_path("mini").unlink(missing_ok=True)
    sweep, _ = context.sweep(Busy())
    sweep.state.make_plan()
    assert sweep.costs.start()


class Asked:
    """An engine that is only asked how large it is."""

    def __init__(self, size: int) -> None:
        self.size = size

    def idle(self) -> int:
        return 1


@pytest.mark.parametrize("count", [2, 3, 16])
def test_cohorts_become_smaller_so_that_workers_end_together(
    context: TrainingContext, count: int
) -> None:
    context.changes = {"tune": None, "methods": ["ce", "label-smoothing"]}
    context.changes |= {"final.seeds": list(range(40))}
    sweep, _ = context.sweep(Asked(count))
    sweep.state.make_plan()
    plan = sweep.state.plan
    sweep.state.training |= set(plan.teachers.values())
    free, sizes = [0.0] * count, []
    while cohort := sweep.scheduler.next(plan, sweep.state.ready()):
        # The worker that is free first takes it; every run takes one unit of time.
        worker = free.index(min(free))
        free[worker] += len(cohort)
        sizes.append(len(cohort))
        sweep.state.training |= {node.id for node in cohort}
    assert sum(sizes) == 80
    assert max(free) - min(free) <= 1
    # Runs of a seed are still trained together while there are many.
    assert sizes[0] == 2 or count > 16


def test_cohorts_with_a_live_teacher_stay_together(context: TrainingContext) -> None:
    context.changes = {"tune": None, "methods": ["ce", "kd"], "final.seeds": [0]}
    context.changes |= {"recipe.teacher_outputs": "live", "recipe.epochs": 1}
    _, sweep, _ = context.run()
    (context.root / "runs").rename(context.root / "kept")
    plan = sweep.planner.plan()
    (teacher,) = plan.teachers.values()
    (context.root / "runs").mkdir()
    (context.root / "kept" / teacher).rename(context.root / "runs" / teacher)
    fresh, _ = context.sweep(Asked(8))
    fresh.state.make_plan()
    cohort = fresh.scheduler.next(fresh.state.plan, fresh.state.ready())
    assert {node.spec.method for node in cohort} == {"ce", "kd"}


def test_a_worker_that_is_killed_is_replaced_and_its_runs_go_on_in_smaller_cohorts(
    context: TrainingContext,
) -> None:
    context.changes = SMALL
    engine = Rough(context.settings())
    assert engine._workers == []  # none is started before there is work
    try:
        plan, sweep, ear = context.run(engine)
    finally:
        engine.close()
    _, together, alone, *_ = engine.tasks
    assert (len(together.specs), len(alone.specs)) == (2, 1)
    assert any("go on 1 at a time" in text for text in ear.said)
    (lost,) = alone.specs  # killed a second time, and with nobody to blame but itself
    name = plan["listing"][lost.id]["name"]
    assert set(sweep.failures()) == {name}
    assert "worker process ended with code -9" in sweep.failures()[name]
    assert any(name in text for text in ear.said)
    assert set(results(context.root)) == set(plan["listing"]) - {lost.id}
    plan, sweep, _ = context.run()
    assert plan["complete"]
    assert sweep.failures() == {}
