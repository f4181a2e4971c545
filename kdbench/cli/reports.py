"""Commands on reports. None of them needs torch."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from kdbench.cli.app import Refused, Root, Traceback, app, leave

Study = Annotated[str, typer.Argument(help="A study that has a report in this root.")]


@contextmanager
def unswept() -> Iterator[None]:
    """Without the garbage collector. A report makes millions of small objects that live to
    its end, which comes in seconds; looking for garbage among them takes a fifth of these."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@app.command()
def report(
    names: Annotated[
        list[str] | None, typer.Argument(help="Studies of this root; several are also pooled.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option("--from", help="A CSV file instead: method, setting, seed, score[, cost]."),
    ] = None,
    reference: Annotated[
        str, typer.Option(help="With --from: what to compare with (default: its first method).")
    ] = "",
    margin: Annotated[
        float, typer.Option(min=0, help="With --from: points that are practically equal.")
    ] = 0.2,
    shared_seeds: Annotated[
        bool,
        typer.Option(help="With --from: a seed means the same random streams in all settings."),
    ] = True,
    root: Root = Path(),
    traceback: Traceback = False,
) -> None:
    """Build leaderboards again: from MLflow, or from results made anywhere else."""

    def act() -> int:
        from rich.console import Console

        from kdbench.cli import report as command

        if bool(names) == bool(results):
            raise Refused("name one or more studies, or a file of results with --from")
        home, console = root.resolve(), Console()
        with unswept():
            if results is None:
                return command.studies(home, names or [], console)
            return command.elsewhere(home, results, reference, margin, shared_seeds, console)

    leave(act, traceback)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="A file of a report, or its folder for all.")],
    runs: Annotated[
        bool, typer.Option(help="Also hold the runs beside it to MLflow and the records.")
    ] = False,
    root: Root = Path(),
    traceback: Traceback = False,
) -> None:
    """Recompute every number, star and bold of a table from the runs beside it."""

    def act() -> int:
        from rich.console import Console

        from kdbench.cli import report as command

        return command.check(path, runs, root.resolve(), Console())

    leave(act, traceback)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="A row: kd, or kd:default.")],
    second: Annotated[str, typer.Argument(help="Another.")],
    study: Annotated[str, typer.Option(help="A study that has a report in this root.")],
    root: Root = Path(),
    traceback: Traceback = False,
) -> None:
    """One pair of rows, seed by seed."""

    def act() -> int:
        from rich.console import Console

        from kdbench.cli import report as command

        return command.compare(root.resolve(), study, first, second, Console())

    leave(act, traceback)


@app.command()
def plan(
    name: Study,
    detect: Annotated[float, typer.Option(min=0, help="The difference to detect, in points.")],
    root: Root = Path(),
    traceback: Traceback = False,
) -> None:
    """The seeds and hours needed to detect a difference, from the runs of a report."""

    def act() -> int:
        from rich.console import Console

        from kdbench.cli import report as command

        return command.plan(root.resolve(), name, detect, Console())

    leave(act, traceback)
