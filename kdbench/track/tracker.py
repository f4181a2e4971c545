"""One study's experiment in MLflow, brought level with the records. Errors are raised here.

`level` looks at what the record says and at what MLflow is known to hold, and logs the
difference; calling it again changes nothing. What MLflow holds is remembered beside the
record, in mlflow.json, and read from MLflow where that memory is missing or wrong.
"""

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from kdbench.run import RunSpec
from kdbench.store import Record, RecordBusy, Store, read_json, write_json
from kdbench.track import artifacts, content
from kdbench.track.uris import artifact_location, client, safe_uri

if TYPE_CHECKING:
    from mlflow.entities import Run

#: MLflow takes so many metrics, and so many parameters or tags, in one request.
METRICS, NAMES = 1000, 100

#: Kinds of runs whose files are kept in MLflow.
WITH_FILES = ("final", "teacher")

Known = dict[str, Any]


class Tracker:
    """The MLflow side of a study. Not for several threads at once."""

    def __init__(self, store: Store, study: str, uri: str) -> None:
        self.store = store
        self.study = study
        self.uri = uri
        #: By which mlflow.json knows this store and experiment; the address may hold secrets.
        self.key = hashlib.sha256(f"{uri}\n{study}".encode()).hexdigest()[:12]
        self.experiment = ""
        self._runs: dict[str, Run] = {}
        self._groups: dict[str, tuple[str, str]] = {}
        self._plan: tuple[float, dict[str, Any]] = (-1.0, {})

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
        self.store.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.store.root / ".mlflow.lock"):
            self.client = client(self.uri)
            found = self.client.get_experiment_by_name(self.study)
            if found is None:
                where = artifact_location(self.store.root, self.study, self.uri)
                experiment = self.client.create_experiment(self.study, where)
            else:
                experiment = found.experiment_id
                if found.lifecycle_stage == "deleted":
                    self.client.restore_experiment(experiment)
        note = self.plan.get("question") or f"The runs of the study {self.study}."
        if found is None or found.tags.get("mlflow.note.content") != note:
            self.client.set_experiment_tag(experiment, "mlflow.note.content", note)
            self.client.set_experiment_tag(experiment, "kdbench.study", self.study)
        self._look(experiment)
        self.experiment = experiment

    def _look(self, experiment: str) -> None:
        """Find the runs that are there, oldest first, so that a doubled one is never chosen."""
        self._runs, self._groups = {}, {}
        for run in all_runs(self.client, experiment):
            tags = run.data.tags
            if "kdbench.id" in tags:
                self._runs.setdefault(tags["kdbench.id"], run)
            elif "kdbench.group" in tags:
                found = (run.info.run_id, run.info.status)
                self._groups.setdefault(tags["kdbench.group"], found)

    @property
    def plan(self) -> dict[str, Any]:
        """The study's plan as it stands on disk, read again when it changed; {} before."""
        path = self.store.plan_path(self.study)
        try:
            age = path.stat().st_mtime_ns
        except FileNotFoundError:
            return self._plan[1]
        if age != self._plan[0]:
            self._plan = (age, read_json(path) or {})
        return self._plan[1]

    @property
    def selection(self) -> str:
        """`last` or `best`: which weights the study's tables are about."""
        return self.plan.get("selection", "last")

    @property
    def classes(self) -> list[str] | None:
        """The names of the classes, where the plan gives them."""
        return self.plan.get("data", {}).get("classes")

    # -- one run

    def level(self, run_id: str, entry: Mapping[str, Any], live: bool = False) -> bool:
        """Bring one run level with its record; whether there was anything to do.

        `entry` is the run's line of the plan's listing; `live` says that the run is being
        trained now, otherwise an unfinished one counts as interrupted. A record that has
        not been begun is left out. Raises what MLflow raises.
        """
        record = self.store.record(run_id)
        spec = record.spec()
        if spec is None:
            return False
        word, status = content.state(record, live)
        result, epochs, start = record.result, record.epochs(), content.start_of(record)
        wanted = content.tags(record, spec, entry, self.study, word)
        wanted["mlflow.parentRunId"] = self._group(entry["group"])
        wanted["mlflow.runName"] = entry["name"]
        known = self._known(record)
        before = json.dumps(known, sort_keys=True)
        if not known:
            run = self.client.create_run(
                self.experiment, start_time=start, tags=wanted, run_name=entry["name"]
            )
            known |= blank(run)
            self._runs[run_id] = run
            self._remember(record, known)
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
        if result is not None and not known["files"] and entry["kind"] in WITH_FILES:
            # A final is scored after it is finished: its files wait for that score.
            known["files"] = self._log_files(known["run"], record)
        self._set_status(known, status, content.end_of(result))
        changed = json.dumps(known, sort_keys=True) != before
        if changed:
            self._remember(record, known)
        return changed

    def _known(self, record: Record) -> Known:
        """What MLflow holds of a record, as far as is known; {} where it has no such run."""
        known = (read_json(record.folder / "mlflow.json") or {}).get(self.key)
        run = self._runs.get(record.id)
        if run is None:
            return {}
        if known is None or known["run"] != run.info.run_id:
            return self._recover(run, record)
        return known

    def _recover(self, run: "Run", record: Record) -> Known:
        """What MLflow holds of a run, asked of MLflow itself.

        {} after deleting a run whose curves are not the record's: MLflow can add points
        but not take them back.
        """
        run_id = run.info.run_id
        data = self.client.get_run(run_id).data
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
        return blank(run) | {
            "epochs": last,
            "params": sorted(data.params),
            "tags": {k: v for k, v in data.tags.items() if k.startswith(("kdbench.", "mlflow."))},
            "once": {k: v for k, v in data.metrics.items() if k.startswith(content.ONCE)},
            "inputs": bool(run.inputs and run.inputs.dataset_inputs),
        }

    def _remember(self, record: Record, known: Known) -> None:
        """Write what MLflow holds beside the record."""
        path = record.folder / "mlflow.json"
        where = {"store": safe_uri(self.uri), "experiment": self.study}
        write_json(path, (read_json(path) or {}) | {self.key: known | where})

    # -- its parts

    def _once(self, record: Record, entry: Mapping[str, Any], known: Known) -> dict[str, float]:
        """The metrics that the run has once, and that MLflow lacks or has otherwise."""
        found = content.results(record, self.classes)
        if entry["kind"] == "final" and record.result is not None:
            path = self.store.calibration_path(self.study)
            found |= content.calibrated(path, entry["label"])
            if entry.get("teacher") and record.test and "test.kl" not in known["once"]:
                teacher = self.store.record(entry["teacher"])
                found |= content.fidelity(record, teacher, self.selection) or {}
        return {key: value for key, value in found.items() if known["once"].get(key) != value}

    def _once_points(
        self, record: Record, once: Mapping[str, float], known: Known, step: int
    ) -> list[content.Point]:
        """`once` as points: at the end of the run, or now where a value is replaced."""
        end = content.end_of(record.result) or known["start"]
        return [
            # MLflow shows the latest timestamp as the value.
            content.Point(key, value, content.now() if key in known["once"] else end, step)
            for key, value in once.items()
        ]

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
            run = self.client.create_run(self.experiment, tags=tags, run_name=name)
            self._groups[name] = (run.info.run_id, "RUNNING")
        return self._groups[name][0]

    def settle(self) -> None:
        """End the groups' runs: they have no work of their own."""
        for name, (run, status) in list(self._groups.items()):
            if status != "FINISHED":
                self.client.set_terminated(run, "FINISHED")
                self._groups[name] = (run, "FINISHED")

    # -- all of it

    def distrust(self, record: Record) -> None:
        """Forget what is remembered of a record where MLflow holds something else."""
        path = record.folder / "mlflow.json"
        book = read_json(path) or {}
        known, run = book.get(self.key), self._runs.get(record.id)
        if known is None or (run is not None and self._agrees(known, run, record)):
            return
        del book[self.key]
        write_json(path, book)

    def _agrees(self, known: Known, run: "Run", record: Record) -> bool:
        """Whether MLflow holds what is remembered: cheap, from the run as it was listed."""
        latest = dict(known["once"])
        for row in record.epochs()[known["epochs"] - 1 : known["epochs"]]:
            latest |= {content.name_of(k): v for k, v in row.items() if content.finite(v)}
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


def blank(run: "Run") -> Known:
    """What is known of a run that holds nothing but its tags."""
    return {
        "run": run.info.run_id,
        "start": run.info.start_time,
        "status": run.info.status,
        "epochs": 0,
        "params": [],
        "tags": dict(run.data.tags),
        "once": {},
        "inputs": False,
        "files": False,
    }


def all_runs(client: Any, experiment: str) -> Iterable["Run"]:
    """Every run of an experiment that is not deleted, oldest first."""
    token = None
    while True:
        page = client.search_runs(
            [experiment],
            max_results=1000,
            order_by=["attributes.start_time ASC"],
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def sync(
    store: Store,
    study: str,
    uri: str,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Bring the study's experiment level with the records of its plan.

    Nothing remembered is believed unless MLflow agrees, so a lost database is rebuilt.
    Returns how many runs were `level` already, `updated`, and `absent` (not begun).
    `progress` is told (runs done, runs in all). Raises `LookupError` where the study has
    no plan, and what MLflow raises.
    """
    tracker = Tracker(store, study, uri)
    if not tracker.plan:
        raise LookupError(f"study {study!r} has no plan in {store.root}: it was never run there")
    tracker.open()
    listing = tracker.plan["listing"]
    counts: Counter[str] = Counter(level=0, updated=0, absent=0)
    for done, (run_id, entry) in enumerate(listing.items(), 1):
        record = store.record(run_id)
        if record.spec() is None:
            counts["absent"] += 1
        else:
            tracker.distrust(record)
            changed = tracker.level(run_id, entry, live=is_busy(record))
            counts["updated" if changed else "level"] += 1
        if progress:
            progress(done, len(listing))
    tracker.settle()
    return dict(counts)


def is_busy(record: Record) -> bool:
    """Whether another process is writing the record just now."""
    with suppress(RecordBusy), record.writing():
        return False
    return True
