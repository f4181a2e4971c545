"""`kdbench study` from its options to its leaderboard."""

import shlex
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdbench import report, tracking
from kdbench.cli.progress import ProgressBar, print_line
from kdbench.cli.shell import command, repeated_command, shown_path
from kdbench.execution.errors import Interrupted
from kdbench.execution.run_study import Options, carry_out, pick_device, planned_on
from kdbench.methods import METHODS
from kdbench.records.store import Store
from kdbench.registry import did_you_mean
from kdbench.study import Plan, Planner, plan_file
from kdbench.study.load import StudyError, load_study
from kdbench.study.schema import Study
from kdbench.study.validation import slots_of
from kdbench.tracking.optuna_log import OptunaLog

#: Seconds that MLflow gets at the end to catch up; `kdbench sync` does the rest.
SYNC_PATIENCE = 600.0


def run_and_report(options: Options, progress: ProgressBar) -> int:
    """Carry the study out and print its leaderboard; the exit code.

    Raises the errors that the command line prints as one message.
    """
    console = progress.console
    study = chosen_study(options)
    device = pick_device(options.device)
    images = planned_on(study, options)
    store = Store(options.root)
    planner = Planner(study, images, store, tune=options.tune)
    if options.dry_run:
        show_plan(planner, console)
        return 0
    uri = tracking.tracking_uri(options.root)
    with progress:
        mirror = tracking.Mirror(store, study.name, uri, on_trouble=progress.log)
        mirror.open()
        mirror.start()
        try:
            driver = carry_out(planner, store, options, device, mirror, progress)
        except Interrupted:
            print_line(
                console,
                "Stopped. Every finished run and the last epoch of the others are kept; "
                f"to go on: {repeated_command()}",
            )
            return 130
        finally:
            progress.log("bringing MLflow level ...")
            behind = mirror.close(SYNC_PATIENCE)
            if behind:
                sync = command("kdbench", "sync", study.name, root=options.root)
                print_line(
                    console,
                    f"MLflow is {behind} runs behind the records; to bring it level: {sync}",
                )
    publish(store, study.name, mirror, console)
    failures = driver.failures()
    for name, error in failures.items():
        print_line(console, f"failed  {name}: {error}")
    return 1 if failures else 0


def chosen_study(options: Options) -> Study:
    """The study with the command line's changes made. Raises `StudyError` on wrong ones."""
    changes = dict(options.changes)
    if options.seeds:
        changes["final.seeds"] = list(options.seeds)
    study = load_study(options.study, changes)
    if not options.only:
        return study
    labels = [entry.label for entry in study.methods]
    missing = [label for label in options.only if label not in labels]
    if missing:
        raise StudyError(study.name, [_missing(label, labels, study) for label in missing])
    # Differences need the reference, whatever else is left out.
    keep = {*options.only, study.report.reference}
    return study.model_copy(update={"methods": tuple(e for e in study.methods if e.label in keep)})


def _missing(label: str, labels: list[str], study: Study) -> str:
    """What to do about a label of `--only` that the study lacks."""
    if label not in METHODS:
        return f"--only: no method '{label}' in it{did_you_mean(label, labels)}"
    slots = sorted(slots_of(METHODS[label]()) - {"student", "teacher"})
    models = "".join(f", {slot}: {{model: {study.teacher.model}}}" for slot in slots)
    line = f"- {{method: {label}{models}}}" if models else f"- {label}"
    return (
        f"--only: '{label}' is a method, but the study does not list it; add this line to the "
        f"`methods:` of a file of your own: {line}   (to start one: {_own_file(study.name)})"
    )


def _own_file(name: str) -> str:
    return f"{command('kdbench', 'show', name)} > my-{name}.yaml"


def publish(store: Store, study: str, mirror: tracking.Mirror, console: Console) -> None:
    """Build the leaderboard from MLflow, show it, and print where things are."""
    try:
        board, paths = report.build(store, study)
    except report.Behind:
        tracking.sync(store, study, tracking.tracking_uri(store.root))
        board, paths = report.build(store, study)
    mirror.attach_report(store.report_folder(study))
    console.print(report.terminal(board))
    page = next(path for path in paths if path.name == "index.html")
    for line in places(store, page):
        print_line(console, line)


def places(store: Store, page: Path) -> list[str]:
    """Where the results are: paths and commands that can be pasted."""
    log = OptunaLog(store.root)
    # An address with a password in it is not printed.
    storage = '"$KDBENCH_OPTUNA_STORAGE"' if log.url else shlex.quote(shown_path(log.path))
    return [
        f"leaderboard  {shlex.quote(shown_path(page))}",
        f"MLflow       {command('kdbench', 'ui', root=store.root)}",
        f"Optuna       {command('optuna-dashboard')} {storage}",
        f"check        {command('kdbench', 'check', shown_path(page.parent))}",
    ]


def show_plan(planner: Planner, console: Console) -> None:
    """Print what the study would run, without running it."""
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
        outputs = ", ".join(f"{role}: {way}" for role, way in row["outputs"].items())
        table.add_row(row["label"], row["row"], Text(hparams), outputs, trials, str(finals))
    console.print(table)
    finished = sum(planner.store.record(i).result is not None for i in plan.nodes)
    later = plan.open * len(planner.study.final.seeds)
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    more = f" and up to {later} finals of tuned hyperparameters" if later else ""
    console.print(f"{len(kinds)} runs known ({counts}){more}; {finished} are finished already.")
