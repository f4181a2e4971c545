"""What the sentences about a leaderboard are made from, and how they say a number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from kdbench.report.data.runs import Plan
from kdbench.stats import BestSet, Family

if TYPE_CHECKING:
    from kdbench.report.rows import Line


@dataclass(frozen=True)
class Context:
    """All that the sentences are made from. `image` is what one test image is worth, in
    percentage points, or 0 where the size of the test set is not known."""

    plan: Plan
    frame: pd.DataFrame
    lines: "Sequence[Line]"
    mains: "Mapping[str, Line]"
    family: Family
    best: BestSet
    image: float
    second: str | None
    incomplete: bool
    cost: Mapping[str, Any]


class Sentence(str):
    """A sentence and what it is about, so that other texts can take it over by that name."""

    about: str

    def __new__(cls, text: str, about: str = "") -> "Sentence":
        self = super().__new__(cls, text)
        self.about = about
        return self


def count(n: int, word: str, plural: str = "") -> str:
    """`1 seed`, `5 seeds`, `10,000 images`."""
    return f"{n:,} {word if n == 1 else plural or f'{word}s'}"


def percent(share: float) -> str:
    """`95 %` of 0.95."""
    return f"{100 * share:g} %"
