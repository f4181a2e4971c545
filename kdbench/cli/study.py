"""`kdbench study` from its options to its leaderboard."""

import shlex
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdbench import tracking
from kdbench.cli.progress import ProgressBar, print_line
from kdbench.cli.report import show_pooled
from kdbench.cli.shell import command, shown_path
from kdbench.execution.run_study import Options, publish_report, train_study
from kdbench.execution.signals import interrupt_on_signals
from kdbench.execution.study_file import keep_students, prepare_all, publish_pooled
from kdbench.records.store import Store
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.writers.console import TerminalTable
from kdbench.study.plan import Plan
from kdbench.study.plan_file import plan_file
from kdbench.study.planner import Planner
from kdbench.tracking.optuna_log import OptunaLog


def run_and_report(options: Options, progress: ProgressBar) -> int:
    """Run the studies of a file one after another and print their leaderboards, and of two or
    more the pooled one; the exit code.

    Raises the errors that the command line prints as one message, and `KeyboardInterrupt` after
    Ctrl-C or SIGTERM.
    """
    console = progress.console
    name, prepared = prepare_all(options)
    if options.dry_run:
        for each in prepared:
            show_plan(each.planner, console)
        return 0
    failures: dict[str, str] = {}
    with interrupt_on_signals():
        keep_students(name, prepared, options)
        for each in prepared:
            with progress.restarted() as bar:
                outcome = train_study(each.planner, each.store, each.options, bar)
                board, paths = publish_report(each.store, each.study, bar, outcome.tracked)
            show_report(each.store, board, paths, outcome.experiment, console)
            place = f"{each.study}: " if len(prepared) > 1 else ""
            failures |= {f"{place}{run}": error for run, error in outcome.failures.items()}
        if len(prepared) > 1:
            table = publish_pooled(each.store, name, [each.study for each in prepared])
            show_pooled(table, each.store.report_folder(name), console)
    for run, error in failures.items():
        print_line(console, f"failed  {run}: {error}")
    return 1 if failures else 0


def show_report(
    store: Store, board: Leaderboard, paths: tuple[Path, ...], experiment: str, console: Console
) -> None:
    """Print the leaderboard, and where things are."""
    console.print(TerminalTable(board))
    page = next(path for path in paths if path.name == "index.html")
    for line in places(store, page, board.study, experiment):
        print_line(console, line)


def places(store: Store, page: Path, study: str, experiment: str = "") -> list[str]:
    """Where the results are: paths and commands that can be pasted. `experiment` is the id of the
    study's in MLflow, where it is known."""
    log = OptunaLog(store.root)
    # An address with a password in it is not printed.
    storage = '"$KDBENCH_OPTUNA_STORAGE"' if log.url else shlex.quote(shown_path(log.path))
    base = tracking.server(tracking.tracking_uri(store.root))
    runs = [f"its runs     {tracking.runs_page(base, experiment)}"] if base and experiment else []
    return [
        f"leaderboard  {shlex.quote(shown_path(page))}",
        f"MLflow       {command('kdbench', 'ui', study, root=store.root)}",
        *runs,
        f"Optuna       {command('optuna-dashboard')} {storage}",
        f"check        {command('kdbench', 'check', shown_path(page.parent))}",
        f"deploy       {command('kdbench', 'profile', study, root=store.root)}",
    ]


def show_plan(planner: Planner, console: Console) -> None:
    """Print what the study would run, without running it."""
    plan: Plan = planner.plan()
    content = plan_file(planner, plan)
    kinds = [run.kind for run in content.listing.values()]
    table = Table(title=Text(f"{content.study}: {content.question}"))
    for heading in ("method", "row", "hparams", "teacher outputs", "trials", "finals"):
        table.add_column(heading)
    for row in content.rows:
        hparams = ", ".join(
            f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.hparams.items()
        )
        if row.incompatible:
            hparams = f"cannot serve: {row.incompatible}"
        elif row.row == "tuned" and not row.runs:
            hparams = "tuned: " + ", ".join(row.searched)
        finals = len(row.runs) or (len(planner.study.final.seeds) if not row.incompatible else 0)
        trials = str(len(row.trials) or "")
        outputs = ", ".join(f"{role}: {access}" for role, access in row.outputs.items())
        table.add_row(row.label, row.row, Text(hparams), outputs, trials, str(finals))
    console.print(table)
    finished = sum(planner.store.record(i).result is not None for i in plan.nodes)
    later = plan.open * len(planner.study.final.seeds)
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    more = f" and up to {later} finals of tuned hyperparameters" if later else ""
    if planner.study.final.looks:
        more += " and further seeds of the methods that a look leaves undecided"
    console.print(f"{len(kinds)} runs known ({counts}){more}; {finished} are finished already.")
