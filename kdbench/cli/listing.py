"""The tables of `kdbench list`, and the text of a shipped study."""

import re
from typing import Any

import yaml
from rich.table import Table
from rich.text import Text

from kdbench.cli import catalogue
from kdbench.data.datasets import DATASETS
from kdbench.models.features import feature_shapes
from kdbench.models.zoo import MODELS, paper_of, skeleton
from kdbench.registry import UnknownName, did_you_mean
from kdbench.study.load import shipped
from kdbench.study.model_names import in_study

IMAGE = re.compile(r"([1-9]\d{0,3})x([1-9]\d{0,3})x([1-9]\d{0,3})")


def study_text(name: str) -> str:
    """The YAML of the shipped study `name`. Raises `UnknownName`."""
    studies = shipped()
    if name not in studies:
        raise UnknownName(f"no study {name!r} comes with kdbench{did_you_mean(name, studies)}")
    return studies[name].read_text(encoding="utf-8")


def studies_table() -> Table:
    """One line a shipped study: its setting and its question."""
    table = Table("study", "data", "teacher", "student", "question")
    for name, path in shipped().items():
        study: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        models = (study[role]["model"] for role in ("teacher", "student"))
        table.add_row(name, study["data"]["name"], *models, Text(study["question"]))
    return table


def methods_table() -> Table:
    """One line a method: what the student learns from, paper, hyperparameters."""
    return catalogue.overview()


def models_table() -> Table:
    """One line a model: its paper, and the package it comes from."""
    table = Table("model", "paper", "from")
    usable, broken = MODELS.usable()
    for name in usable:
        paper = paper_of(name)
        source = f"{paper.title}. {paper.venue}, {paper.year}" if paper else ""
        table.add_row(name, Text(source), MODELS.origin(name))
    catalogue.add_broken(table, broken)
    return table


def layers_table(name: str, image: str, classes: int) -> Table:
    """One line a layer of a model: its shape, and the node that computes it.

    Raises `UnknownName`, `BadModelName` and `BrokenModel`.
    """
    shape = IMAGE.fullmatch(image)
    if not shape:
        raise UnknownName(f"--image {image}: write channels x height x width, as 3x32x32")
    sizes = (int(shape[1]), int(shape[2]), int(shape[3]))
    try:
        full = in_study(name)
    except ValueError as error:
        raise UnknownName(str(error)) from None
    nodes: dict[str, str] = skeleton(full, sizes, classes).nodes  # type: ignore[assignment]
    table = Table("layer", "shape of one image's features", "node")
    for layer, size in feature_shapes(full, sizes, classes).items():
        table.add_row(layer, "x".join(map(str, size)), nodes[layer])
    table.add_row("logits", str(classes), nodes["logits"])
    return table


def data_table() -> Table:
    """One line a data set: how many classes, its paper, and the package it comes from."""
    table = Table("data set", "classes", "paper", "from")
    usable, broken = DATASETS.usable()
    for name, dataset in usable.items():
        paper = dataset.paper
        source = f"{paper.title}. {paper.venue}, {paper.year}" if paper else ""
        table.add_row(name, str(len(dataset.class_names)), Text(source), DATASETS.origin(name))
    catalogue.add_broken(table, broken)
    return table
