"""`kdbench study` from its options to its leaderboard."""

import os
import shlex
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from kdbench import data, report
from kdbench import tracking as track
from kdbench.execution.driver import Interrupted, Mirror, Sweep
from kdbench.execution.engines.local import LocalEngine
from kdbench.execution.engines.worker import Place
from kdbench.records.store import Store
from kdbench.study import Plan, Planner, plan_file
from kdbench.study.load import StudyError, load_study
from kdbench.study.schema import Study, did_you_mean
from kdbench.tracking.optuna_log import Ledger
from kdbench.training import memory

#: Seconds between two plain lines of progress where there is no terminal.
PLAIN_EVERY = 15.0
#: Seconds that MLflow gets at the end to catch up; `kdbench sync` does the rest.
MIRROR_PATIENCE = 600.0


@dataclass(frozen=True)
class Options:
    """What a person asked for on the command line."""

    study: str
    root: Path
    data_dir: Path | None = None
    workers: int | None = None
    device: str = "auto"
    only: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    changes: dict[str, Any] = field(default_factory=dict)
    tune: bool = True
    dry_run: bool = False
    retry: bool = True


class Usage(Exception):
    """An option that cannot be met; the message says what to do."""


def conduct(options: Options, console: Console) -> int:
    """Carry the study out; the exit code. Raises the errors that `cli` turns into one line."""
    study = chosen(options)
    device = pick_device(options.device)
    images = planned_on(study, options)
    store = Store(options.root)
    planner = Planner(study, images, store, tune=options.tune)
    if options.dry_run:
        show_plan(planner, console)
        return 0
    uri = track.tracking_uri(options.root)
    with Watch(console) as watcher:
        mirror = track.Mirror(store, study.name, uri, on_trouble=watcher.say)
        mirror.open()
        mirror.start()
        try:
            sweep = carry_out(planner, store, options, device, mirror, watcher)
        except Interrupted:
            plain(
                console,
                "Stopped. Every finished run and the last epoch of the others are kept; "
                f"to go on: {again()}",
            )
            return 130
        finally:
            watcher.say("bringing MLflow level ...")
            behind = mirror.close(MIRROR_PATIENCE)
            if behind:
                plain(
                    console,
                    f"MLflow is {behind} runs behind the records; `kdbench sync {study.name}` "
                    "brings it level.",
                )
    publish(store, study.name, mirror, console)
    for name, error in sweep.failures().items():
        plain(console, f"failed  {name}: {error}")
    return 1 if sweep.failures() else 0


def planned_on(study: Study, options: Options) -> data.TrainingData:
    """The study's training data as far as planning needs it; all of its files are checked.
    Raises `DataError`."""
    images = data.load(study.data.name, options.data_dir).without_pixels()
    data.verify_test_files(study.data.name, options.data_dir)
    memory.trim()
    return images


def carry_out(
    planner: Planner,
    store: Store,
    options: Options,
    device: str,
    mirror: Mirror,
    watcher: "Watch",
) -> Sweep:
    """Train and score everything that the plan needs, with worker processes."""
    place = Place(options.root, planner.study.data.name, options.data_dir, device)
    engine = LocalEngine(place, workers(options.workers, device))
    sweep = Sweep(
        planner,
        store,
        engine,
        mirror,
        watcher,
        Ledger(options.root, watcher.say),
        device,
        options.retry,
    )
    try:
        sweep.run()
    finally:
        engine.close()
    return sweep


class Quiet:
    """A mirror without MLflow behind it, for runs that belong to no study."""

    def touch(self, run_id: str, listing: Mapping[str, Any]) -> None:
        """Nobody is told."""


def chosen(options: Options) -> Study:
    """The study with the command line's choices made. Raises `StudyError` on wrong ones."""
    changes = dict(options.changes)
    if options.seeds:
        changes["final.seeds"] = list(options.seeds)
    study = load_study(options.study, changes)
    if not options.only:
        return study
    labels = [entry.label for entry in study.methods]
    wrong = [label for label in options.only if label not in labels]
    if wrong:
        raise StudyError(
            study.name, [f"--only: no method {w!r} in it{did_you_mean(w, labels)}" for w in wrong]
        )
    # Differences need the reference, whatever else is left out.
    keep = {*options.only, study.report.reference}
    return study.model_copy(update={"methods": tuple(e for e in study.methods if e.label in keep)})


def pick_device(wanted: str) -> str:
    """`cpu` or `cuda`. Raises `Usage` where CUDA was asked for and is not there."""
    import torch

    if wanted not in ("auto", "cpu", "cuda"):
        raise Usage(f"--device {wanted}: take auto, cpu or cuda")
    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise Usage(
            "--device cuda: torch finds no CUDA device here. Check the driver (nvidia-smi) and "
            "that torch is a CUDA build, or take --device cpu."
        )
    return "cuda" if there and wanted != "cpu" else "cpu"


def workers(wanted: int | None, device: str) -> int:
    """How many worker processes: what was asked for, or one a GPU, or one a core."""
    if wanted is not None:
        return wanted
    if device == "cuda":
        import torch

        return torch.cuda.device_count()
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def publish(store: Store, study: str, mirror: track.Mirror, console: Console) -> None:
    """Build the leaderboard from MLflow, show it, and say where things are."""
    try:
        board, paths = report.build(store, study)
    except report.Behind:
        track.sync(store, study, track.tracking_uri(store.root))
        board, paths = report.build(store, study)
    mirror.attach_report(store.report_folder(study))
    console.print(report.terminal(board))
    plain(console, f"leaderboard  {paths[0].parent}")
    uri = track.safe_uri(track.tracking_uri(store.root))
    plain(console, f"MLflow       {uri}  (kdbench ui)")
    plain(console, f"Optuna       {Ledger(store.root).where()}  (optuna-dashboard)")


def plain(console: Console, text: str) -> None:
    """A line as it is: what looks like markup is none, and a command or path stays whole."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def show_plan(planner: Planner, console: Console) -> None:
    """What the study would run, without running it."""
    plan: Plan = planner.plan()
    content = plan_file(planner, plan)
    kinds = [listing["kind"] for listing in content["listing"].values()]
    table = Table(title=Text(f"{content['study']}: {content['question']}"))
    for heading in ("method", "row", "knobs", "frozen outputs", "trials", "finals"):
        table.add_column(heading)
    for row in content["rows"]:
        knobs = ", ".join(
            f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in row["knobs"].items()
        )
        if row["unfit"]:
            knobs = f"cannot serve: {row['unfit']}"
        elif row["row"] == "tuned" and not row["runs"]:
            knobs = "tuned: " + ", ".join(row["searched"])
        finals = len(row["runs"]) or (len(planner.study.final.seeds) if not row["unfit"] else 0)
        trials = str(len(row["trials"]) or "")
        ways = ", ".join(f"{role}: {way}" for role, way in row["outputs"].items())
        table.add_row(row["label"], row["row"], Text(knobs), ways, trials, str(finals))
    console.print(table)
    over = sum(planner.store.record(i).result is not None for i in plan.nodes)
    later = plan.open * len(planner.study.final.seeds)
    counts = ", ".join(f"{kinds.count(k)} {k}" for k in dict.fromkeys(kinds))
    more = f" and up to {later} finals of tuned knobs" if later else ""
    console.print(f"{len(kinds)} runs known ({counts}){more}; {over} are finished already.")


def again() -> str:
    """The command that was given, for going on with it."""
    return shlex.join(["kdbench", *sys.argv[1:]])


class Watch:
    """Progress for a person: a bar with an estimate on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._started = time.monotonic()
        self._first: float | None = None
        self._printed = 0.0
        columns: Iterable[Any] = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("planning", total=None)

    def __enter__(self) -> "Watch":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def plan(self, runs: int, over: int, work: float, worked: float) -> None:
        """Show how far the study is."""
        text = f"{over} of {runs} runs"
        self._bar.update(self._task, description=text, total=work, completed=worked)
        if self._first is None:
            self._first = worked
        now = time.monotonic()
        if self.console.is_terminal or now - self._printed < PLAIN_EVERY:
            return
        self._printed = now
        gained = worked - self._first
        left = (work - worked) * (now - self._started) / gained if gained else None
        estimate = f", about {left / 60:.1f} min left" if left is not None else ""
        plain(self.console, f"{text}, {100 * worked / work:.0f} % of the work{estimate}")

    def say(self, text: str) -> None:
        """A line worth reading."""
        plain(self._bar.console, text)
