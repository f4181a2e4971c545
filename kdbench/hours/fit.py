"""How much of a card's peak rates a step reaches: a fit to measured steps, and its error.

    seconds = calls * per_call + flops / (of_products * products a second)
              + bytes / (of_bandwidth * bytes a second)

The factors are fitted to CPU steps for the CPU, and to an H200's for every GPU.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from kdbench.hours.cards import CARDS, Card
from kdbench.hours.measured import MEASURED, Measured
from kdbench.hours.work import Work

#: The card whose measured steps stand for those of all GPUs.
MEASURED_GPU = "h200"


@dataclass(frozen=True)
class Factors:
    """Seconds for an operation of a run alone and of one of several `together`, and the shares of
    the peak rates that are reached (infinite: that part of the work costs nothing)."""

    per_call: float
    per_call_together: float
    of_products: float
    of_bandwidth: float

    def seconds(self, work: Work, card: Card, precision: str, together: bool = False) -> float:
        """The seconds of so much work."""
        per_call = self.per_call_together if together else self.per_call
        products = work.flops / (self.of_products * card.rate(precision))
        return work.calls * per_call + products + work.bytes / (self.of_bandwidth * card.bandwidth)


@dataclass(frozen=True)
class Error:
    """How far predictions of left-out networks are from what was measured, as factors of 1 or
    more: that of the median row and that of the worst, which is `network`'s."""

    typical: float
    worst: float
    network: str


def rows_for(card: Card) -> list[Measured]:
    """The measured steps that the factors of a card are fitted to."""
    return [row for row in MEASURED if row.card == ("cpu" if card.name == "cpu" else MEASURED_GPU)]


@cache
def factors_for(card: Card) -> Factors:
    """The factors for a card."""
    return fit(rows_for(card))


def fit(rows: Sequence[Measured]) -> Factors:
    """The factors that make the sum of squared relative errors smallest, none of them negative."""
    from scipy.optimize import nnls

    columns = np.array([_parts(row) for row in rows])
    seconds = np.array([row.seconds for row in rows])
    (alone, together, products, moved), _ = nnls(columns / seconds[:, None], np.ones(len(rows)))
    return Factors(float(alone), float(together), _share(products), _share(moved))


def _parts(row: Measured) -> tuple[float, float, float, float]:
    card, work = CARDS[row.card], row.work
    alone, together = (0.0, work.calls) if row.together else (work.calls, 0.0)
    return alone, together, work.flops / card.rate(row.precision), work.bytes / card.bandwidth


def _share(times: float) -> float:
    return 1 / float(times) if times else math.inf


@cache
def error_for(card: Card) -> Error:
    """The error of the factors for a card, each network predicted from all others."""
    rows = rows_for(card)
    found = []
    for row in rows:
        factors = fit([other for other in rows if other.network != row.network])
        found.append((abs(math.log(predicted(factors, row) / row.seconds)), row.network))
    worst, network = max(found)
    return Error(math.exp(statistics.median(e for e, _ in found)), math.exp(worst), network)


def predicted(factors: Factors, row: Measured) -> float:
    """The seconds that the factors give for a measured row."""
    return factors.seconds(row.work, CARDS[row.card], row.precision, row.together)


def networks_of(rows: Iterable[Measured]) -> list[str]:
    """The networks of some rows, each once."""
    return list(dict.fromkeys(row.network for row in rows))
