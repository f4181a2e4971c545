"""Candidate tests of a family of differences, on many simulated studies at once.

Each is a half-width by repetition and method: a method is called better or worse where its mean
difference is larger, and equal where mean and half-width stay inside the margin.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special
from scipy import stats as scipy_stats

from kdbench.stats.moderated import OWN_TEST, PRIOR_DF, moderated_variances, unbiased

TINY = 1e-12


@dataclass(frozen=True)
class Sample:
    """What the tests take from simulated differences of m methods on n seeds."""

    values: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    least: float = 0.0

    @staticmethod
    def of(values: np.ndarray, image: float, least: float = 0.0) -> "Sample":
        """`least`: the least variance that a test takes."""
        variance = np.maximum(values.var(axis=-1, ddof=1), image**2)
        return Sample(values, values.mean(axis=-1), variance, least)

    def first(self, repetitions: int) -> "Sample":
        parts = (part[:repetitions] for part in (self.values, self.mean, self.variance))
        return Sample(*parts, self.least)

    @property
    def m(self) -> int:
        return self.values.shape[1]

    @property
    def n(self) -> int:
        return self.values.shape[2]


def t_half(
    sample: Sample, alpha: float, df: float | np.ndarray, variance: np.ndarray
) -> np.ndarray:
    se = np.sqrt(np.maximum(variance, sample.least) / sample.n)
    return np.asarray(scipy_stats.t.isf(alpha, df) * se)


def paired(sample: Sample, alpha: float) -> np.ndarray:
    """Student's t, corrected at Holm's first step."""
    return t_half(sample, alpha / sample.m, sample.n - 1, sample.variance)


def moderated_alone(sample: Sample, alpha: float) -> np.ndarray:
    """The moderated t test without the method's own."""
    df = np.array(sample.n - 1)
    common = unbiased(np.sqrt(sample.variance), df).mean(axis=-1, keepdims=True) ** 2
    variance = moderated_variances(sample.variance, common, df)
    return t_half(sample, alpha / sample.m, df + PRIOR_DF, variance)


def moderated(sample: Sample, alpha: float) -> np.ndarray:
    """That of `kdbench.stats.judge`."""
    own = t_half(sample, alpha / min(sample.m, OWN_TEST), sample.n - 1, sample.variance)
    return np.maximum(moderated_alone(sample, alpha), own)


def estimated_prior(sample: Sample, alpha: float) -> np.ndarray:
    """Smyth's own test: prior variance and degrees of freedom fitted to log variances."""
    df = sample.n - 1
    logs = np.log(np.maximum(sample.variance, TINY)) - special.digamma(df / 2) + math.log(df / 2)
    excess = logs.var(axis=-1, ddof=1, keepdims=True) - special.polygamma(1, df / 2)
    prior_df = 2 * inverse_trigamma(np.maximum(excess, 1e-4))
    prior = np.exp(
        logs.mean(axis=-1, keepdims=True) + special.digamma(prior_df / 2) - np.log(prior_df / 2)
    )
    variance = (prior_df * prior + df * sample.variance) / (prior_df + df)
    return t_half(sample, alpha / sample.m, df + prior_df, variance)


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
