"""What `kdbench plan` prints: hours by part, and what they rest on."""

import os
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdbench.cli.progress import print_line
from kdbench.execution.grouping import MAX_COHORT
from kdbench.execution.run_study import Options, chosen_study, planning_data
from kdbench.hours.cards import Card, card_of
from kdbench.hours.fit import MEASURED_GPU, error_for, networks_of, rows_for
from kdbench.hours.study import Part, StudyHours, study_hours
from kdbench.records.store import Store
from kdbench.study.planner import Planner

#: How far ratios of methods' steps to a step of the labels alone were off (docs/performance.md).
METHODS_TYPICAL, METHODS_WORST = 1.48, 6.83


def hours_of(options: Options, name: str, console: Console) -> dict[str, Any]:
    """Print the hours of a study on the card `name`; the same as plain values. The root of
    `options` is an empty folder. Raises `UnknownCard`, `StudyError` and `DataError`."""
    card = card_of(name)
    # A worker has one core, or a GPU of its own.
    workers = options.workers or ((os.cpu_count() or 1) if card.name == "cpu" else 1)
    study = chosen_study(options)
    planner = Planner(study, planning_data(study, options), Store(options.root), options.tune)
    hours = study_hours(planner, card, workers, MAX_COHORT)
    console.print(_table(study.name, card, hours, workers))
    sentences = list(_sentences(card, hours))
    for sentence in sentences:
        print_line(console, sentence)
    return {
        "study": study.name,
        "card": card,
        "workers": workers,
        "parts": [_plain(part, workers) for part in hours.parts],
        "later_looks": [_plain(part, workers) for part in hours.later],
        "hours": _sum(hours.parts, workers),
        "hours_at_most": _sum((*hours.parts, *hours.later), workers),
        "cache_bytes": hours.cache_bytes,
        "error": error_for(card),
        "sentences": sentences,
    }


def _sum(parts: Iterable[Part], workers: int) -> float:
    return sum(part.hours(workers) for part in parts)


def _plain(part: Part, workers: int) -> dict[str, Any]:
    hours = part.hours(workers)
    return {"part": part.name, "runs": part.runs, "seconds": part.seconds, "hours": hours}


def _table(study: str, card: Card, hours: StudyHours, workers: int) -> Table:
    table = Table("part", title=Text(f"{study} on {workers} x {card.title}"))
    for heading in ("runs", "hours of one", f"hours of {workers}"):
        table.add_column(heading, justify="right")

    def add(name: str, parts: tuple[Part, ...]) -> None:
        alone = f"{sum(part.seconds for part in parts) / 3600:.3g}"
        runs = str(sum(part.runs for part in parts))
        table.add_row(name, runs, alone, f"{_sum(parts, workers):.3g}")

    for part in hours.parts:
        add(part.name, (part,))
    add("all" if not hours.later else "to the first look", hours.parts)
    if hours.later:
        add("all looks, at most", (*hours.parts, *hours.later))
    return table


def _sentences(card: Card, hours: StudyHours) -> Iterable[str]:
    """What the numbers are fitted to, what they are carried over to, and the error."""
    rows, error = rows_for(card), error_for(card)
    networks = networks_of(rows)
    yield f"Cached teacher outputs on disk: {hours.cache_bytes / 1e9:.1f} GB."
    where = "one core of an AMD EPYC" if card.name == "cpu" else "one H200"
    yield (
        f"Fitted to {len(rows)} measured steps of {len(networks)} networks on {where}. Each "
        "network predicted from the others alone is off by a factor of "
        f"{error.typical:.2f} (median) and of {error.worst:.2f} at most ({error.network})."
    )
    yield (
        "What a method adds to its networks is counted and not fitted: on a CPU, over 76 methods "
        "on digits, the ratio of a method's step to one on the labels alone was off by a factor of "
        f"{METHODS_TYPICAL} (median) and of {METHODS_WORST} at most; the furthest were too long."
    )
    if card.name == "cpu":
        yield "Extrapolated where this machine's cores are others, or busy."
    elif card.name != MEASURED_GPU:
        yield (
            f"Extrapolated to the {card.title} by its peak rates ({card.source}); nothing was "
            "measured on one."
        )
    if new := [name for name in hours.networks if name not in networks]:
        yield f"Extrapolated to networks that are not in the fit: {', '.join(new)}."
    if card.name != "cpu":
        yield (
            "One study was timed on a GPU: cifar100 on an H200 took 171 s from its first step on, "
            "and 100 s with four workers; docs/performance.md compares that with the estimate."
        )
    yield (
        "Not counted: the start, test scores, checkpoints and MLflow; not asked: whether all fits "
        "into the card's memory."
    )
