"""From a study and its options to finished runs and a report. The command line only prints."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdbench import data
from kdbench.execution.added_method import not_listed, study_beside
from kdbench.execution.close_tracker import close_tracker
from kdbench.execution.driver import StudyDriver
from kdbench.execution.engines import ENGINES
from kdbench.execution.engines.protocol import EngineOptions, WorkerSettings
from kdbench.execution.errors import InvalidOption
from kdbench.execution.gallery import keep_gallery
from kdbench.execution.given_teacher import check_given_teacher, keep_given_teacher
from kdbench.execution.integrity import report_outdated, set_damaged_aside
from kdbench.execution.protocols import ProgressReporter, RunTracker
from kdbench.execution.signals import StopRequest
from kdbench.models.source_files import keep_sources
from kdbench.records.layout import require_layout
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.report.data.collect import collect_report_data, data_from_records
from kdbench.report.data.taken import keep_base
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.method_table import method_table
from kdbench.report.page.run_pages import write_run_pages
from kdbench.report.write import write_report
from kdbench.study.load import StudyError, changed_study, load_study
from kdbench.study.looks import check_looks
from kdbench.study.plan_file import plan_file
from kdbench.study.planner import Planner
from kdbench.study.probe import probe_methods
from kdbench.study.schema import Study
from kdbench.tracking import BackgroundSync, tracking_uri
from kdbench.tracking.optuna_log import OptunaLog
from kdbench.training import memory


@dataclass(frozen=True)
class Options:
    """What a person asked for.

    `study` is a shipped study's name, a path to a YAML file, or a study that is loaded. `only`
    keeps these labels (and the reference), `seeds` replaces the final seeds and their looks, and
    `changes` maps dotted keys of the study to values. `retry` says whether runs that failed at
    an earlier start are tried again; `engine` is a name in `ENGINES`. `add` names one more method,
    which alone is run beside the rows of the report in the folder `base`. `address` is that of a
    cluster, and `workers_per_gpu` how many workers share a GPU, which is measured where it is None.
    """

    study: str | Study
    root: Path
    data_dir: Path | None = None
    workers: int | None = None
    device: str = "auto"
    only: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)
    tune: bool = True
    dry_run: bool = False
    retry: bool = True
    engine: str = "local"
    add: str = ""
    base: Path | None = None
    address: str | None = None
    workers_per_gpu: int | None = None


def prepare(options: Options) -> tuple[Planner, Store]:
    """The planner of the study that `options` choose, and the store of its records.

    Raises `StudyError`, `DifferentSetting`, `DataError` and `InvalidOption`, and `Misplaced` where
    something of another kind stands in the place of a file or folder of the root.
    """
    check_engine(options)
    study, base = chosen_study(options), None
    if options.base:
        study, base = study_beside(study, options.add, options.base)
    require_layout(options.root)
    pick_device(
        options.device, options.engine
    )  # an unusable one is an error before the data is read
    store = Store(options.root)
    # A damaged plan counts as none, as it is written anew.
    check_looks(study, PlanFile.load_readable(store.plan_path(study.name)), store)
    planner = Planner(study, planning_data(study, options), store, options.tune, base)
    if base:
        base.check(plan_file(planner, planner.plan()), study.final.seeds)
    check_given_teacher(planner)
    probe_plan(planner, options)
    return planner, store


def probe_plan(planner: Planner, options: Options) -> None:
    """Try what the plan's unfinished runs use, before the first of them starts: every method on
    two images, and the shape of the test images. Raises `StudyError` and `DataError`."""
    plan = planner.plan()
    trained = [node for node in plan.nodes.values() if not node.spec.given_weights]
    unfinished = [node for node in trained if planner.graph.result(node.id) is None]
    if unfinished:
        data.check_test_shape(planner.data, options.data_dir)
        probe_methods(planner, plan, unfinished)
        memory.trim()


def chosen_study(options: Options) -> Study:
    """The study with the options' changes made. Raises `StudyError` on wrong ones."""
    changes = asked_changes(options)
    if isinstance(options.study, Study):
        study = changed_study(options.study, changes)
    else:
        study = load_study(options.study, changes)
    if not options.only:
        return study
    labels = [entry.label for entry in study.methods]
    if missing := [label for label in options.only if label not in labels]:
        raise StudyError(study.name, [not_listed(label, labels, study) for label in missing])
    # Differences need the reference, whatever else is left out.
    keep = {*options.only, study.report.reference}
    return study.model_copy(update={"methods": tuple(e for e in study.methods if e.label in keep)})


def asked_changes(options: Options) -> dict[str, Any]:
    """The changes of a study's keys that options ask for."""
    changes = dict(options.changes)
    if options.seeds:
        changes |= {"final.seeds": list(options.seeds), "final.looks": []}
    return changes


def planning_data(study: Study, options: Options) -> data.TrainingData:
    """The study's training data without the pixels, which planning does not need; all of its
    files are checked. Raises `DataError`."""
    images = data.load(study.data.name, options.data_dir).without_pixels()
    data.verify_test_files(study.data.name, options.data_dir)
    memory.trim()
    return images


@dataclass(frozen=True)
class Outcome:
    """What has become of a study: the errors of the runs that failed, by name, whether MLflow
    shows all that the records hold, and the id of its experiment there, empty where it could not
    be asked."""

    failures: Mapping[str, str]
    tracked: bool
    experiment: str


def train_study(
    planner: Planner, store: Store, options: Options, reporter: ProgressReporter
) -> Outcome:
    """Train and score all that the plan needs, damaged records again, show it in MLflow, and choose
    the test images of the report.

    Raises `TeacherFailed` and `Interrupted`, both after MLflow has been brought up to date as
    far as it can be.
    """
    study = planner.study.name
    set_damaged_aside(planner, store, reporter)
    keep_given_teacher(planner, store)
    if planner.base:
        keep_base(store, study, planner.base.data)
    question, uri = planner.study.question, tracking_uri(store.root)
    tracker = BackgroundSync(store, study, uri, reporter.log, question, system_metrics=True)
    stop = StopRequest()
    try:
        with stop:
            tracker.open(stopped=lambda: stop.requested)
            stop.check()
            tracker.start()
            driver = run_plan(planner, store, options, tracker, reporter, stop)
    finally:
        behind = close_tracker(tracker, study, store, reporter, stop.requested)
    OptunaLog(store.root, reporter.log).write(study)  # again, as MLflow's runs are known now
    report_outdated(planner, store, reporter)
    licence = planner.study.report.images
    keep_gallery(store, study, planner.data, licence, options.data_dir, reporter.log)
    return Outcome(driver.failures(), behind == 0, tracker.experiment.id)


def run_plan(
    planner: Planner,
    store: Store,
    options: Options,
    tracker: RunTracker,
    reporter: ProgressReporter,
    stop: StopRequest | None = None,
) -> StudyDriver:
    """Train and score all that the plan needs with the engine of `options`; the driver, which
    knows the failures. Raises `TeacherFailed` and `Interrupted`."""
    device = pick_device(options.device, options.engine)
    settings = WorkerSettings(store.root, planner.study.data.name, options.data_dir, device)
    keep_sources(planner.study.models(), store.root)
    with stop or StopRequest() as stop:
        wanted = EngineOptions(options.workers, options.workers_per_gpu, options.address)
        engine = ENGINES[options.engine](settings, wanted)
        try:
            optuna_log = OptunaLog(store.root, reporter.log)
            driver = StudyDriver(
                planner, store, engine, tracker, reporter, optuna_log, options.retry, stop
            )
            driver.run()
        finally:
            engine.close()
    return driver


def publish_report(
    store: Store, study: str, reporter: ProgressReporter, tracked: bool = True
) -> tuple[Leaderboard, tuple[Path, ...]]:
    """Write the study's report; the leaderboard, and the paths of its files.

    It is made from MLflow, and attached to the study's run there, unless MLflow cannot be asked
    or has not taken all runs (`tracked` is False): then it is made from the records.
    """
    if tracked:
        report_data = collect_report_data(store, study, reporter.log)
    else:
        report_data = data_from_records(store, study)
        reporter.log("the report is made from the records")
    board, paths = write_report(report_data, store.report_folder(study))
    if not report_data.from_records:
        tracker = BackgroundSync(store, study, tracking_uri(store.root), on_trouble=reporter.log)
        if tracker.attach_report(store.report_folder(study), board.answer, method_table(board)):
            write_run_pages(store, report_data)
    return board, paths


def check_engine(options: Options) -> None:
    """Raise `UnknownName` for an engine that there is not, and `InvalidOption` for an address that
    it would not use."""
    ENGINES[options.engine]
    if options.address and options.engine in ("local", "inline"):
        raise InvalidOption(
            f"--address is that of a cluster, and --engine {options.engine} trains on this "
            "machine: take --engine ray, or leave --address out"
        )


def pick_device(wanted: str, engine: str = "local") -> str:
    """`cpu` or `cuda`; what was asked for where an engine's workers may be on other machines,
    which know what they have. Raises `InvalidOption` for another device, and where CUDA was asked
    for and is not there."""
    if wanted == "mps":
        raise InvalidOption(
            "--device mps: kdbench has not been tried on Apple's GPUs, and does not seed their "
            "dropout, so that a run's result would depend on the runs beside it. Take --device "
            "cpu, as auto does on a Mac."
        )
    if wanted not in ("auto", "cpu", "cuda"):
        raise InvalidOption(f"--device {wanted}: take auto, cpu or cuda")
    if engine == "ray":
        return wanted
    import torch

    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise InvalidOption(
            "--device cuda: torch finds no CUDA device here. Check the driver (nvidia-smi) and "
            "that torch is a CUDA build, or take --device cpu."
        )
    return "cuda" if available and wanted != "cpu" else "cpu"
