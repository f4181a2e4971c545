"""The table of what one would deploy, as cells and words."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from kdbench.errors import first_names
from kdbench.records.profiles import BATCHES, STUDENT, TEACHER, WEIGHTS
from kdbench.report.deployment import (
    MEGABYTE,
    Deployable,
    Deployment,
    deployment_table,
    latency,
    memory,
    throughput,
)
from kdbench.report.text.context import count, percent
from kdbench.report.writers.cells import MISSING, Cell, Document, Grid, interval_cell

#: Methods that are named for one network; the others are counted.
NAMED = 3


def deployment_document(deployment: Deployment, digest: str) -> Document:
    """The table with its words. `digest` says what the scores were made from."""
    networks, table = deployment.networks, deployment_table(deployment)
    level = percent(deployment.level)
    headers = (
        "network", "trained with", f"{deployment.words} [{level}]",
        f"Δ {deployment.reference} [{level}]",
        *(f"latency at batch {batch}, ms (measured)" for batch in BATCHES),
        f"images/s at batch {BATCHES[-1]} (measured)",
        *(f"{name}, MB" for name in deployment.formats),
        f"peak memory at batch {BATCHES[0]}, MB (measured)", "parameters", "multiply-adds",
    )  # fmt: skip
    rows = tuple(
        _cells(deployment, item, row)
        for item, row in zip(networks, table.to_dict("records"), strict=True)
    )
    grid = Grid(
        headers,
        rows,
        tuple(item.network.name for item in networks),
        tuple(item.network.role for item in networks),
    )
    return Document(
        name=f"{deployment.name}-deployment",
        title=f"{deployment.title}: what you would deploy",
        question="",
        headline=f"{deployment.score} in %, each network once, the fastest first.",
        grid=grid,
        captions=tuple(_captions(deployment)),
        notes=(),
        digest=digest,
        answer=_answer(deployment, table),
    )


def _cells(
    deployment: Deployment,
    item: Deployable,
    row: Mapping[Any, Any],
) -> tuple[Cell, ...]:
    network, methods = item.network, item.methods

    def size(name: str) -> Cell:
        if name not in network.sizes:
            return Cell(MISSING, number=True)
        bold = name == WEIGHTS and bool(row["size front"])
        return Cell(digits(network.sizes[name] / MEGABYTE), bold, number=True)

    def timing(batch: int) -> Cell:
        columns = (latency(batch), *(latency(batch, f"{n} quartile") for n in ("first", "third")))
        median, low, high = (digits(row[column]) for column in columns)
        bold = batch == BATCHES[0] and bool(row["latency front"])
        return Cell(f"{median} [{low}, {high}]", bold, number=True)

    def estimate(name: str, signed: bool) -> Cell:
        bounds = row[f"{name}_low"], row[f"{name}_high"]
        return interval_cell(row[name], *bounds, signed=signed)

    return (
        Cell(network.name if network.role == STUDENT else f"{network.name} ({network.role})"),
        Cell(first_names(methods, NAMED) or MISSING),
        estimate(deployment.column, signed=False),
        estimate("difference", signed=True),
        *map(timing, BATCHES),
        Cell(digits(row[throughput(BATCHES[-1])]), number=True),
        *map(size, deployment.formats),
        Cell(digits(row[memory(BATCHES[0])]), number=True),
        Cell(f"{network.parameters:,}", number=True),
        Cell(f"{network.macs:,}", number=True),
    )


def digits(value: float, significant: int = 3) -> str:
    """A positive number with three significant digits at least, and never an exponent."""
    return f"{value:,.{max(0, significant - 1 - math.floor(math.log10(value)))}f}"


# -- its words


def _answer(deployment: Deployment, table: pd.DataFrame) -> str:
    """The networks of which no other scores as high in as little time, the fastest first."""
    parts = []
    for item, front in zip(deployment.networks, table["latency front"], strict=True):
        if front:
            score = item.rows[0][deployment.column]
            name = f"{item.network.name} trained with {item.methods[0]}"
            if item.network.role == TEACHER:
                name = f"the teacher {item.network.name}"
            parts.append(
                f"{name} scores {score:.2f} %, takes {digits(item.milliseconds)} ms for an image "
                f"and {digits(item.megabytes)} MB on disk"
            )
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _captions(deployment: Deployment) -> Iterable[str]:
    profile = deployment.profile
    yield (
        f"Measured on {profile.machine}, device {profile.device}, "
        f"{count(profile.threads, 'thread')}, with torch {profile.versions.get('torch', '?')}, on "
        f"{profile.date[:10]}: the median [quartiles] of {profile.repetitions} turns that the "
        f"networks took after warming up, on normalised images. Images/s are those of batches of "
        f"{BATCHES[-1]}; peak memory is that of the weights and of what one forward has alive."
    )
    yield (
        "Trained with: the method with the highest mean, whose score is shown, and those that "
        "the leaderboard does not tell apart from the best."
    )
    yield "Bold: no other network here scores as high and is as fast (latency) or as small (size)."
    if deployment.unknown:
        yield (
            f"Not profiled yet: {', '.join(deployment.unknown)}. `kdbench profile "
            f"{deployment.name}` measures again."
        )
