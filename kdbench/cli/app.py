"""The application, and how every command ends: an exit code, or one message."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
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


class Refused(Exception):
    """A word on the command line that cannot be read."""


#: Errors with a message for the user, by the module that has them.
HOMES = {
    "kdbench.study.load": ("StudyError",),
    "kdbench.data": ("DataError",),
    "kdbench.cli.study": ("Usage",),
    "kdbench.execution.driver": ("TeacherFailed",),
    "kdbench.records.store": ("CorruptRecord", "RecordBusy"),
    "kdbench.execution.engines.local": ("WorkerLost",),
    "kdbench.cli.reproduce": ("CannotReproduce",),
    "kdbench.report.data.collect": ("Behind",),
    "kdbench.report.leaderboard": ("UnknownRow",),
    "kdbench.report.check": ("Uncheckable",),
    "kdbench.report.forecast": ("NothingStored",),
    "kdbench.report.data.runs": ("MixedRuns",),
    "kdbench.report.data.external": ("WrongResults",),
    "kdbench.report.pooled": ("NotComparable",),
    "kdbench.cli.catalogue": ("UnknownMethod",),
}


def expected() -> tuple[type[Exception], ...]:
    """Errors whose message is meant for the user; looked up only once one was raised, from
    modules that are loaded already, so that no command pays for another's imports."""
    return (
        Refused,
        LookupError,
        OSError,
        *(
            getattr(sys.modules[module], name)
            for module, names in HOMES.items()
            if module in sys.modules
            for name in names
            if hasattr(sys.modules[module], name)
        ),
    )


def leave(act: Callable[[], int], traceback: bool) -> None:
    """Exit with `act`'s code; an expected error is one message, any error is never silent."""
    try:
        code = act()
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        if traceback:
            raise
        if isinstance(error, expected()):
            print(f"kdbench: {error}", file=sys.stderr)
        else:
            kind = type(error).__name__
            print(
                f"kdbench: unexpected {kind}: {error}\n(--traceback shows where; please report it)",
                file=sys.stderr,
            )
        code = 2
    raise typer.Exit(code)
