"""Commands that show what there is to choose from: methods, models, data sets, studies."""

from enum import StrEnum
from typing import Annotated

import typer

from kdbench.cli.app import Json, Traceback, app, exit_with


class Kind(StrEnum):
    """What `kdbench list` can list."""

    studies = "studies"
    methods = "methods"
    models = "models"
    data = "data"


@app.command()
def methods(
    key: Annotated[
        str, typer.Argument(help="A method, for its formula, hyperparameters and paper.")
    ] = "",
    as_json: Json = False,
    traceback: Traceback = False,
) -> None:
    """The registry of methods; with KEY, one method's page."""

    def run() -> int:
        from rich.console import Console

        from kdbench.cli import catalogue
        from kdbench.cli.as_json import print_json

        if as_json:
            print_json(catalogue.method_content(key) if key else catalogue.methods_content())
        else:
            Console().print(catalogue.page(key) if key else catalogue.overview(), highlight=False)
        return 0

    exit_with(run, traceback)


@app.command()
def models(
    name: Annotated[
        str, typer.Argument(help="resnet8, torchvision:NAME, timm:NAME or ./FILE.py:NAME.")
    ],
    image: Annotated[
        str, typer.Option(metavar="CxHxW", help="Channels, height and width of an image.")
    ] = "3x32x32",
    classes: Annotated[int, typer.Option(min=2, help="Classes of the data.")] = 10,
    traceback: Traceback = False,
) -> None:
    """A model's layers: the names that methods and studies use, and what each one is."""

    def run() -> int:
        from rich.console import Console

        from kdbench.cli import listing

        Console().print(listing.layers_table(name, image, classes), highlight=False)
        return 0

    exit_with(run, traceback)


@app.command("list")
def list_(
    kind: Annotated[Kind, typer.Argument(help="What to list.")], traceback: Traceback = False
) -> None:
    """The studies, methods, models or data sets that can be named."""

    def run() -> int:
        from rich.console import Console

        from kdbench.cli import listing

        Console().print(getattr(listing, f"{kind}_table")(), highlight=False)
        return 0

    exit_with(run, traceback)


@app.command()
def show(
    name: Annotated[str, typer.Argument(metavar="STUDY", help="A shipped study's name.")],
    traceback: Traceback = False,
) -> None:
    """A shipped study's file, to start one of your own from."""

    def run() -> int:
        from kdbench.cli.listing import study_text

        print(study_text(name), end="")
        return 0

    exit_with(run, traceback)
