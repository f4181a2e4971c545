"""Commands that run studies, and those that look after what runs leave in a root."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kdbench.cli.app import (
    Address,
    DataDir,
    Device,
    Engine,
    Quiet,
    Root,
    StudyName,
    Traceback,
    Verbose,
    Workers,
    WorkersPerGpu,
    app,
    exit_with,
)
from kdbench.cli.parsing import given, parse_change, parse_labels, parse_seeds

RunName = Annotated[str, typer.Argument(metavar="STUDY", help="A study that has run in this root.")]


@app.command()
def study(
    name: StudyName,
    dry_run: Annotated[bool, typer.Option(help="Show what would run, and stop.")] = False,
    only: Annotated[
        str | None,
        typer.Option(help="Methods to run (labels, comma-separated); the reference is always run."),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(
            help="Final seeds instead of the study's and its looks: 0-4 or 0,2. Refused once a "
            "study with looks is scored; with --set name=NEW a new study takes them."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a value: recipe.epochs=2.")
    ] = None,
    add: Annotated[
        str, typer.Option(help="With --with: one more method, or a file with its entry.")
    ] = "",
    base: Annotated[
        Path | None,
        typer.Option("--with", help="A report of the study: run only --add, beside its rows."),
    ] = None,
    workers: Workers = None,
    device: Device = "auto",
    engine: Engine = "local",
    address: Address = None,
    workers_per_gpu: WorkersPerGpu = None,
    tune: Annotated[
        bool, typer.Option("--tune/--no-tune", help="Tune the hyperparameters.")
    ] = True,
    retry: Annotated[
        int,
        typer.Option(
            min=0,
            max=1,
            help="Whether runs that failed at an earlier start are tried again: 1 or 0.",
        ),
    ] = 1,
    root: Root = Path(),
    data_dir: DataDir = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    traceback: Traceback = False,
) -> None:
    """Train, tune, compare: one study file to a leaderboard."""

    def run() -> int:
        from rich.console import Console

        from kdbench.cli.progress import ProgressBar
        from kdbench.cli.study import run_and_report
        from kdbench.execution.added_method import check_options
        from kdbench.execution.run_study import Options

        others = {"--only": only, "--seeds": seeds, "--no-tune": not tune}
        check_options(add, base, others)
        options = Options(
            name,
            root.resolve(),
            data_dir and data_dir.resolve(),
            workers,
            device,
            parse_labels(given("--only", only)),
            parse_seeds(given("--seeds", seeds)),
            dict(parse_change(change) for change in set_ or ()),
            tune,
            dry_run,
            bool(retry),
            engine,
            add,
            base,
            address,
            workers_per_gpu,
        )
        return run_and_report(options, ProgressBar(Console(), quiet, verbose))

    exit_with(run, traceback)


@app.command()
def status(
    name: RunName,
    root: Root = Path(),
    traceback: Traceback = False,
) -> None:
    """What runs now, what is done, and the best so far: from the records alone."""

    def run() -> int:
        from rich.console import Console

        from kdbench.cli.status import read_status, show_status
        from kdbench.records.layout import require_layout
        from kdbench.records.store import Store
        from kdbench.records.students import studies_of

        require_layout(root.resolve(), copies=False)
        store = Store(root.resolve())
        for study in studies_of(store, name):
            show_status(read_status(store, study), Console())
        return 0

    exit_with(run, traceback)


@app.command()
def reproduce(
    name: StudyName,
    row: Annotated[str, typer.Argument(help="A row of its leaderboard: rkd, or rkd:default.")],
    seed: Annotated[int, typer.Option(min=0, help="The seed to train with, published or new.")],
    report: Annotated[
        Path | None, typer.Option(help="The published report (default: ROOT/reports/STUDY).")
    ] = None,
    workers: Workers = None,
    device: Device = "auto",
    root: Root = Path(),
    data_dir: DataDir = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    traceback: Traceback = False,
) -> None:
    """Train one cell of a leaderboard again: does it come out as published?"""

    def run() -> int:
        from rich.console import Console

        from kdbench.cli.progress import ProgressBar
        from kdbench.cli.reproduce import reproduce_cell
        from kdbench.execution.run_study import Options

        home = root.resolve()
        folder = report or home / "reports" / Path(name).stem
        options = Options(name, home, data_dir and data_dir.resolve(), workers, device)
        return reproduce_cell(options, row, seed, folder, ProgressBar(Console(), quiet, verbose))

    exit_with(run, traceback)


@app.command()
def profile(
    name: RunName,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the CPU that compute.")] = 1,
    device: Device = "auto",
    root: Root = Path(),
    quiet: Quiet = False,
    traceback: Traceback = False,
) -> None:
    """Measure a study's networks on this machine: size, latency, throughput, memory."""

    def run() -> int:
        from rich.console import Console

        from kdbench.cli.profile import profile_and_report
        from kdbench.cli.progress import ProgressBar

        progress = ProgressBar(Console(), quiet)
        return profile_and_report(root.resolve(), name, device, threads, progress)

    exit_with(run, traceback)


@app.command()
def sync(
    name: RunName,
    root: Root = Path(),
    traceback: Traceback = False,
) -> None:
    """Bring MLflow and Optuna up to date with the records of a study."""

    def shown(update: Callable[..., None], done: int, total: int) -> None:
        update(completed=done, total=total)

    def run() -> int:
        from rich.progress import Progress

        from kdbench import tracking
        from kdbench.records.costs import read_costs
        from kdbench.records.layout import require_layout
        from kdbench.records.store import Store
        from kdbench.records.students import studies_of
        from kdbench.tracking.optuna_log import OptunaLog

        require_layout(root.resolve())
        uri = tracking.tracking_uri(root.resolve())
        store = Store(root.resolve())
        studies = studies_of(store, name)
        for study in studies:
            read_costs(store.costs_path(study))  # damaged ones are named before MLflow is asked
        counts: Counter[str] = Counter()
        with Progress(transient=True) as bar:
            for study in studies:
                update = partial(bar.update, bar.add_task("runs"))
                counts.update(tracking.sync_study(store, study, uri, partial(shown, update)))
        for study in studies:
            OptunaLog(store.root).write(study)
        print(", ".join(f"{count} {action}" for action, count in counts.items()))
        return 0

    exit_with(run, traceback)


@app.command()
def doctor(
    dry_run: Annotated[bool, typer.Option(help="Show what would be done, and do nothing.")] = False,
    root: Root = Path(),
    traceback: Traceback = False,
) -> None:
    """Find and repair what killed processes and broken disks have left behind."""

    def run() -> int:
        from kdbench.cli.doctor import examine, require_root
        from kdbench.records.store import Store
        from kdbench.report.text.context import count

        store = Store(root.resolve())
        require_root(store)
        not_repaired = total = 0
        for finding in examine(store):
            total += 1
            print(finding.what)
            if finding.repair is None:
                print("    for a person to look at")
            elif dry_run:
                not_repaired += 1
                print("    can be repaired")
            else:
                print(f"    {finding.repair()}")
        print(count(total, "finding") if total else "nothing is wrong")
        return 1 if not_repaired else 0

    exit_with(run, traceback)


@app.command()
def ui(
    name: Annotated[
        str, typer.Argument(metavar="STUDY", help="Whose runs are shown (default: all studies).")
    ] = "",
    root: Root = Path(),
    port: Annotated[int, typer.Option(min=1, max=65535, help="On this machine only.")] = 5000,
    browser: Annotated[bool, typer.Option(help="Open the page in a browser.")] = True,
    traceback: Traceback = False,
) -> None:
    """MLflow's pages of a study's runs, on this machine only."""

    def run() -> int:
        from kdbench.cli.pages import serve_pages

        return serve_pages(root.resolve(), name, port, browser)

    exit_with(run, traceback)
