"""A study's experiment in MLflow, its runs, and the locks that keep each run single.

Several processes may track one study in one experiment. On one root they use file locks: one
for the root, held only while a run is looked up or created, and one for each record, held
while MLflow is brought up to date with that record. Processes with other roots, on other
machines, share a tracking server and no lock: two of them may create a run for the same id at
the same moment. `sync_study` and `stale_runs` then see a duplicate, and everything here uses
the same one of the two: the finished one, else the older.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from kdbench.errors import KdbenchError
from kdbench.masking import safe_uri
from kdbench.records.measures import ACCURACY, MEASURES, Measure
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Record, Store
from kdbench.tracking.client import artifact_location, client, close_connections, user
from kdbench.tracking.database import check_readable, create_database, is_missing, sqlite_path

if TYPE_CHECKING:
    import mlflow.entities

#: Seconds to wait for the root's lock. Whoever holds it waits for one answer of a server.
LOCK_TIMEOUT = 120.0

#: The experiment's tag for what it is about.
KIND = {"mlflow.experimentKind": "custom_model_development"}


class SyncBusy(KdbenchError, RuntimeError):
    """Another process is bringing MLflow up to date with this record."""


class UnknownExperiment(KdbenchError, LookupError):
    """MLflow has no experiment of this study."""


class StudyExperiment:
    """The experiment of one study. Not for several threads at once.

    `patience` is for how many seconds to wait for another process that brings MLflow up to
    date with the same record. `question` is the study's; by default it is read from the plan.
    """

    def __init__(
        self, store: Store, study: str, uri: str, patience: float = 5.0, question: str = ""
    ) -> None:
        self.store = store
        self.question = question
        self.study = study
        self.uri = uri
        self.patience = patience
        #: The experiment's id; empty until it is open.
        self.id = ""
        #: The MLflow run of each record, by the record's id.
        self.runs: dict[str, mlflow.entities.Run] = {}
        #: Records that had more than one run when the experiment was opened.
        self.duplicated: set[str] = set()
        self._groups: dict[str, tuple[str, str]] = {}  # MLflow's run id and status
        self._plan: tuple[int, PlanFile | None] = (-1, None)  # with the file's time
        self._rows: dict[str, str] = {}

    @property
    def is_open(self) -> bool:
        """Whether `open` has worked."""
        return bool(self.id)

    def open(self) -> None:
        """Create the database and the experiment where missing, and list the runs.

        To be called before any worker starts: MLflow's database fails when several processes
        create it at once, hence the lock. Raises `BrokenDatabase` and what MLflow raises.
        """
        path = sqlite_path(self.uri)
        with root_lock(self.store.root):
            if path is not None and is_missing(path):
                create_database(path, _make_tables)
            elif path is not None:
                check_readable(path)
            self.client = client(self.uri)
            experiment = self.client.get_experiment_by_name(self.study)
            if experiment is None:
                experiment = self._create()
            elif experiment.lifecycle_stage == "deleted":
                self.client.restore_experiment(experiment.experiment_id)
        question = self.question or (self.plan.question if self.plan else "")
        note = question or f"The runs of the study {self.study}."
        # The answer of a report may stand behind it.
        if not experiment.tags.get("mlflow.note.content", "").startswith(note):
            self.client.set_experiment_tag(experiment.experiment_id, "mlflow.note.content", note)
            # The kind has MLflow show the runs first, and not pages on language models.
            for key, value in {"kdbench.study": self.study, **KIND}.items():
                self.client.set_experiment_tag(experiment.experiment_id, key, value)
        self._list_runs(experiment.experiment_id)
        self.id = experiment.experiment_id

    def _create(self) -> "mlflow.entities.Experiment":
        """Create the experiment, or take the one that another machine has created just now."""
        from mlflow.exceptions import MlflowException

        location = artifact_location(self.store.root, self.study, self.uri)
        try:
            return self.client.get_experiment(self.client.create_experiment(self.study, location))
        except MlflowException:
            experiment = self.client.get_experiment_by_name(self.study)
            if experiment is None:
                raise
            return experiment

    def _list_runs(self, experiment: str) -> None:
        """List the runs of the records and of the groups; of duplicates the preferred one."""
        self.runs, self._groups, self.duplicated = {}, {}, set()
        for run in sorted(all_runs(self.client, experiment), key=preference):
            tags = run.data.tags
            if "kdbench.id" in tags:
                run_id = tags["kdbench.id"]
                if self.runs.setdefault(run_id, run) is not run:
                    self.duplicated.add(run_id)
            elif "kdbench.group" in tags:
                group = (run.info.run_id, run.info.status)
                self._groups.setdefault(tags["kdbench.group"], group)

    @property
    def plan(self) -> PlanFile | None:
        """The study's plan, read again whenever its file has changed; None where there is none."""
        path = self.store.plan_path(self.study)
        try:
            changed = path.stat().st_mtime_ns
        except FileNotFoundError:
            return self._plan[1]
        if changed != self._plan[0]:
            self._plan = (changed, plan := PlanFile.load(path))
            named: dict[str, list[str]] = {}
            for row in plan.rows if plan else ():
                for run in row.runs.values():
                    named.setdefault(run, []).append(row.row)
            self._rows = {run: ", ".join(sorted(set(rows))) for run, rows in named.items()}
        return self._plan[1]

    def row_of(self, run_id: str) -> str:
        """The row of the leaderboard that a run is of (`tuned`, `default`, `pinned` or `only`), by
        commas where there are two, empty where there is none."""
        return self._rows.get(run_id, "") if self.plan else ""

    @property
    def selection(self) -> str:
        """`last` or `best`: the epoch whose weights the study's tables are about."""
        return self.plan.selection if self.plan else "last"

    @property
    def measure(self) -> Measure:
        """The score that the study's tables are about."""
        return MEASURES[self.plan.measure] if self.plan else ACCURACY

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The names of the classes, where the plan gives them."""
        return (self.plan.data.classes or None) if self.plan and self.plan.data else None

    def run_of(self, record_id: str, tags: Mapping[str, str], start: int) -> tuple[Any, bool]:
        """The MLflow run of a record, and whether it was created now, with these tags."""

        def create() -> "mlflow.entities.Run":
            name, named = tags["mlflow.runName"], {**tags, "mlflow.user": user()}
            return self.client.create_run(self.id, start_time=start, tags=named, run_name=name)

        root = self.store.root
        run, created = find_or_create(self.client, root, self.id, "kdbench.id", record_id, create)
        self.runs[record_id] = run
        return run, created

    def group_run(self, group: str) -> str:
        """The id of the parent run of a method's runs (or the teachers'), created if missing."""
        if group not in self._groups:
            about = "The teachers of" if group == "teachers" else f"{group}: trials and finals in"
            tags = {
                "kdbench.kind": "method",
                "kdbench.group": group,
                "kdbench.study": self.study,
                "mlflow.user": user(),
                "mlflow.source.name": "kdbench",
                "mlflow.note.content": f"{about} the study {self.study}.",
            }
            run, _ = find_or_create(
                self.client,
                self.store.root,
                self.id,
                "kdbench.group",
                group,
                lambda: self.client.create_run(self.id, tags=tags, run_name=group),
            )
            self._groups[group] = (run.info.run_id, run.info.status)
        return self._groups[group][0]

    def end_group_runs(self) -> None:
        """Set the parent runs to FINISHED: nothing is trained in them."""
        for group, (run, status) in list(self._groups.items()):
            if status != "FINISHED":
                self.client.set_terminated(run, "FINISHED")
                self._groups[group] = (run, "FINISHED")


def _make_tables(uri: str) -> None:
    """Have MLflow make its tables in a new SQLite database, and let go of the file."""
    client(uri).search_experiments(max_results=1)
    close_connections(uri)


def find_experiment(study: str, uri: str) -> tuple[Any, str]:
    """A client, and the id of the study's experiment. Raises `UnknownExperiment` and
    `BrokenDatabase`."""
    path = sqlite_path(uri)
    # Asking a SQLite store that is not there would create it.
    if path is None or not is_missing(path):
        if path is not None:
            check_readable(path)
        connected = client(uri)
        experiment = connected.get_experiment_by_name(study)
        if experiment is not None:
            return connected, experiment.experiment_id
    raise UnknownExperiment(
        f"no MLflow experiment {study!r} in {safe_uri(uri)}: run `kdbench study {study}`, "
        f"or `kdbench sync {study}` where it was run already"
    )


@contextmanager
def root_lock(root: Path) -> Iterator[None]:
    """Lock the root while an MLflow run is looked up or created. Raises `TimeoutError`."""
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".mlflow.lock", timeout=LOCK_TIMEOUT):
        yield


@contextmanager
def record_lock(record: Record, patience: float) -> Iterator[None]:
    """Lock what MLflow holds of a record, and the record's mlflow.json.

    Raises `SyncBusy` where another process has it locked for longer than `patience` seconds.
    Training uses another lock: it never waits for MLflow.
    """
    lock = FileLock(record.folder / ".sync.lock")
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise SyncBusy(
            f"another process is bringing MLflow up to date with run {record.id}"
        ) from None
    try:
        yield
    finally:
        lock.release()


def preference(run: "mlflow.entities.Run") -> tuple[bool, int, str]:
    """A key that sorts duplicates: the one to use first, that is finished ones, then older."""
    return run.info.status != "FINISHED", run.info.start_time or 0, run.info.run_id


def find_or_create(
    client: Any,
    root: Path,
    experiment: str,
    tag: str,
    value: str,
    create: Callable[[], "mlflow.entities.Run"],
) -> tuple["mlflow.entities.Run", bool]:
    """The run with that tag, and whether `create` was called for it."""
    quote = '"' if "'" in value else "'"
    with root_lock(root):
        runs = client.search_runs([experiment], f"tags.`{tag}` = {quote}{value}{quote}")
        return (min(runs, key=preference), False) if runs else (create(), True)


def all_runs(client: Any, experiment: str) -> Iterator["mlflow.entities.Run"]:
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
