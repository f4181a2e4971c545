"""Commands on reports. None of them needs torch."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kdbench.cli.app import Json, Root, Traceback, UsageError, app, exit_with

ReportName = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study that has a report in this root.")
]
MARGIN = 0.2
Difference = Annotated[float, typer.Option(min=0, help="The difference to detect, in points.")]


@app.command()
def report(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="STUDY...", help="Studies of this root; several are also pooled."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option("--from", help="A CSV file instead: method, setting, seed, score[, cost]."),
    ] = None,
    columns: Annotated[
        str,
        typer.Option(
            "--map", metavar="COLUMN=NAME,...", help="With --from: the file's own column names."
        ),
    ] = "",
    setting: Annotated[
        str, typer.Option(help="With --from: the setting of all rows, where no column names it.")
    ] = "",
    fractions: Annotated[
        bool | None,
        typer.Option(help="With --from: whether scores go from 0 to 1, instead of to 100."),
    ] = None,
    reference: Annotated[
        str, typer.Option(help="With --from: what to compare with (default: its first method).")
    ] = "",
    margin: Annotated[
        float | None,
        typer.Option(min=0, help=f"With --from: points that are practically equal ({MARGIN})."),
    ] = None,
    paper: Annotated[
        str,
        typer.Option(
            "--columns",
            metavar="NAME,...",
            help="Columns of leaderboard.tex: default, tuned, and others of leaderboard.csv.",
        ),
    ] = "",
    shared_seeds: Annotated[
        bool,
        typer.Option(help="With --from: a seed means the same random streams in all settings."),
    ] = True,
    root: Root = Path(),
    as_json: Json = False,
    traceback: Traceback = False,
) -> None:
    """Build leaderboards again: from MLflow, or from results made anywhere else."""
    for_results = {
        "--map": columns,
        "--setting": setting,
        "--fractions": fractions is not None,
        "--reference": reference,
        "--margin": margin is not None,
        "--no-shared-seeds": not shared_seeds,
    }

    def run() -> int:
        from rich.console import Console

        from kdbench.cli.as_json import print_json
        from kdbench.cli.parsing import parse_columns, parse_paper_columns
        from kdbench.cli.report import ResultsFile, report_results, report_studies

        if bool(names) == bool(results):
            raise UsageError("name one or more studies, or a file of results with --from")
        if names and (given := [option for option, value in for_results.items() if value]):
            verb = "goes" if len(given) == 1 else "go"
            raise UsageError(
                f"{', '.join(given)} {verb} with --from; a study's file has its own: change it "
                "there, or with `kdbench study` and --set report.reference=... or report.margin=..."
            )
        home, console, chosen = root.resolve(), Console(quiet=as_json), parse_paper_columns(paper)
        if results is None:
            contents = report_studies(home, names or [], console, chosen)
        else:
            source = ResultsFile(results, parse_columns(columns), setting.strip(), fractions)
            equal = MARGIN if margin is None else margin
            contents = report_results(home, source, reference, equal, shared_seeds, console, chosen)
        if as_json:
            print_json(contents)
        return 0

    exit_with(run, traceback)


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="A file of a report, or its folder for all.")],
    runs: Annotated[
        bool, typer.Option(help="Also compare the runs beside it with MLflow and the records.")
    ] = False,
    root: Root = Path(),
    as_json: Json = False,
    traceback: Traceback = False,
) -> None:
    """Recompute every number, star and bold of a table from the runs beside it."""

    def run() -> int:
        from rich.console import Console

        from kdbench.cli import report
        from kdbench.cli.as_json import print_json

        content = report.check(path, runs, root.resolve(), Console(quiet=as_json))
        if as_json:
            print_json(content)
        return 0 if content["ok"] else 1

    exit_with(run, traceback)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="A row: kd, or kd:default.")],
    second: Annotated[str, typer.Argument(help="The row to compare it with.")],
    study: Annotated[str, typer.Option(help="A study that has a report in this root.")],
    root: Root = Path(),
    as_json: Json = False,
    traceback: Traceback = False,
) -> None:
    """One pair of rows, seed by seed."""

    def run() -> int:
        from rich.console import Console

        from kdbench.cli import report
        from kdbench.cli.as_json import print_json

        console = Console(quiet=as_json)
        compare = partial(report.compare, first=first, second=second, console=console)
        content = report.of_each(root.resolve(), study, compare)
        if as_json:
            print_json(content)
        return 0

    exit_with(run, traceback)


@app.command()
def power(
    name: ReportName,
    detect: Difference,
    root: Root = Path(),
    as_json: Json = False,
    traceback: Traceback = False,
) -> None:
    """The seeds and hours needed to detect a difference, from the runs of a report."""

    def run() -> int:
        from rich.console import Console

        from kdbench.cli import report
        from kdbench.cli.as_json import print_json

        power = partial(report.power, difference=detect, console=Console(quiet=as_json))
        content = report.of_each(root.resolve(), name, power)
        if as_json:
            print_json(content)
        return 0

    exit_with(run, traceback)
