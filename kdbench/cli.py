"""The command line. Thin: each command imports what it needs, inside."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

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


#: Seeds in one range at the most: more is a slip of the finger.
MOST_SEEDS = 1000


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
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes (default: one a core or GPU).")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    tune: Annotated[bool, typer.Option("--tune/--no-tune", help="Tune the knobs.")] = True,
    root: Root = Path(),
    data_dir: Annotated[
        Path | None, typer.Option(help="Where data sets are (else KDBENCH_DATA, else a cache).")
    ] = None,
    traceback: Annotated[bool, typer.Option(help="Show Python's traceback on errors.")] = False,
) -> None:
    """Train, tune, compare: one study file to a leaderboard."""

    def act() -> int:
        from rich.console import Console

        from kdbench.conduct import Options, conduct

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
        )
        return conduct(options, Console())

    leave(act, traceback)


@app.command()
def report(
    names: Annotated[list[str], typer.Argument(help="Studies that have run in this root.")],
    root: Root = Path(),
    traceback: Annotated[bool, typer.Option(help="Show Python's traceback on errors.")] = False,
) -> None:
    """Build the leaderboard again, from MLflow."""

    def act() -> int:
        from rich.console import Console

        from kdbench import report as reports
        from kdbench.store import Store

        console = Console()
        for name in names:
            board, paths = reports.build(Store(root.resolve()), name)
            console.print(reports.terminal(board))
            console.print(f"leaderboard  {paths[0].parent}", highlight=False, soft_wrap=True)
        return 0

    leave(act, traceback)


@app.command()
def methods(
    key: Annotated[str, typer.Argument(help="A method, for its formula, knobs and paper.")] = "",
    traceback: Annotated[bool, typer.Option(help="Show Python's traceback on errors.")] = False,
) -> None:
    """The registry of methods; with KEY, one method's page."""

    def act() -> int:
        from rich.console import Console

        from kdbench import catalogue

        Console().print(catalogue.page(key) if key else catalogue.overview(), highlight=False)
        return 0

    leave(act, traceback)


@app.command()
def sync(
    name: Annotated[str, typer.Argument(help="A study that has run in this root.")],
    root: Root = Path(),
    traceback: Annotated[bool, typer.Option(help="Show Python's traceback on errors.")] = False,
) -> None:
    """Bring MLflow level with the records of a study."""

    def act() -> int:
        from kdbench import track
        from kdbench.store import Store

        counts = track.sync(Store(root.resolve()), name, track.tracking_uri(root.resolve()))
        print(", ".join(f"{count} {word}" for word, count in counts.items()))
        return 0

    leave(act, traceback)


@app.command()
def ui(
    root: Root = Path(),
    port: Annotated[int, typer.Option(help="On this machine only.")] = 5000,
) -> None:
    """MLflow's pages for this root's store, on this machine only."""

    def act() -> int:
        from kdbench import track

        return subprocess.call(track.ui_command(root.resolve(), port))

    leave(act, False)


def parse_labels(text: str) -> tuple[str, ...]:
    """`kd,rkd` as labels. Raises `Refused` where a label is empty."""
    labels = tuple(part.strip() for part in text.split(",")) if text else ()
    if "" in labels:
        raise Refused(f"--only {text}: write labels with commas between, as in kd,rkd")
    return labels


def parse_seeds(text: str) -> tuple[int, ...]:
    """`0-4` or `0,2,7` as numbers. Raises `Refused` on anything else."""
    seeds: list[int] = []
    for part in text.split(",") if text else ():
        first, dash, last = (word.strip() for word in part.partition("-"))
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise Refused(f"--seeds {text}: write 0-4 or 0,2,7")
        if int(last) - int(first) >= MOST_SEEDS:
            raise Refused(f"--seeds {text}: {part} is more than {MOST_SEEDS} seeds")
        seeds += range(int(first), int(last) + 1)
    return tuple(seeds)


def parse_change(text: str) -> tuple[str, Any]:
    """`recipe.epochs=2` as a key and a YAML value. Raises `Refused` on anything else."""
    import yaml

    key, sign, value = text.partition("=")
    if not sign or not key:
        raise Refused(f"--set {text}: write KEY=VALUE, as in recipe.epochs=2")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise Refused(f"--set {text}: {value!r} is not a YAML value") from None


class Refused(Exception):
    """A word on the command line that cannot be read."""


def expected() -> tuple[type[Exception], ...]:
    """Errors whose message is meant for the user; looked up only once one was raised, from
    modules that are loaded already, so that no command pays for another's imports."""
    homes = {
        "kdbench.study": ("StudyError",),
        "kdbench.data": ("DataError",),
        "kdbench.conduct": ("Usage",),
        "kdbench.sweep": ("TeacherFailed",),
        "kdbench.store": ("RecordBusy",),
        "kdbench.engines.local": ("WorkerLost",),
        "kdbench.report.assemble": ("Behind", "NoPlan"),
        "kdbench.report.frame": ("MixedRuns",),
        "kdbench.catalogue": ("UnknownMethod",),
    }
    return (
        Refused,
        LookupError,
        OSError,
        *(
            getattr(sys.modules[module], name)
            for module, names in homes.items()
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


def main() -> None:
    """The `kdbench` command."""
    # Settled before any library that reads them is loaded.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    app()
