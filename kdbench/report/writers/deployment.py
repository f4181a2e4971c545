"""The table of what one would deploy, as cells and words."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kdbench.records.profiles import BATCHES, STUDENT, TEACHER, WEIGHTS
from kdbench.report.data.report_data import ReportData
from kdbench.report.deployment import (
    MEGABYTE,
    Deployable,
    deployable_networks,
    deployment_table,
    latency,
    memory,
    throughput,
)
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.rows import primary_lines
from kdbench.report.text.context import count, percent
from kdbench.report.writers.cells import MISSING, Cell, Document, Grid, interval_cell

#: Methods that are named for one network; the others are counted.
NAMED = 3


def deployment_document(board: Leaderboard, data: ReportData) -> Document | None:
    """The table with its words; None where the study was not profiled."""
    networks = deployable_networks(board, data)
    if not networks:
        return None
    table = deployment_table(board, networks)
    formats = dict.fromkeys(name for item in networks for name in item.network.sizes)
    level = percent(board.family.analysis.level)
    headers = (
        "network", "trained with", f"{board.measure.words} [{level}]",
        f"Δ {board.reference} [{level}]", "parameters", "multiply-adds",
        *(f"{name}, MB" for name in formats),
        *(f"latency at batch {batch}, ms (measured)" for batch in BATCHES),
        f"images/s at batch {BATCHES[-1]} (measured)",
        f"peak memory at batch {BATCHES[0]}, MB (measured)",
    )  # fmt: skip
    rows = tuple(
        _cells(board, item, row, tuple(formats))
        for item, row in zip(networks, table.to_dict("records"), strict=True)
    )
    grid = Grid(
        headers,
        rows,
        tuple(item.network.name for item in networks),
        tuple(item.network.role for item in networks),
    )
    return Document(
        name=f"{board.study}-deployment",
        title=f"{board.title}: what you would deploy",
        question="",
        headline=f"{board.score} in %, each network once, the fastest first.",
        grid=grid,
        captions=tuple(_captions(board, data, networks)),
        notes=(),
        digest=data.digest,
        answer=_answer(board, networks, table),
    )


def _cells(
    board: Leaderboard,
    item: Deployable,
    row: Mapping[Any, Any],
    formats: Sequence[str],
) -> tuple[Cell, ...]:
    network, methods = item.network, item.methods
    more = f" and {len(methods) - NAMED} more" if len(methods) > NAMED else ""

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
        Cell((", ".join(methods[:NAMED]) + more) or MISSING),
        estimate(board.measure.column, signed=False),
        estimate("difference", signed=True),
        Cell(f"{network.parameters:,}", number=True),
        Cell(f"{network.macs:,}", number=True),
        *map(size, formats),
        *map(timing, BATCHES),
        Cell(digits(row[throughput(BATCHES[-1])]), number=True),
        Cell(digits(row[memory(BATCHES[0])]), number=True),
    )


def digits(value: float, significant: int = 3) -> str:
    """A positive number with three significant digits at least, and never an exponent."""
    return f"{value:,.{max(0, significant - 1 - math.floor(math.log10(value)))}f}"


# -- its words


def _answer(board: Leaderboard, networks: Sequence[Deployable], table: pd.DataFrame) -> str:
    """The networks of which no other scores as high in as little time, the fastest first."""
    parts = []
    for item, front in zip(networks, table["latency front"], strict=True):
        if front:
            score = item.rows[0][board.measure.column]
            name = f"{item.network.name} trained with {item.methods[0]}"
            if item.network.role == TEACHER:
                name = f"the teacher {item.network.name}"
            parts.append(
                f"{name} scores {score:.2f} %, takes {digits(item.milliseconds)} ms for an image "
                f"and {digits(item.megabytes)} MB on disk"
            )
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _captions(
    board: Leaderboard, data: ReportData, networks: Sequence[Deployable]
) -> Sequence[str]:
    profile = data.profile
    assert profile is not None, "the networks are those of the profile"
    captions = [
        f"Measured on {profile.machine}, device {profile.device}, "
        f"{count(profile.threads, 'thread')}, with torch {profile.versions.get('torch', '?')}, on "
        f"{profile.date[:10]}: the median [quartiles] of {profile.repetitions} turns that the "
        f"networks took after warming up, on normalised images. Images/s are those of batches of "
        f"{BATCHES[-1]}; peak memory is that of the weights and of what one forward has alive.",
        "Trained with: the method with the highest mean, whose score is shown, and those that "
        "the leaderboard does not tell apart from the best.",
        "Bold: no other network here scores as high and is as fast (latency) or as small (size).",
    ]
    profiled = {row for item in networks for row in item.network.rows}
    lines = primary_lines(board.table)
    rows = lines[lines["n"] > 0].to_dict("records")
    missing = [row["method"] for row in rows if (row["method"], row["row"]) not in profiled]
    if missing:
        captions.append(
            f"Not profiled yet: {', '.join(missing)}. `kdbench profile {board.study}` measures "
            "again."
        )
    return captions
