"""The command that says what a study costs on a card, before anything is run."""

from typing import Annotated

import typer

from kdbench.cli.app import DataDir, Json, StudyName, Traceback, Workers, app, exit_with
from kdbench.cli.parsing import given, parse_change, parse_labels, parse_seeds


@app.command()
def plan(
    name: StudyName,
    card: Annotated[
        str,
        typer.Option(
            help="h200, h100, a100, rtx4090 and others (a wrong name lists them), or cpu: as many "
            "AMD EPYC cores as this machine has."
        ),
    ],
    only: Annotated[
        str | None, typer.Option(help="Methods to count (labels, comma-separated).")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Final seeds instead of the study's: 0-4 or 0,2.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a value: recipe.epochs=2.")
    ] = None,
    workers: Workers = None,
    data_dir: DataDir = None,
    as_json: Json = False,
    traceback: Traceback = False,
) -> None:
    """The hours of a study on a card, by part, and how far they may be off."""

    def run() -> int:
        import tempfile
        from pathlib import Path

        from rich.console import Console

        from kdbench.cli.as_json import print_json
        from kdbench.cli.hours import hours_of
        from kdbench.execution.run_study import Options

        with tempfile.TemporaryDirectory() as folder:
            options = Options(
                name,
                Path(folder),
                data_dir and data_dir.resolve(),
                workers,
                only=parse_labels(given("--only", only)),
                seeds=parse_seeds(given("--seeds", seeds)),
                changes=dict(parse_change(change) for change in set_ or ()),
            )
            content = hours_of(options, card, Console(quiet=as_json))
        if as_json:
            print_json(content)
        return 0

    exit_with(run, traceback)
