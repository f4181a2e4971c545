"""Commands that bring a trained student into production."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdbench.cli.app import DataDir, Json, Root, Traceback, app, exit_with
from kdbench.cli.commands import RunName

if TYPE_CHECKING:
    from rich.console import Console

    from kdbench.export.predict import Prediction


@app.command()
def export(
    name: RunName,
    method: Annotated[str, typer.Argument(help="A method of the study, by its label.")],
    to: Annotated[str, typer.Option(help="safetensors, torch or onnx.")],
    out: Annotated[Path, typer.Option(help="A new or empty folder.", file_okay=False)],
    seed: Annotated[
        str, typer.Option(help="A final seed, or best: of the highest validation score.")
    ] = "best",
    row: Annotated[
        str | None,
        typer.Option(help="tuned, default, pinned or only (default: the row that is ranked)."),
    ] = None,
    quantize: Annotated[
        str | None, typer.Option(help="int8, int8-dynamic (onnx), fp16 or bf16.")
    ] = None,
    register: Annotated[
        str, typer.Option(help="Register it in MLflow too, as the next version of this model.")
    ] = "",
    root: Root = Path(),
    data_dir: DataDir = None,
    as_json: Json = False,
    traceback: Traceback = False,
) -> None:
    """Write a student as files for production, proved on the test set by their own runtime."""

    def run() -> int:
        from functools import partial

        from rich.console import Console

        from kdbench.cli.as_json import print_json
        from kdbench.cli.progress import print_line
        from kdbench.cli.register import check_registry, register_export
        from kdbench.cli.shell import shown_path
        from kdbench.export.card import sentence
        from kdbench.export.write import Request, export_student

        console = Console(quiet=as_json)
        request = Request(
            name, method, to, out.absolute(), root.resolve(), seed, row, quantize, data_dir
        )
        if register:
            check_registry(root.resolve(), name, register)
        written = export_student(request, partial(print_line, console))
        if written.quantisation:
            print_line(console, sentence(written.quantisation))
        print_line(
            console,
            f"exported     {written.method} ({written.row}) seed {written.seed}, "
            f"{written.seed_chosen}",
        )
        print_line(console, f"folder       {shown_path(out)}")
        if register:
            version = register_export(root.resolve(), out, written, register)
            print_line(console, f"registered   {register} version {version}")
        if as_json:
            print_json(written)
        return 0

    exit_with(run, traceback)


@app.command()
def predict(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of `kdbench export`.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.")],
    root: Root = Path(),
    as_json: Json = False,
    traceback: Traceback = False,
) -> None:
    """What an exported student says of image files, beside its teacher where ROOT holds it."""

    def run() -> int:
        from rich.console import Console

        from kdbench.cli.as_json import print_json
        from kdbench.export.predict import predict

        predictions = predict(folder, images, root.resolve())
        if as_json:
            print_json(predictions)
        else:
            _show(predictions, Console())
        return 0

    exit_with(run, traceback)


def _show(predictions: Sequence["Prediction"], console: "Console") -> None:
    """Print a table of classes and probabilities; without a teacher, how to have it beside."""
    from itertools import zip_longest

    from rich.table import Table
    from rich.text import Text

    from kdbench.cli.progress import print_line

    taught = any(prediction.teacher for prediction in predictions)
    table = Table("image", "student", "%", *(("teacher", "%") if taught else ()))
    for prediction in predictions:
        name = str(prediction.image)
        for pair in zip_longest(prediction.student, prediction.teacher):
            guesses = [guess for guess in pair if guess is not None]
            cells = [c for g in guesses for c in (Text(g.label), f"{100 * g.probability:.1f}")]
            table.add_row(Text(name), *cells)
            name = ""
    console.print(table)
    if not taught:
        print_line(console, "(without its teacher: --root names the folder that its study ran in)")
