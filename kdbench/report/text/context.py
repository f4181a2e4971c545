"""The numbers that captions and notes are written from, and how they print counts and shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdbench.records.measures import MEASURES, Measure
from kdbench.records.plan_file import PlanFile
from kdbench.report.rows import TableRow
from kdbench.stats import BestSet, Family


@dataclass(frozen=True)
class Context:
    """Everything that captions and notes are written from.

    `frame` holds the runs, `rows` the rows of the table and `primary` the row that stands
    for each method. `image`: how much one test image counts in percentage points at most, or 0
    if the size of the test set is unknown. `cost`: the measured cost of the methods.
    """

    plan: PlanFile
    frame: pd.DataFrame
    rows: Sequence[TableRow]
    primary: Mapping[str, TableRow]
    family: Family
    best: BestSet
    image: float
    incomplete: bool
    cost: Mapping[str, Any]

    @property
    def measure(self) -> Measure:
        """The score that is compared."""
        return MEASURES[self.plan.measure]


class Sentence(str):
    """A sentence with its topic, by which other texts find it."""

    topic: str

    def __new__(cls, text: str, topic: str = "") -> "Sentence":
        self = super().__new__(cls, text)
        self.topic = topic
        return self


def count(n: int, word: str, plural: str = "") -> str:
    """`1 seed`, `5 seeds`, `10,000 images`."""
    return f"{n:,} {word if n == 1 else plural or f'{word}s'}"


def percent(share: float) -> str:
    """`95 %` of 0.95."""
    return f"{100 * share:g} %"
