"""Scores of simulated studies whose truth is known, from noise of several kinds."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

REPORTS = Path(__file__).parents[2] / "reports"
MARGIN = 20.0
"""In standard deviations, where scores are not counts: so wide that one side decides."""
IMAGES = 597
IMAGE_MARGIN = 0.2 * IMAGES / 100
"""0.2 points in images of the smallest test set among the shipped studies."""


@functools.cache
def report_spreads() -> np.ndarray:
    """The standard deviations of the tuned rows' differences in the committed reports, each
    relative to the median of its report."""
    spreads = []
    for study in ("digits", "mnist", "cifar10"):
        runs = pd.read_csv(REPORTS / study / "runs.csv.gz")
        scores = runs.pivot_table(index="seed", columns=["row", "label"], values="accuracy")
        sds = scores["tuned"].sub(scores["only", "ce"], axis=0).std().dropna()
        spreads.append(sds / sds.median())
    return np.sort(np.concatenate(spreads))


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.normal(size=shape)


def t3(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_t(3, size=shape) / math.sqrt(3)


@dataclass(frozen=True)
class Noise:
    """How scores vary by seed. `spreads` gives the standard deviation of each of m methods'
    own part and of the reference's; `draw` their distribution; `counts`: scores are whole
    images, and spreads are in images."""

    spreads: Callable[[int], tuple[np.ndarray, float]]
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray] = normal
    counts: bool = False

    @property
    def margin(self) -> float:
        return IMAGE_MARGIN if self.counts else MARGIN

    def differences(
        self, rng: np.random.Generator, repetitions: int, m: int, n: int, shift: float
    ) -> np.ndarray:
        """Method minus reference, (repetitions, m, n), of truly `shift` better methods."""
        own, reference = self.spreads(m)
        methods = own[:, None] * self.draw(rng, (repetitions, m, n))
        base = reference * self.draw(rng, (repetitions, 1, n))
        if not self.counts:
            return methods + shift - base
        shared = 5 * rng.normal(size=(repetitions, 1, n))  # so wide that rounding moves no mean
        return np.round(shared + methods + shift) - np.round(shared + base)


@dataclass(frozen=True)
class Disagreements:
    """Counts of images that only one of two runs gets right, Poisson, whose expectation
    differs by the shift: `rarest` is that of the rarer kind, over the methods in turn. With
    `certain`, whole images of the shift are gained on every seed."""

    rarest: tuple[float, ...]
    certain: bool = False
    margin: float = IMAGE_MARGIN
    counts: bool = True

    def differences(
        self, rng: np.random.Generator, repetitions: int, m: int, n: int, shift: float
    ) -> np.ndarray:
        rarest = np.resize(self.rarest, m)[:, None]
        sure = math.floor(shift) if self.certain else 0
        gained = rng.poisson(rarest + shift - sure, size=(repetitions, m, n))
        return sure + gained - rng.poisson(rarest, size=(repetitions, m, n)).astype(float)


def equal_spreads(m: int) -> tuple[np.ndarray, float]:
    return np.full(m, math.sqrt(0.5)), math.sqrt(0.5)


def noisy_method(m: int) -> tuple[np.ndarray, float]:
    own, reference = equal_spreads(m)
    own[0] *= 5
    return own, reference


def noisy_half(m: int) -> tuple[np.ndarray, float]:
    own, reference = equal_spreads(m)
    own[: m // 2] *= 5
    return own, reference


def noisy_reference(m: int) -> tuple[np.ndarray, float]:
    own, reference = equal_spreads(m)
    return own, 5 * reference


def spreads_of_reports(m: int) -> tuple[np.ndarray, float]:
    spreads = np.quantile(report_spreads(), (np.arange(m) + 0.5) / m)
    reference = spreads[0] * math.sqrt(0.5)
    return np.sqrt(spreads**2 - reference**2), reference


NOISES: dict[str, Noise | Disagreements] = {
    "equal variances": Noise(equal_spreads),
    "those of the reports": Noise(spreads_of_reports),
    "one method five times noisier": Noise(noisy_method),
    "half of the methods five times noisier": Noise(noisy_half),
    "the reference five times noisier": Noise(noisy_reference),
    "t3 tails": Noise(equal_spreads, t3),
    "images, equal variances": Noise(equal_spreads, counts=True),
    "images, those of the reports": Noise(spreads_of_reports, counts=True),
    "images, few disagreements": Disagreements((0.0, 0.1, 0.5, 2.0)),
    "images, a whole one certain": Disagreements((0.0,), certain=True),
    "10,000 images, disagreements": Disagreements((0.0, 1.0, 10.0, 50.0), margin=20.0),
}
