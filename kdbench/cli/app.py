"""The application, and how every command ends: an exit code, or one message."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

import kdbench
from kdbench.cli.shell import repeated_command
from kdbench.errors import KdbenchError
from kdbench.execution.signals import STOPPED, was_interrupted
from kdbench.records.bounded import printable

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Which knowledge-distillation method is really better, and by how much?",
)

Root = Annotated[
    Path, typer.Option(help="Folder for runs/, mlflow.db and reports/.", file_okay=False)
]
Traceback = Annotated[bool, typer.Option(help="Show Python's traceback on errors.")]
DataDir = Annotated[
    Path | None, typer.Option(help="Where data sets are (else KDBENCH_DATA, else a cache).")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Worker processes (default: one a core or GPU).")
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
WorkersPerGpu = Annotated[
    int | None, typer.Option(min=1, help="Workers that share a GPU; measured if not given.")
]
Engine = Annotated[
    str, typer.Option(help="Where runs are trained: local, on this machine, or ray, on a cluster.")
]
Address = Annotated[
    str | None, typer.Option(help="With --engine ray: auto, HOST:PORT or ray://HOST:PORT.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress: results and errors only.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="A line of progress whenever a run ends.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables and sentences.")]
StudyName = Annotated[
    str, typer.Argument(metavar="STUDY", help="A shipped study's name, or a path to a YAML file.")
]


class UsageError(KdbenchError):
    """An argument of the command line that cannot be read or met."""


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"kdbench {kdbench.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Which knowledge-distillation method is really better, and by how much?"""


def exit_with(command: Callable[[], int], traceback: bool) -> None:
    """Run `command` and exit with its code.

    An error meant for the user (`KdbenchError`, `LookupError`, `OSError`) is printed as one
    message; any other is named with its type. Both exit with code 2, Ctrl-C and SIGTERM with 130.
    """
    try:
        code = command()
        if was_interrupted():  # and whatever was running swallowed it
            raise KeyboardInterrupt
    except (KeyboardInterrupt, Exception) as error:
        if isinstance(error, KeyboardInterrupt) or was_interrupted():
            detail = f"{error} " if isinstance(error, KeyboardInterrupt) and error.args else ""
            print(f"Stopped. {detail}To continue: {repeated_command()}")
            raise typer.Exit(STOPPED) from None
        if traceback:
            raise
        if isinstance(error, (KdbenchError, LookupError, OSError)):
            print(printable(f"kdbench: {error}"), file=sys.stderr)
        else:
            kind = type(error).__name__
            print(
                printable(f"kdbench: unexpected {kind}: {error}"),
                "(--traceback shows where; please report it)",
                sep="\n",
                file=sys.stderr,
            )
        code = 2
    raise typer.Exit(code)
