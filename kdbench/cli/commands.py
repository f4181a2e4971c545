"""Commands that run studies, and those that look at what runs left."""

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from kdbench.cli.app import DataDir, Device, Root, Traceback, Workers, app, leave
from kdbench.cli.parsing import parse_change, parse_labels, parse_seeds


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="A shipped study's name, or a path to a YAML file.")],
    dry_run: Annotated[bool, typer.Option(help="Show what would run, and stop.")] = False,
    only: Annotated[str, typer.Option(help="Methods to run (labels, comma-separated).")] = "",
    seeds: Annotated[
        str, typer.Option(help="Final seeds instead of the study's: 0-4 or 0,2.")
    ] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a value: recipe.epochs=2.")
    ] = None,
    workers: Workers = None,
    device: Device = "auto",
    tune: Annotated[
        bool, typer.Option("--tune/--no-tune", help="Tune the hyperparameters.")
    ] = True,
    retry: Annotated[
        int, typer.Option(min=0, max=1, help="Tries for a run that failed at an earlier start.")
    ] = 1,
    root: Root = Path(),
    data_dir: DataDir = None,
    traceback: Traceback = False,
) -> None:
    """Train, tune, compare: one study file to a leaderboard."""

    def act() -> int:
        from rich.console import Console

        from kdbench.cli.study import run_study
        from kdbench.execution.run_study import Options

        options = Options(
            name,
            root.resolve(),
            data_dir and data_dir.resolve(),
            workers,
            device,
            parse_labels(only),
            parse_seeds(seeds),
            dict(parse_change(change) for change in set_ or ()),
            tune,
            dry_run,
            bool(retry),
        )
        return run_study(options, Console())

    leave(act, traceback)


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(help="A shipped study's name, or a path to a YAML file.")],
    row: Annotated[str, typer.Argument(help="A row of its leaderboard: rkd, or rkd:default.")],
    seed: Annotated[int, typer.Option(min=0, help="The seed to train with, published or new.")],
    report: Annotated[
        Path | None, typer.Option(help="The published report (default: ROOT/reports/STUDY).")
    ] = None,
    workers: Workers = None,
    device: Device = "auto",
    root: Root = Path(),
    data_dir: DataDir = None,
    traceback: Traceback = False,
) -> None:
    """Train one cell of a leaderboard again: does it come out as published?"""

    def act() -> int:
        from rich.console import Console

        from kdbench.cli.reproduce import reproduce as again
        from kdbench.execution.run_study import Options

        home = root.resolve()
        folder = report or home / "reports" / Path(name).stem
        options = Options(name, home, data_dir and data_dir.resolve(), workers, device)
        return again(options, row, seed, folder, Console())

    leave(act, traceback)


@app.command()
def methods(
    key: Annotated[
        str, typer.Argument(help="A method, for its formula, hyperparameters and paper.")
    ] = "",
    traceback: Traceback = False,
) -> None:
    """The registry of methods; with KEY, one method's page."""

    def act() -> int:
        from rich.console import Console

        from kdbench.cli import catalogue

        Console().print(catalogue.page(key) if key else catalogue.overview(), highlight=False)
        return 0

    leave(act, traceback)


@app.command()
def sync(
    name: Annotated[str, typer.Argument(help="A study that has run in this root.")],
    root: Root = Path(),
    traceback: Traceback = False,
) -> None:
    """Bring MLflow level with the records of a study."""

    def act() -> int:
        from kdbench import tracking as track
        from kdbench.records.store import Store

        counts = track.sync(Store(root.resolve()), name, track.tracking_uri(root.resolve()))
        print(", ".join(f"{count} {word}" for word, count in counts.items()))
        return 0

    leave(act, traceback)


@app.command()
def doctor(
    dry_run: Annotated[bool, typer.Option(help="Show what would be done, and do nothing.")] = False,
    root: Root = Path(),
    traceback: Traceback = False,
) -> None:
    """Find and mend what killed processes and broken disks have left."""

    def act() -> int:
        from kdbench.cli.doctor import examine
        from kdbench.records.store import Store

        left = found = 0
        for finding in examine(Store(root.resolve())):
            found += 1
            print(finding.what)
            if finding.repair_stale is None:
                print("    for a person to look at")
            elif dry_run:
                left += 1
                print("    can be mended")
            else:
                print(f"    {finding.repair_stale()}")
        print("nothing is wrong" if not found else f"{found} findings")
        return 1 if left else 0

    leave(act, traceback)


@app.command()
def ui(
    root: Root = Path(),
    port: Annotated[int, typer.Option(help="On this machine only.")] = 5000,
) -> None:
    """MLflow's pages for this root's store, on this machine only."""

    def act() -> int:
        from kdbench import tracking as track

        return subprocess.call(track.ui_command(root.resolve(), port))

    leave(act, False)
