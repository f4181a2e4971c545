"""What may be said about scores that are paired by seed. No torch, no MLflow, no tables.

The unit of replication is a seed. Scores, margins and differences are in one unit,
which the caller chooses (the leaderboard uses percentage points of test accuracy).

- Interval: Student's t over the seeds. Not a bootstrap: with 3, 5, 10 seeds a
  percentile bootstrap's 95 % interval covers about 75, 83, 90 %.
- Test: the two-sided paired t test; corrected over a declared family (Holm 1979).
- Equality: two one-sided tests against a margin (Schuirmann 1987), corrected over the
  same family, so that a study says "practically equal" wrongly as rarely as "better".

A member of a family that could not be tested (a method that failed, or has one seed)
still counts in the family's size: losing runs must not make the other tests easier.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

CORRECTIONS = {"holm": "Holm", "bonferroni": "Bonferroni"}
FEWEST_SEEDS = 3
"""Below this many paired seeds there is no verdict and no bold."""

Scores = Mapping[int, float]
"""Score by seed. A seed whose run has no score is left out or NaN."""


@dataclass(frozen=True)
class Analysis:
    """What was decided before the numbers were seen.

    `margin`: two methods closer than this are practically equal (the scores' unit).
    `alpha`: family-wise error. `level`: coverage of the printed intervals. `power`: for
    the smallest detectable difference. Raises `ValueError` on values that make no sense.
    """

    margin: float
    alpha: float = 0.05
    level: float = 0.95
    power: float = 0.8
    correction: str = "holm"

    def __post_init__(self) -> None:
        if self.correction not in CORRECTIONS:
            known = ", ".join(sorted(CORRECTIONS))
            raise ValueError(f"unknown correction {self.correction!r}; known: {known}")
        if not self.margin > 0:
            raise ValueError(f"the margin must be positive, not {self.margin}")
        for name in ("alpha", "level", "power"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")

    @property
    def test(self) -> str:
        """The test's name, as captions print it."""
        return "two-sided paired t test"

    @property
    def correction_name(self) -> str:
        """The correction's name, as captions print it."""
        return CORRECTIONS[self.correction]


@dataclass(frozen=True)
class Interval:
    """A mean over `n` seeds with its t interval; bounds are NaN where `n` < 2."""

    mean: float
    low: float
    high: float
    sd: float
    n: int

    @property
    def half(self) -> float:
        """Half the interval's width: what stands after the plus-minus sign."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Difference(Interval):
    """The mean of score minus reference over `seeds`, which both sides have.

    `p` is the raw two-sided p value. `constant`: the difference is the same number on
    every seed, so that there is no variance to test with; see `paired_difference`.
    """

    p: float
    df: int
    constant: bool
    seeds: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Verdict:
    """One comparison of a family, judged.

    `p_adjusted` is the corrected p, `p_equal` the corrected p of the two one-sided
    tests, `low` and `high` the interval at `level`, that of the step at which the
    correction decided: it leaves out 0 exactly when the difference is significant
    (save for constant differences).
    """

    difference: Difference
    p_adjusted: float
    p_equal: float
    level: float
    low: float
    high: float
    words: str

    @property
    def significant(self) -> bool:
        """Whether the words say better or worse."""
        return self.words.startswith(("better", "worse"))


@dataclass(frozen=True)
class Family:
    """The declared comparisons, all of them against one reference."""

    analysis: Analysis
    verdicts: Mapping[str, Verdict]

    @property
    def size(self) -> int:
        """The number of comparisons that the correction counts."""
        return len(self.verdicts)

    @property
    def seeds(self) -> int:
        """The number of seeds that most comparisons have (the larger of two equals)."""
        counts = [v.difference.n for v in self.verdicts.values() if v.difference.n]
        return max(counts, key=lambda n: (counts.count(n), n), default=0)

    @property
    def sd(self) -> float:
        """The standard deviation of the paired differences: its median over the
        comparisons, which one unsteady method does not move."""
        found = [v.difference.sd for v in self.verdicts.values() if v.difference.n > 1]
        return float(np.median(found)) if found else math.nan

    @property
    def detectable_sds(self) -> float:
        """The smallest detectable difference in units of `sd`."""
        analysis = self.analysis
        return detectable(self.seeds, analysis.alpha, analysis.power, max(self.size, 1))

    @property
    def detectable(self) -> float:
        """The smallest detectable difference in the scores' unit."""
        return self.detectable_sds * self.sd

    def detectable_by(self, name: str) -> float:
        """The same for one comparison, with its own standard deviation and seeds."""
        analysis, difference = self.analysis, self.verdicts[name].difference
        found = detectable(difference.n, analysis.alpha, analysis.power, self.size)
        return found * difference.sd


# -- one mean, one difference


def _constant(values: np.ndarray, scale: float) -> np.ndarray:
    """Whether all values of the last axis are one number, up to rounding at `scale`."""
    spread = values.max(axis=-1) - values.min(axis=-1)
    return np.asarray(spread <= 1e-11 * max(scale, float(np.abs(values).max(initial=0.0))))


def t_intervals(
    values: np.ndarray, level: float = 0.95, scale: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mean, lower and upper bound of its t interval, and p of the t test against 0,
    along the last axis (at least 2 values). `scale`: the size of the numbers that
    `values` are differences of, for telling rounding from variance.

    Values that are all one number have no variance. Their interval has no width. The t
    test would give p = 0 from three equal differences of one test image each, so p is
    the exact sign-flip test's instead: 2 / 2**n, and 1 where the number is 0.
    """
    from scipy import stats

    values = np.asarray(values, dtype=float)
    n = values.shape[-1]
    flat = _constant(values, scale)
    tested = np.where(flat[..., None], np.arange(n), values)  # any values that vary
    result = stats.ttest_1samp(tested, 0.0, axis=-1)
    bounds = result.confidence_interval(level)
    mean = values.mean(axis=-1)
    zero = np.abs(mean) <= 1e-11 * max(scale, 1e-300)
    mean = np.where(flat & zero, 0.0, mean)
    p = np.where(flat, np.where(mean == 0, 1.0, 2.0 ** (1 - n)), result.pvalue)
    return mean, np.where(flat, mean, bounds.low), np.where(flat, mean, bounds.high), p


def _known(scores: Scores) -> dict[int, float]:
    """The seeds that have a score, in order."""
    return {s: float(v) for s, v in sorted(scores.items()) if v is not None and not math.isnan(v)}


def mean_interval(scores: Scores, level: float = 0.95) -> Interval:
    """The mean over seeds and its t interval."""
    values = np.array(list(_known(scores).values()))
    if len(values) < 2:
        mean = float(values[0]) if len(values) else math.nan
        return Interval(mean, math.nan, math.nan, math.nan, len(values))
    mean, low, high, _ = (float(x) for x in t_intervals(values, level))
    sd = 0.0 if low == high else float(values.std(ddof=1))
    return Interval(mean, low, high, sd, len(values))


def paired_difference(scores: Scores, reference: Scores, level: float = 0.95) -> Difference:
    """Score minus reference, paired strictly by seed, over the seeds that both have.

    The interval is Student's t with n - 1 degrees of freedom, and `p` that of
    `scipy.stats.ttest_rel`; see `t_intervals` for differences without any variance.
    With one common seed there is a mean and nothing else, with none only NaN.
    """
    ours, theirs = _known(scores), _known(reference)
    seeds = tuple(s for s in ours if s in theirs)
    a = np.array([ours[s] for s in seeds])
    b = np.array([theirs[s] for s in seeds])
    values, n = a - b, len(seeds)
    kept = tuple(float(v) for v in values)
    if n < 2:
        mean = kept[0] if n else math.nan
        nan = math.nan
        return Difference(mean, nan, nan, nan, n, p=nan, df=0, constant=False,
                          seeds=seeds, values=kept)  # fmt: skip
    scale = float(max(np.abs(a).max(), np.abs(b).max()))
    mean, low, high, p = (float(x) for x in t_intervals(values, level, scale))
    constant = bool(_constant(values, scale))
    sd = 0.0 if constant else float(values.std(ddof=1))
    return Difference(mean, low, high, sd, n, p=p, df=n - 1, constant=constant,
                      seeds=seeds, values=kept)  # fmt: skip


def interval_at(difference: Difference, level: float) -> tuple[float, float]:
    """The t interval of a difference at another level. NaN where it has none."""
    if difference.n < 2 or difference.constant:
        return difference.low, difference.high
    from scipy import stats

    half = float(stats.t.ppf((1 + level) / 2, difference.df)) * difference.sd
    half /= math.sqrt(difference.n)
    return difference.mean - half, difference.mean + half


def equality_p(difference: Difference, margin: float) -> float:
    """p of the two one-sided tests that the true difference lies within +-`margin`.

    Without variance, 0 inside the margin and 1 outside: identical scores are equal.
    """
    if difference.n < 2:
        return math.nan
    if difference.constant:
        return 0.0 if abs(difference.mean) < margin else 1.0
    from statsmodels.stats.weightstats import ttost_paired

    values = np.asarray(difference.values)
    return float(ttost_paired(values, np.zeros_like(values), -margin, margin)[0])


# -- several of them


def adjust(ps: Sequence[float], correction: str = "holm") -> list[float]:
    """Corrected p values. A NaN counts in the family's size and stays NaN."""
    if len(ps) == 0:
        return []
    from statsmodels.stats.multitest import multipletests

    raw = np.asarray(ps, dtype=float)
    missing = np.isnan(raw)
    adjusted = multipletests(np.where(missing, 1.0, raw), method=correction)[1]
    return [math.nan if m else float(p) for m, p in zip(missing, adjusted, strict=True)]


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's step-down p values (Holm 1979), as statsmodels computes them."""
    return adjust(ps, "holm")


def step_alphas(ps: Sequence[float], alpha: float, correction: str = "holm") -> list[float]:
    """The error at which the correction decided each comparison.

    Holm tests the j-th smallest of m p values at alpha / (m - j + 1) and stops at the
    first that fails; all that are not rejected were decided at that step. So the
    interval at 1 - step_alpha leaves out 0 exactly for the rejected.
    """
    m = len(ps)
    if correction == "bonferroni":
        return [alpha / m] * m
    adjusted = adjust(ps, correction)
    rejected = [p <= alpha for p in adjusted]  # NaN compares false
    stop = alpha / max(m - sum(rejected), 1)
    below = [sum(q < p for q in ps) for p in ps]
    return [alpha / (m - b) if r else stop for b, r in zip(below, rejected, strict=True)]


def words(mean: float, n: int, p_adjusted: float, p_equal: float, alpha: float) -> str:
    """The verdict on one comparison, in words."""
    if n < FEWEST_SEEDS:
        return f"no verdict below {FEWEST_SEEDS} seeds"
    differs, equal = p_adjusted <= alpha, p_equal <= alpha
    if differs:
        direction = "better" if mean > 0 else "worse"
        return f"{direction} but practically equal" if equal else direction
    return "practically equal" if equal else f"cannot tell at {n} seeds"


def judge(differences: Mapping[str, Difference], analysis: Analysis) -> Family:
    """Correct and judge a family of differences from one reference."""
    found = list(differences.values())
    raw = [d.p for d in found]
    adjusted = adjust(raw, analysis.correction)
    equal = adjust([equality_p(d, analysis.margin) for d in found], analysis.correction)
    steps = step_alphas(raw, analysis.alpha, analysis.correction)
    verdicts = {}
    for name, d, p, q, step in zip(differences, found, adjusted, equal, steps, strict=True):
        low, high = interval_at(d, 1 - step)
        said = words(d.mean, d.n, p, q, analysis.alpha)
        verdicts[name] = Verdict(d, p, q, 1 - step, low, high, said)
    return Family(analysis, verdicts)


@dataclass(frozen=True)
class BestSet:
    """The highest mean, and all that the corrected tests do not tell apart from it."""

    best: str | None
    members: frozenset[str]
    comparisons: int
    analysis: Analysis


def best_set(scores: Mapping[str, Scores], analysis: Analysis) -> BestSet:
    """Test all pairs, correct over all pairs, and keep what is not rejected against the
    best. Methods with fewer than 3 scored seeds take no part, and with fewer than two
    methods there is no set."""
    entered = {k: _known(v) for k, v in scores.items() if len(_known(v)) >= FEWEST_SEEDS}
    if len(entered) < 2:
        return BestSet(None, frozenset(), 0, analysis)
    pairs = list(combinations(entered, 2))
    found = [paired_difference(entered[a], entered[b]) for a, b in pairs]
    ps = [d.p if d.n >= FEWEST_SEEDS else math.nan for d in found]
    adjusted = dict(zip(pairs, adjust(ps, analysis.correction), strict=True))
    best = max(entered, key=lambda k: float(np.mean(list(entered[k].values()))))
    told = {k for pair, p in adjusted.items() if best in pair and p <= analysis.alpha for k in pair}
    return BestSet(best, frozenset(entered) - (told - {best}), len(pairs), analysis)


# -- how small a difference could have been seen


def detectable(n: int, alpha: float = 0.05, power: float = 0.8, comparisons: int = 1) -> float:
    """The smallest true difference that `n` paired seeds detect with `power`, in units of
    the standard deviation of the paired differences; NaN below 2 seeds.

    At alpha / comparisons: the first Holm step, which equals Bonferroni's. It solves
    what statsmodels' `TTestPower` computes, without its lower tail (the chance of a
    significant result of the wrong sign): scipy's `nct.cdf` is NaN for many arguments
    there, on which `TTestPower.solve_power` silently returns wrong numbers.
    """
    if n < 2:
        return math.nan
    from scipy import optimize, stats

    df = n - 1
    critical = float(stats.t.isf(alpha / comparisons / 2, df))

    def missing(effect: float) -> Any:
        return stats.nct.sf(critical, df, effect * math.sqrt(n)) - power

    high = 1.0
    while missing(high) < 0:
        high *= 2
    return float(optimize.brentq(missing, 0.0, high, xtol=1e-10))


def seeds_needed(
    effect: float,
    alpha: float = 0.05,
    power: float = 0.8,
    comparisons: int = 1,
    most: int = 10_000,
) -> int | None:
    """The fewest paired seeds that detect `effect` (in standard deviations of the paired
    differences, sign ignored) with `power`; None where `most` would not do."""
    effect = abs(effect)
    if math.isnan(effect) or detectable(most, alpha, power, comparisons) > effect:
        return None
    low, high = 1, most  # `low` does not do, `high` does
    while high - low > 1:
        middle = (low + high) // 2
        if detectable(middle, alpha, power, comparisons) <= effect:
            high = middle
        else:
            low = middle
    return high
