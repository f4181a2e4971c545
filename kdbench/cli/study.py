"""`kdbench study` from its options to its leaderboard."""

import shlex
import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdbench import report
from kdbench import tracking as track
from kdbench.cli.progress import ProgressBar, print_line
from kdbench.execution.errors import Interrupted
from kdbench.execution.run_study import Options, carry_out, pick_device, planned_on
from kdbench.records.store import Store
from kdbench.registry import did_you_mean
from kdbench.study import Plan, Planner, plan_file
from kdbench.study.load import StudyError, load_study
from kdbench.study.schema import Study
from kdbench.tracking.optuna_log import OptunaLog

#: Seconds that MLflow gets at the end to catch up; `kdbench sync` does the rest.
MIRROR_PATIENCE = 600.0


def run_study(options: Options, console: Console) -> int:
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
    with ProgressBar(console) as watcher:
        mirror = track.Mirror(store, study.name, uri, on_trouble=watcher.log)
        mirror.open()
        mirror.start()
        try:
            sweep = carry_out(planner, store, options, device, mirror, watcher)
        except Interrupted:
            print_line(
                console,
                "Stopped. Every finished run and the last epoch of the others are kept; "
                f"to go on: {again()}",
            )
            return 130
        finally:
            watcher.log("bringing MLflow level ...")
            behind = mirror.close(MIRROR_PATIENCE)
            if behind:
                print_line(
                    console,
                    f"MLflow is {behind} runs behind the records; `kdbench sync {study.name}` "
                    "brings it level.",
                )
    publish(store, study.name, mirror, console)
    for name, error in sweep.failures().items():
        print_line(console, f"failed  {name}: {error}")
    return 1 if sweep.failures() else 0


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


def publish(store: Store, study: str, mirror: track.Mirror, console: Console) -> None:
    """Build the leaderboard from MLflow, show it, and say where things are."""
    try:
        board, paths = report.build(store, study)
    except report.Behind:
        track.sync(store, study, track.tracking_uri(store.root))
        board, paths = report.build(store, study)
    mirror.attach_report(store.report_folder(study))
    console.print(report.terminal(board))
    print_line(console, f"leaderboard  {paths[0].parent}")
    uri = track.safe_uri(track.tracking_uri(store.root))
    print_line(console, f"MLflow       {uri}  (kdbench ui)")
    print_line(console, f"Optuna       {OptunaLog(store.root).where()}  (optuna-dashboard)")


def show_plan(planner: Planner, console: Console) -> None:
    """What the study would run, without running it."""
    plan: Plan = planner.plan()
    content = plan_file(planner, plan)
    kinds = [listing["kind"] for listing in content["listing"].values()]
    table = Table(title=Text(f"{content['study']}: {content['question']}"))
    for heading in ("method", "row", "hparams", "frozen outputs", "trials", "finals"):
        table.add_column(heading)
    for row in content["rows"]:
        hparams = ", ".join(
            f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in row["hparams"].items()
        )
        if row["incompatible"]:
            hparams = f"cannot serve: {row['incompatible']}"
        elif row["row"] == "tuned" and not row["runs"]:
            hparams = "tuned: " + ", ".join(row["searched"])
        finals = len(row["runs"]) or (
            len(planner.study.final.seeds) if not row["incompatible"] else 0
        )
        trials = str(len(row["trials"]) or "")
        ways = ", ".join(f"{role}: {way}" for role, way in row["outputs"].items())
        table.add_row(row["label"], row["row"], Text(hparams), ways, trials, str(finals))
    console.print(table)
    over = sum(planner.store.record(i).result is not None for i in plan.nodes)
    later = plan.open * len(planner.study.final.seeds)
    counts = ", ".join(f"{kinds.count(k)} {k}" for k in dict.fromkeys(kinds))
    more = f" and up to {later} finals of tuned hyperparameters" if later else ""
    console.print(f"{len(kinds)} runs known ({counts}){more}; {over} are finished already.")


def again() -> str:
    """The command that was given, for going on with it."""
    return shlex.join(["kdbench", *sys.argv[1:]])
