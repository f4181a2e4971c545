"""How often the words of a verdict are wrong, in simulated studies whose truth is known.

    make truth            # the tables of docs/verdict.md

A study has k methods, of which k - 1 are compared with the first, and n paired seeds. Methods are
drawn alike (or all a margin apart), so that every word is wrong.
"""

import argparse
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from support.candidate_tests import (
    CHOSEN,
    PAIRED,
    TESTS,
    TINY,
    Sample,
    moderated,
    t_half,
    westfall_young,
)
from support.simulated_studies import NOISES

ALPHA = 0.05
SEEDS = (3, 5, 10, 20)
METHODS = (3, 8, 20, 50)
OTHERS = 1000
"""The repetitions at the most of the tests that were not taken."""


@dataclass(frozen=True)
class Rates:
    """Percentages of studies in which some method is wrongly called better or worse
    (`differs`) or equal; the `coverage` of the 95 % interval of the method where it is
    lowest; and the difference of a method that is detected with 80 % power, in its own
    standard deviations: the median over the methods."""

    differs: float
    equal: float
    coverage: float
    detectable: float


def left_out(noise: str, k: int, n: int, repetitions: int) -> float:
    """The percentage of studies of k equal methods in which the chosen test tells some pair
    apart, so at least that in which the set of best methods leaves one out."""
    study = NOISES[noise]
    rng = np.random.default_rng([len(noise), k, n, 1])
    values = study.differences(rng, repetitions, k - 1, n, 0.0)
    scores = np.concatenate([np.zeros_like(values[:, :1]), values], axis=1)
    first, second = np.triu_indices(k, 1)
    sample = Sample.of(scores[:, first] - scores[:, second], 1.0 if study.counts else 0.0)
    half = moderated(sample, ALPHA / 2)
    return 100 * float((np.abs(sample.mean) > half).any(axis=-1).mean())


@functools.lru_cache(maxsize=1)
def drawn(noise: str, k: int, n: int, repetitions: int) -> tuple[Sample, Sample]:
    """Studies of equal methods, and of methods a margin above the reference."""
    study = NOISES[noise]
    rng = np.random.default_rng([len(noise), k, n])
    shifts, image = (0.0, study.margin), 1.0 if study.counts else 0.0
    values = [study.differences(rng, repetitions, k - 1, n, shift) for shift in shifts]
    least = study.margin if study.counts else 0.0  # as `kdbench.stats.equality_p` has it
    return Sample.of(values[0], image), Sample.of(values[1], image, least)


def rates(name: str, noise: str, k: int, n: int, repetitions: int) -> Rates:
    """Of a test with k methods on n seeds."""
    test, margin = TESTS[name], NOISES[noise].margin
    count = repetitions if name in (PAIRED, CHOSEN) else min(repetitions, OTHERS)
    sample, apart = (part.first(count) for part in drawn(noise, k, n, repetitions))
    half = test(sample, ALPHA / 2)
    interval = t_half(sample, ALPHA / 2, n - 1, sample.variance)
    covered = (np.abs(sample.mean) <= interval).mean(axis=0).min()
    differs = (np.abs(sample.mean) > half).any(axis=-1).mean()
    equal = equal_rate(apart, test, margin)
    detected = np.sort(half - sample.mean, axis=0)[math.ceil(0.8 * count) - 1]
    spread = np.maximum(sample.values.std(axis=(0, 2)), TINY)
    return Rates(100 * differs, 100 * equal, 100 * covered, float(np.median(detected / spread)))


def equal_rate(sample: Sample, test: Callable[[Sample, float], np.ndarray], margin: float) -> float:
    """The share of studies in which some method is called equal. Flips are those of the
    differences from the margin."""
    if test is westfall_young:
        sample = Sample(sample.values - margin, sample.mean - margin, sample.variance)
        return float((sample.mean < -test(sample, ALPHA)).any(axis=-1).mean())
    half = test(sample, ALPHA)
    return float((np.abs(sample.mean) + half < margin).any(axis=-1).mean())


# -- tables


def markdown(frame: pd.DataFrame) -> str:
    head = "| " + " | ".join([frame.index.name or "", *map(str, frame.columns)]) + " |"
    rule = "|---|" + "---:|" * frame.shape[1]
    rows = [f"| {i} | " + " | ".join(map(str, row)) + " |" for i, row in frame.iterrows()]
    return "\n".join([head, rule, *rows])


def tables(repetitions: int) -> str:
    """What docs/verdict.md holds."""
    measured = {
        (name, noise, n, k): rates(name, noise, k, n, repetitions)
        for noise in NOISES
        for n in SEEDS
        for k in METHODS
        for name in TESTS
    }
    parts = [
        f"{repetitions:,} repetitions a cell, {min(OTHERS, repetitions):,} for the tests that "
        "were not taken."
    ]
    lines = {}
    for name in TESTS:
        cells = [v for (test, *_), v in measured.items() if test == name]
        lines[name] = {
            "wrongly better or worse, worst cell": f"{max(c.differs for c in cells):.1f} %",
            "wrongly equal, worst cell": f"{max(c.equal for c in cells):.1f} %",
        }
    frame = pd.DataFrame(lines).T
    frame.index.name = "test"
    parts.append(markdown(frame))
    for noise in ("equal variances", "those of the reports"):
        frame = pd.DataFrame({
            name: {
                f"{n} seeds": " / ".join(
                    f"{measured[name, noise, n, k].detectable:.2f}".replace("inf", "–")
                    for k in METHODS
                )
                for n in SEEDS
            }
            for name in TESTS
        }).T  # fmt: skip
        frame.index.name = f"smallest detectable difference, {noise}"
        parts.append(markdown(frame))
    for name in (PAIRED, CHOSEN):
        frame = pd.DataFrame({
            (noise, n): {
                f"{k} methods": f"{r.differs:.1f} / {r.equal:.1f}"
                for k in METHODS
                for r in [measured[name, noise, n, k]]
            } | {"coverage": f"{min(measured[name, noise, n, k].coverage for k in METHODS):.1f}"}
            for noise in NOISES
            for n in SEEDS
        }).T  # fmt: skip
        frame.index = pd.Index([f"{a}, {b} seeds" for a, b in frame.index], name=name)
        parts.append(markdown(frame))
    pairs = min(repetitions, 2000)
    frame = pd.DataFrame({
        noise: {
            f"{n} seeds": " / ".join(f"{left_out(noise, k, n, pairs):.1f}" for k in METHODS[:3])
            for n in SEEDS
        }
        for noise in NOISES
    }).T  # fmt: skip
    frame.index.name = f"some pair of 3 / 8 / 20 told apart, %, {pairs:,} repetitions"
    parts.append(markdown(frame))
    return "\n\n".join(parts)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=10_000)
    print(tables(parser.parse_args().repetitions))
