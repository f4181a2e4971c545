"""One study's experiment in MLflow, brought level with the records. Errors are raised here.

`level` looks at what the record says and at what MLflow is known to hold, and logs the
difference; calling it again changes nothing. What MLflow holds is remembered beside the
record, in mlflow.json, and read from MLflow where that memory is missing or wrong.

Any number of processes may do this for one study on one root: see `find` for what keeps
runs single, and for what holds where machines share a server and nothing else.
"""

import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from kdbench.records import summary
from kdbench.records.files import write_json
from kdbench.records.plan_file import PlanFile, PlannedRun
from kdbench.records.spec import RunSpec
from kdbench.records.store import Record, RecordBusy, Store
from kdbench.tracking import artifacts
from kdbench.tracking import experiment as find
from kdbench.tracking import payload as content
from kdbench.tracking.client import artifact_location, client, safe_uri
from kdbench.tracking.known import KNOWN, Known, new_state, read_state

if TYPE_CHECKING:
    from mlflow.entities import Experiment, Run

#: MLflow takes so many metrics, and so many parameters or tags, in one request.
METRICS, NAMES = 1000, 100

#: Kinds of runs whose files are kept in MLflow.
WITH_FILES = ("final", "teacher")


class Tracker:
    """The MLflow side of a study. Not for several threads at once.

    `patience` is for how many seconds it waits for another process that is bringing the
    same record level.
    """

    def __init__(self, store: Store, study: str, uri: str, patience: float = 5.0) -> None:
        self.store = store
        self.study = study
        self.uri = uri
        self.patience = patience
        #: By which mlflow.json knows this store and experiment. The address may hold
        #: secrets, and a short hash of a weak one could be guessed.
        self.key = hashlib.sha256(f"{safe_uri(uri)}\n{study}".encode()).hexdigest()[:12]
        self.experiment = ""
        #: Ids that had more than one run when the experiment was looked at.
        self.doubled: set[str] = set()
        self._runs: dict[str, Run] = {}
        self._groups: dict[str, tuple[str, str]] = {}
        self._plan: tuple[float, PlanFile | None] = (-1.0, None)

    # -- opening

    @property
    def is_open(self) -> bool:
        """Whether the experiment is at hand."""
        return bool(self.experiment)

    def open(self) -> None:
        """Create the database and the experiment where missing, and see what it holds.

        To be done before any worker starts: MLflow's database fails when several
        processes create it at once, hence the lock.
        """
        with find.making(self.store.root):
            self.client = client(self.uri)
            found = self.client.get_experiment_by_name(self.study)
            if found is None:
                found = self._create()
            elif found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
        experiment = found.experiment_id
        question = self.plan.question if self.plan else ""
        note = question or f"The runs of the study {self.study}."
        if found.tags.get("mlflow.note.content") != note:
            self.client.set_experiment_tag(experiment, "mlflow.note.content", note)
            self.client.set_experiment_tag(experiment, "kdbench.study", self.study)
        self._look(experiment)
        self.experiment = experiment

    def _create(self) -> "Experiment":
        """Make the experiment, or take the one that another machine has made just before."""
        from mlflow.exceptions import MlflowException

        where = artifact_location(self.store.root, self.study, self.uri)
        try:
            return self.client.get_experiment(self.client.create_experiment(self.study, where))
        except MlflowException:
            found = self.client.get_experiment_by_name(self.study)
            if found is None:
                raise
            return found

    def _look(self, experiment: str) -> None:
        """Find the runs that are there; a doubled one is not chosen."""
        self._runs, self._groups, self.doubled = {}, {}, set()
        for run in sorted(find.all_runs(self.client, experiment), key=find.preference):
            tags = run.data.tags
            if "kdbench.id" in tags:
                run_id = tags["kdbench.id"]
                if self._runs.setdefault(run_id, run) is not run:
                    self.doubled.add(run_id)
            elif "kdbench.group" in tags:
                found = (run.info.run_id, run.info.status)
                self._groups.setdefault(tags["kdbench.group"], found)

    @property
    def plan(self) -> PlanFile | None:
        """The study's plan as it stands on disk, read again when it changed; None before."""
        path = self.store.plan_path(self.study)
        try:
            age = path.stat().st_mtime_ns
        except FileNotFoundError:
            return self._plan[1]
        if age != self._plan[0]:
            self._plan = (age, PlanFile.load(path))
        return self._plan[1]

    @property
    def selection(self) -> str:
        """`last` or `best`: which weights the study's tables are about."""
        return self.plan.selection if self.plan else "last"

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes, where the plan gives them."""
        return (self.plan.data.classes or None) if self.plan and self.plan.data else None

    # -- one run

    def level(self, run_id: str, entry: PlannedRun, live: bool = False) -> bool:
        """Bring one run level with its record; whether there was anything to do.

        `entry` is the run's line of the plan's listing; `live` says that the run is being
        trained now, otherwise an unfinished one counts as interrupted. A record that has
        not been begun is left out. Raises `find.Levelling` where another process is at
        this very record, and what MLflow raises.
        """
        record = self.store.record(run_id)
        spec = record.spec()
        if spec is None:
            return False
        # All is read under the lock, so that what is logged is never older than what
        # another process has logged before.
        with find.levelling(record, self.patience):
            try:
                return self._level(record, spec, entry, live)
            except Exception:
                # What was known of the run may be what is wrong: it may be deleted.
                self._runs.pop(run_id, None)
                raise

    def _level(self, record: Record, spec: RunSpec, entry: PlannedRun, live: bool) -> bool:
        word, status = summary.state(record, live)
        result, epochs, start = record.result, record.epochs(), content.start_of(record)
        wanted = content.tags(record, spec, entry, self.study, word)
        wanted["mlflow.parentRunId"] = self._group(entry.group)
        wanted["mlflow.runName"] = entry.name
        known = self._known(record, wanted, start)
        before = json.dumps(known, sort_keys=True)
        start = known["start"]

        params = content.params(spec, result)
        once = self._once(record, entry, known)
        points = content.curve_points(epochs, known["epochs"], start)
        points += self._once_points(record, once, known, len(epochs))
        self._log(
            known["run"],
            points,
            {k: v for k, v in params.items() if k not in known["params"]},
            {k: v for k, v in wanted.items() if known["tags"].get(k) != v},
        )
        known["epochs"] = max([known["epochs"], *(row["epoch"] for row in epochs)])
        known["params"] = sorted({*known["params"], *params})
        known["tags"] |= wanted
        known["once"] |= once
        if not known["inputs"]:
            self._log_dataset(known["run"], spec)
            known["inputs"] = True
        if result is not None and not known["files"] and entry.kind in WITH_FILES:
            # A final is scored after it is finished: its files wait for that score.
            known["files"] = self._log_files(known["run"], record)
        self._set_status(known, status, content.end_of(result))
        changed = json.dumps(known, sort_keys=True) != before
        if changed or self._remembered(record) != known:
            self._remember(record, known)
        return changed

    def _known(self, record: Record, tags: dict[str, str], start: int) -> Known:
        """What MLflow holds of a record, as far as is known; its run is made where missing."""
        remembered = self._remembered(record)
        run = self._runs.get(record.id)
        if run is not None and remembered and remembered["run"] == run.info.run_id:
            return remembered

        def make() -> "Run":
            name = tags["mlflow.runName"]
            return self.client.create_run(
                self.experiment, start_time=start, tags=tags, run_name=name
            )

        known: Known = {}
        while not known:
            run, made = find.found_or_made(
                self.client, self.store.root, self.experiment, "kdbench.id", record.id, make
            )
            self._runs[record.id] = run
            if made:
                known = new_state(run)
                self._remember(record, known)
            elif remembered and remembered["run"] == run.info.run_id:
                known = remembered
            else:
                known = self._recover(run, record)
        return known

    def _remembered(self, record: Record) -> Known | None:
        """What mlflow.json says of this store and experiment."""
        known = read_state(record).get(self.key, {})
        return {name: known[name] for name in KNOWN} if set(KNOWN) <= set(known) else None

    def _recover(self, run: "Run", record: Record) -> Known:
        """What MLflow holds of a run, asked of MLflow itself.

        {} after deleting a run whose curves are not the record's: MLflow can add points
        but not take them back.
        """
        run_id = run.info.run_id
        run = self.client.get_run(run_id)  # what was listed may be older
        data = run.data
        said = {
            (content.name_of(key), row["epoch"]): value
            for row in record.epochs()
            for key, value in row.items()
        }
        last = 0
        for key in data.metrics:
            if key.startswith(content.ONCE):
                continue
            points = self.client.get_metric_history(run_id, key)
            steps = [point.step for point in points]
            wrong = any(said.get((key, p.step)) != p.value for p in points)
            if wrong or len(set(steps)) < len(steps):
                self.client.delete_run(run_id)
                del self._runs[record.id]
                return {}
            # All of an epoch's metrics are logged in one go, so one tells for all; the
            # latest, should another have stopped being finite.
            last = max([last, *steps])
        return new_state(run) | {
            "epochs": last,
            "params": sorted(data.params),
            "tags": {k: v for k, v in data.tags.items() if k.startswith(("kdbench.", "mlflow."))},
            "once": {k: v for k, v in data.metrics.items() if k.startswith(content.ONCE)},
            "inputs": bool(run.inputs and run.inputs.dataset_inputs),
        }

    def _remember(self, record: Record, known: Known) -> None:
        """Write what MLflow holds beside the record."""
        where = {"store": safe_uri(self.uri), "experiment": self.study}
        write_json(record.folder / "mlflow.json", read_state(record) | {self.key: known | where})

    # -- its parts

    def _once(self, record: Record, entry: PlannedRun, known: Known) -> dict[str, float]:
        """The metrics that the run has once, and that MLflow lacks or has otherwise."""
        found = content.results(record, self.classes)
        if entry.kind == "final" and record.result is not None:
            path = self.store.costs_path(self.study)
            found |= content.measured_costs(path, entry.label)
            if entry.teacher and record.test and "test.kl" not in known["once"]:
                teacher = self.store.record(entry.teacher)
                found |= summary.fidelity(record, teacher, self.selection) or {}
        return {key: value for key, value in found.items() if known["once"].get(key) != value}

    def _once_points(
        self, record: Record, once: Mapping[str, float], known: Known, step: int
    ) -> list[content.Point]:
        """`once` as points: at the end of the run, or after the one that is replaced."""
        end = content.end_of(record.result) or known["start"]
        points = []
        for key, value in once.items():
            if key not in known["once"]:
                points.append(content.Point(key, value, end, step))
                continue
            # MLflow shows the latest of the highest step as the value. "Latest" is made
            # from what is there and not from a clock, which may have been set back; and
            # what is there may be this value, where only the answer was lost.
            history = self.client.get_metric_history(known["run"], key)
            last = max(history, key=lambda p: (p.step, p.timestamp))
            if last.value != value:
                step_now = max(step, last.step)
                points.append(content.Point(key, value, last.timestamp + 1, step_now))
        return points

    def _log(
        self,
        run: str,
        points: list[content.Point],
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        """Log all of these in as few requests as MLflow's limits allow."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(p.key, p.value, p.timestamp, p.step) for p in points]
        names = [Param(k, v) for k, v in params.items()]
        labels = [RunTag(k, v) for k, v in tags.items()]
        while metrics or names or labels:
            room = METRICS - len(names[:NAMES]) - len(labels[:NAMES])
            self.client.log_batch(run, metrics[:room], names[:NAMES], labels[:NAMES])
            metrics, names, labels = metrics[room:], names[NAMES:], labels[NAMES:]

    def _log_dataset(self, run: str, spec: RunSpec) -> None:
        """Tell what the run was trained on, as MLflow's data set input."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = Dataset(**content.dataset(spec.data))
        use = [InputTag("mlflow.data.context", "training")]
        self.client.log_inputs(run, [DatasetInput(data, use)])

    def _log_files(self, run: str, record: Record) -> bool:
        """Copy a run's files into MLflow; False where they are not all there yet."""
        if record.test is None and record.result["state"] == "done":  # type: ignore[index]
            return False
        for left in record.folder.glob(".mlflow.*"):  # by a process that was killed here
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=record.folder, prefix=".mlflow.") as name:
            artifacts.gather(record, Path(name), self.selection, self.classes)
            self.client.log_artifacts(run, name)
        return True

    def _set_status(self, known: Known, status: str, end: int | None) -> None:
        """End the run, or open it again."""
        if known["status"] == status:
            return
        if status == "RUNNING":
            self.client.update_run(known["run"], status=status)
        else:
            self.client.set_terminated(known["run"], status, end)
        known["status"] = status

    # -- groups, the study itself

    def _group(self, name: str) -> str:
        """The run that stands for a method (or for the teachers), made where missing."""
        if name not in self._groups:
            about = "The teachers of" if name == "teachers" else f"{name}: trials and finals in"
            tags = {
                "kdbench.kind": "method",
                "kdbench.group": name,
                "kdbench.study": self.study,
                "mlflow.source.name": "kdbench",
                "mlflow.note.content": f"{about} the study {self.study}.",
            }
            run, _ = find.found_or_made(
                self.client,
                self.store.root,
                self.experiment,
                "kdbench.group",
                name,
                lambda: self.client.create_run(self.experiment, tags=tags, run_name=name),
            )
            self._groups[name] = (run.info.run_id, run.info.status)
        return self._groups[name][0]

    def settle(self) -> None:
        """End the groups' runs: they have no work of their own."""
        for name, (run, status) in list(self._groups.items()):
            if status != "FINISHED":
                self.client.set_terminated(run, "FINISHED")
                self._groups[name] = (run, "FINISHED")

    # -- all of it

    def invalidate(self, record: Record) -> None:
        """Forget what is remembered of a record where MLflow holds something else."""
        with find.levelling(record, self.patience):
            known, run = self._remembered(record), self._runs.get(record.id)
            if known is None or (run is not None and self._agrees(known, run, record)):
                return
            rest = {key: other for key, other in read_state(record).items() if key != self.key}
            write_json(record.folder / "mlflow.json", rest)

    def _agrees(self, known: Known, run: "Run", record: Record) -> bool:
        """Whether MLflow holds what is remembered: cheap, from the run as it was listed."""
        latest = dict(known["once"])
        for row in record.epochs()[known["epochs"] - 1 : known["epochs"]]:
            latest |= {content.name_of(k): v for k, v in row.items() if summary.finite(v)}
            latest.pop("epoch")
        metrics, status = run.data.metrics, run.info.status
        return (
            known["run"] == run.info.run_id
            and known["status"] == status
            and all(metrics.get(key) == value for key, value in latest.items())
            and all(run.data.tags.get(key) == value for key, value in known["tags"].items())
            and set(known["params"]) <= set(run.data.params)
            and known["inputs"] == bool(run.inputs and run.inputs.dataset_inputs)
        )


def sync(
    store: Store,
    study: str,
    uri: str,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Bring the study's experiment level with the records of its plan.

    Nothing remembered is believed unless MLflow agrees, so a lost database is rebuilt.
    Returns how many runs were `level` already, `updated`, and `absent` (not begun), and
    where there are any, how many ids are `doubled`: `stale` names their runs. `progress`
    is told (runs done, runs in all). Raises `LookupError` where the study has no plan,
    `find.Levelling` where another process holds a record for minutes, and what MLflow
    raises.
    """
    tracker = Tracker(store, study, uri, patience=find.PATIENCE)
    if not tracker.plan:
        raise LookupError(f"study {study!r} has no plan in {store.root}: it was never run there")
    tracker.open()
    listing = tracker.plan.listing
    counts: Counter[str] = Counter(level=0, updated=0, absent=0)
    if tracker.doubled:
        counts["doubled"] = len(tracker.doubled)
    for done, (run_id, entry) in enumerate(listing.items(), 1):
        record = store.record(run_id)
        if record.spec() is None:
            counts["absent"] += 1
        else:
            tracker.invalidate(record)
            changed = tracker.level(run_id, entry, live=is_busy(record))
            counts["updated" if changed else "level"] += 1
        if progress:
            progress(done, len(listing))
    tracker.settle()
    return dict(counts)


def is_busy(record: Record) -> bool:
    """Whether the record is unfinished and another process is writing it just now."""
    # Asking takes the lock for a moment, and makes the folder where there is none.
    if record.result is not None or not (record.folder / "spec.json").exists():
        return False
    with suppress(RecordBusy), record.writing():
        return False
    return True
