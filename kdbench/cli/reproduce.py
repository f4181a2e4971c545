"""Train one cell of a published leaderboard again, and say whether its score agrees."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from kdbench.cli.progress import ProgressBar, print_line
from kdbench.cli.shell import shown_path
from kdbench.data.load import TrainingData
from kdbench.errors import KdbenchError
from kdbench.execution.given_teacher import keep_given_teacher
from kdbench.execution.protocols import NullTracker
from kdbench.execution.run_study import Options, pick_device, planning_data, probe_plan, run_plan
from kdbench.execution.signals import interrupt_on_signals
from kdbench.records.store import Record, Store
from kdbench.records.summary import test_score
from kdbench.report.data.report_data import ReportData, load
from kdbench.report.rows import TableRow, find_row
from kdbench.stats import lies_within, prediction_interval
from kdbench.study.load import StudyError
from kdbench.study.plan import measure_of
from kdbench.study.planner import Planner
from kdbench.study.schema import Entry, Study
from kdbench.study.students import load_studies

LEVEL = 0.95
#: What a run that learns from another one needs of its record.
SOURCE_FILES = (
    *("spec.json", "metrics.jsonl", "weights.safetensors"),
    *("result.json", "test.json", "test.npz"),
)
#: Below this many published seeds (the new one left out) there is no interval.
FEWEST_SEEDS = 2


class CannotReproduce(KdbenchError):
    """The cell cannot be trained again as it was published; the message says why."""


@dataclass(frozen=True)
class Cell:
    """What is trained again: a row of a report, and one seed."""

    study: Study
    report: ReportData
    row: TableRow
    seed: int

    @property
    def other_scores(self) -> dict[int, float]:
        """The published scores of all other seeds, in percentage points."""
        return {s: v for s, v in self.row.scores.items() if s != self.seed}

    def planner(self, images: TrainingData, store: Store) -> Planner:
        """The planner of the cell's run: a learning rate that was tuned is that of the row alone,
        and a teacher has the recipe's."""
        return Planner(self.study, images, store, lr=self.row.plan.hparams.get("recipe.lr"))


def reproduce_cell(
    options: Options, name: str, seed: int, folder: Path, progress: ProgressBar
) -> int:
    """Train row `name` (`rkd`, `rkd:default`) with `seed` again as the report in `folder`
    published it. Exit code 0 where the score lies in the prediction interval of the other
    published seeds, else 1. Raises `CannotReproduce`, and what a study raises.

    It works in `reproduced/` under the root, apart from the study's own records, and takes
    from those only what the run learns from (a teacher) where that is finished.
    """
    cell = published_cell(str(options.study), name, seed, folder)
    images = planning_data(cell.study, options)
    published = cell.report.plan.data
    checksum = published.checksum if published else None
    if images.checksum != checksum:
        raise CannotReproduce(
            f"the training images differ: checksum {images.checksum}, published {checksum}"
        )
    pick_device(options.device)
    store = Store(options.root / "reproduced")
    planner = cell.planner(images, store)
    run = final_run(planner, cell)
    copy_sources(Store(options.root), store, planner, run)
    keep_given_teacher(planner, store)
    if store.record(run).test is not None:
        record = shown_path(store.record(run).folder)
        print_line(progress.console, f"trained here before; remove {record} to train it once more")
    probe_plan(planner, options)
    with interrupt_on_signals(), progress:
        driver = run_plan(planner, store, options, NullTracker(), progress)
    for label, error in driver.failures().items():
        raise CannotReproduce(f"{label} failed: {error}")
    score = score_of(store, run, cell.study)
    for line in sentences(cell, run, score):
        print_line(progress.console, line)
    return 0 if lies_within(prediction_interval(cell.other_scores, LEVEL), score) else 1


def published_cell(study: str, name: str, seed: int, folder: Path) -> Cell:
    """The cell as the report in `folder` published it.

    Raises `NoReportData` where there is no report, `UnknownRow` for a row it lacks,
    `CannotReproduce` where the study file has changed since or lacks a method that `--add` ran,
    seeds are too few, or the row was tuned with the seed.
    """
    report = load(folder)
    row = find_row(report, name)
    if row.plan.incompatible:
        raise CannotReproduce(f"{name} has no runs: {row.plan.incompatible}")
    studies = load_studies(study).studies
    taken = report.plan.taken
    names = {report.plan.study, taken.report if taken else ""}
    same = [s for s in studies if len(studies) == 1 or s.name in names]
    if not same:
        found = ", ".join(s.name for s in studies)
        raise CannotReproduce(f"the report is of '{report.plan.study}', and {study} has {found}")
    listed = any(entry.label == row.label for entry in same[0].methods)
    if taken and row.label not in taken.labels and not listed:
        raise CannotReproduce(
            f"'{row.label}' was run beside the report '{taken.report}' with --add: add it to the "
            f"`methods:` of {study}, or of a copy of it, as it was given to --add"
        )
    tune = same[0].tune
    confirmed = tune.confirm.seeds if tune and tune.confirm else ()
    if tune and row.row == "tuned" and seed in (*tune.seeds, *confirmed):
        raise CannotReproduce(
            f"seed {seed} is one of those with which the study chose the hyperparameters of "
            f"{name}: it cannot judge them; take another"
        )
    cell = Cell(pinned_study(same[0], row, seed), report, row, seed)
    if len(cell.other_scores) < FEWEST_SEEDS:
        raise CannotReproduce(
            f"{name} has {len(cell.other_scores)} published seeds beside {seed}; a prediction "
            f"interval needs {FEWEST_SEEDS}"
        )
    return cell


def pinned_study(study: Study, row: TableRow, seed: int) -> Study:
    """The study cut down to one method with the published hyperparameters, and one seed."""
    entries = [e for e in study.methods if e.label == row.label]
    if not entries:
        raise StudyError(study.name, [f"the study has no method '{row.label}' any more"])
    hparams = {name: value for name, value in row.plan.hparams.items() if name != "recipe.lr"}
    entry: Entry = entries[0].model_copy(update={"hparams": hparams})
    final = study.final.model_copy(update={"seeds": (seed,), "looks": ()})
    return study.model_copy(update={"methods": (entry,), "tune": None, "final": final})


def final_run(planner: Planner, cell: Cell) -> str:
    """The id of the run to train. Raises `CannotReproduce` where it differs from the
    published run of its seed: then the study file, or a method, has changed since."""
    (row,) = planner.plan().rows
    if row.incompatible:
        raise CannotReproduce(f"{row.label} cannot serve this pair: {row.incompatible}")
    run = row.runs[str(cell.seed)]
    before = cell.row.plan.runs.get(str(cell.seed))
    if before is not None and before != run:
        raise CannotReproduce(
            f"seed {cell.seed} was published as run {before}, but the study as it reads now "
            f"makes run {run}: its recipe, data, teacher or a method's version has changed"
        )
    return run


def copy_sources(source: Store, target: Store, planner: Planner, run: str) -> None:
    """Copy the runs that `run` learns from, where `source` has them finished."""
    for needed in planner.plan().nodes:
        record, copy = source.record(needed), target.record(needed)
        if needed != run and record.result is not None and not copy.folder.exists():
            part = copy.folder.with_name(f".{needed}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            copy_files(record, part)
            part.rename(copy.folder)


def copy_files(record: Record, folder: Path) -> None:
    """Copy the files of a finished record, those that are there. Raises `CorruptRecord` where
    one is a link that leads out of the records: what it names would be copied."""
    for name in SOURCE_FILES:
        if (source := record.path(name)).exists():
            shutil.copyfile(source, folder / name)


def score_of(store: Store, run: str, study: Study) -> float:
    """The study's score on test in percentage points; NaN where the run diverged."""
    record = store.record(run)
    if (test := record.test) is None:
        return math.nan
    return 100 * test_score(record, test, study.final.epoch, measure_of(study))[0]


def sentences(cell: Cell, run: str, score: float) -> list[str]:
    """The new score beside the published ones, in words."""
    name, others = f"{cell.row.label} ({cell.row.row})", cell.other_scores
    if math.isnan(score):
        return [f"{name} seed {cell.seed}, run {run}: diverged, where {len(others)} seeds did not."]
    interval = prediction_interval(others, LEVEL)
    seeds = ", ".join(map(str, others))
    lines = [
        f"{name} seed {cell.seed}, run {run}: {score:.2f} %",
        f"{100 * LEVEL:g} % prediction interval of the published seeds {seeds}: "
        f"[{interval.low:.2f}, {interval.high:.2f}]",
        "inside: the published seeds and this one agree"
        if lies_within(interval, score)
        else "outside: this is not what the published seeds lead one to expect",
    ]
    if cell.seed in cell.row.scores:
        before = cell.row.scores[cell.seed]
        same = "the same" if math.isclose(before, score, abs_tol=1e-9) else "not the same"
        lines.insert(1, f"published for this seed: {before:.2f} %, {same}")
    return lines
