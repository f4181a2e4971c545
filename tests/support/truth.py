"""How often the words of a verdict are wrong, in simulated studies whose truth is known.

    python tests/support/truth.py          # `make truth`: the tables of docs/verdict.md

A study has k methods, of which k - 1 are compared with the first, and n paired seeds. Every
candidate test is a half-width by repetition and method: a method is called better or worse
where its mean difference is larger, and equal where mean and half-width stay inside the
margin. Methods are drawn alike (or all a margin apart), so that every word is wrong.
"""

import argparse
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special
from scipy import stats as scipy_stats

from kdbench.stats.moderated import OWN_TEST, PRIOR_DF, log_variances, moderated_variances

REPORTS = Path(__file__).parents[2] / "reports"
ALPHA = 0.05
SEEDS = (3, 5, 10, 20)
METHODS = (3, 8, 20, 50)
MARGIN = 20.0
"""In standard deviations, where scores are not counts: so wide that one side decides."""
TINY = 1e-12
IMAGES = 597
IMAGE_MARGIN = 0.2 * IMAGES / 100
"""0.2 points in images of the smallest test set among the shipped studies."""


# -- studies


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


# -- tests


@dataclass(frozen=True)
class Sample:
    """What the tests take from simulated differences of m methods on n seeds."""

    values: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    @staticmethod
    def of(values: np.ndarray, image: float) -> "Sample":
        variance = np.maximum(values.var(axis=-1, ddof=1), image**2)
        return Sample(values, values.mean(axis=-1), variance)

    def first(self, repetitions: int) -> "Sample":
        return Sample(*(part[:repetitions] for part in vars(self).values()))

    @property
    def m(self) -> int:
        return self.values.shape[1]

    @property
    def n(self) -> int:
        return self.values.shape[2]


def t_half(alpha: float, df: float | np.ndarray, variance: np.ndarray, n: int) -> np.ndarray:
    return np.asarray(scipy_stats.t.isf(alpha, df) * np.sqrt(variance / n))


def paired(sample: Sample, alpha: float) -> np.ndarray:
    """Student's t, corrected at Holm's first step."""
    return t_half(alpha / sample.m, sample.n - 1, sample.variance, sample.n)


def moderated_alone(sample: Sample, alpha: float) -> np.ndarray:
    """The moderated t test without the method's own."""
    logs = log_variances(np.maximum(sample.variance, TINY), np.array(sample.n - 1))
    common = np.exp(logs.mean(axis=-1, keepdims=True))
    variance = moderated_variances(sample.variance, common, np.array(sample.n - 1))
    return t_half(alpha / sample.m, sample.n - 1 + PRIOR_DF, variance, sample.n)


def moderated(sample: Sample, alpha: float) -> np.ndarray:
    """That of `kdbench.stats.judge`."""
    own = t_half(alpha / min(sample.m, OWN_TEST), sample.n - 1, sample.variance, sample.n)
    return np.maximum(moderated_alone(sample, alpha), own)


def estimated_prior(sample: Sample, alpha: float) -> np.ndarray:
    """Smyth's own test: prior variance and degrees of freedom fitted to log variances."""
    df = sample.n - 1
    logs = log_variances(np.maximum(sample.variance, TINY), np.array(df))
    excess = logs.var(axis=-1, ddof=1, keepdims=True) - special.polygamma(1, df / 2)
    prior_df = 2 * inverse_trigamma(np.maximum(excess, 1e-4))
    prior = np.exp(
        logs.mean(axis=-1, keepdims=True) + special.digamma(prior_df / 2) - np.log(prior_df / 2)
    )
    variance = (prior_df * prior + df * sample.variance) / (prior_df + df)
    return t_half(alpha / sample.m, df + prior_df, variance, sample.n)


def inverse_trigamma(x: np.ndarray) -> np.ndarray:
    """By Newton's steps, as limma does."""
    y = 0.5 + 1 / x
    for _ in range(20):
        value = special.polygamma(1, y)
        y = y + value * (1 - value / x) / special.polygamma(2, y)
    return np.asarray(y)


def dunnett(sample: Sample, alpha: float) -> np.ndarray:
    """Dunnett's test for a blocked design: methods and seeds add up, one variance for all.
    In a balanced design a mixed model with random seeds has the same variance and degrees
    of freedom. Two-sided, whatever `alpha` is of."""
    scores = np.concatenate([np.zeros_like(sample.values[:, :1]), sample.values], axis=1)
    k, n = scores.shape[1:]
    residuals = scores - scores.mean(axis=1, keepdims=True)
    residuals -= residuals.mean(axis=2, keepdims=True)
    df = (k - 1) * (n - 1)
    variance = 2 * (residuals**2).sum(axis=(1, 2)) / df
    return np.broadcast_to(
        (dunnett_critical(k - 1, df, alpha) * np.sqrt(variance / n))[:, None], sample.mean.shape
    )


@functools.cache
def dunnett_critical(m: int, df: int, alpha: float, draws: int = 100_000) -> float:
    """The quantile of the largest of m t statistics that share a reference, one-sided at
    `alpha` (two-sided at twice that)."""
    rng = np.random.default_rng([m, df])
    statistics = rng.normal(size=(draws, m)) + rng.normal(size=(draws, 1))
    scale = np.sqrt(rng.chisquare(df, size=(draws, 1)) / df)
    largest = np.abs(statistics / math.sqrt(2) / scale).max(axis=-1)
    return float(np.quantile(largest, 1 - 2 * alpha))


def westfall_young(sample: Sample, alpha: float) -> np.ndarray:
    """The largest |t| over the methods under joint sign flips of whole seeds (1993): all
    flips up to 10 seeds, else 999 draws. It rejects nothing below 6 seeds."""
    n = sample.n
    if n <= 10:
        codes = np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1
    else:
        codes = np.random.default_rng(n).integers(0, 2, size=(1000, n))
        codes[0] = 0
    flips = 1.0 - 2.0 * codes
    squares = (sample.values**2).sum(axis=-1)
    critical = []
    for values, total in zip(sample.values, squares, strict=True):
        means = flips @ values.T / n
        variance = np.maximum((total - n * means**2) / (n - 1), TINY)
        largest = np.abs(means / np.sqrt(variance / n)).max(axis=-1)
        allowed = math.floor(2 * alpha * len(flips))  # that may reach a significant statistic
        critical.append(np.sort(largest)[::-1][allowed] if allowed else np.inf)
    half = np.array(critical)[:, None] * np.sqrt(np.maximum(sample.variance, TINY) / n)
    return np.asarray(half * (1 + 1e-9))


PAIRED, CHOSEN = "paired t, Holm", "moderated t, Holm, and own t"
"""The tests that a study can name."""
#: Each from a sample and a one-sided error.
TESTS: dict[str, Callable[[Sample, float], np.ndarray]] = {
    PAIRED: paired,
    "moderated t, Holm": moderated_alone,
    CHOSEN: moderated,
    "moderated t, estimated prior, Holm": estimated_prior,
    "Dunnett, blocked": dunnett,
    "Westfall-Young, sign flips": westfall_young,
}
OTHERS = 1000
"""The repetitions at the most of the tests that were not taken."""


# -- what is measured


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
    equal, apart = (Sample.of(v, image) for v in values)
    return equal, apart


def rates(name: str, noise: str, k: int, n: int, repetitions: int) -> Rates:
    """Of a test with k methods on n seeds."""
    test, margin = TESTS[name], NOISES[noise].margin
    count = repetitions if name in (PAIRED, CHOSEN) else min(repetitions, OTHERS)
    sample, apart = (part.first(count) for part in drawn(noise, k, n, repetitions))
    half = test(sample, ALPHA / 2)
    interval = t_half(ALPHA / 2, n - 1, sample.variance, n)
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
