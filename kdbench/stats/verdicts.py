"""The verdicts on a declared family of comparisons, and the set of best methods."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np

from kdbench.stats.analysis import MODERATED, Analysis
from kdbench.stats.moderated import (
    common_variance,
    confirmed_interval,
    confirmed_p,
    moderate,
    own_comparisons,
)
from kdbench.stats.paired import (
    FEWEST_SEEDS,
    Difference,
    Scores,
    drop_missing,
    equality_p,
    paired_difference,
)
from kdbench.stats.power import detectable

NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Verdict:
    """The verdict on one comparison of a family.

    `difference` has the method's own variance, `tested` that of the family's test.
    `p_adjusted` is the corrected p, `p_equal` the corrected p of the two one-sided
    tests, `low` and `high` the interval at `level`, which is that of the step at which
    the correction decided: it excludes 0 exactly when the difference is significant
    (except for constant differences, and for pooled ones that sign flips do not
    confirm; see `judge_pooled`). `text` is the verdict in words. `share`: the part of the
    family-wise error that its look spends, 1 without looks.
    """

    difference: Difference
    tested: Difference
    p_adjusted: float
    p_equal: float
    level: float
    low: float
    high: float
    text: str
    share: float = 1.0

    @property
    def significant(self) -> bool:
        """Whether the verdict is better or worse."""
        return self.text.startswith(("better", "worse"))

    @property
    def equal(self) -> bool:
        """Whether the verdict is practically equal."""
        return self.text.endswith("practically equal")

    @property
    def decided(self) -> bool:
        """Whether more seeds are of no use: there is a verdict, or there are hardly any scores."""
        return self.significant or self.equal or self.difference.n < FEWEST_SEEDS


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
        """The number of seeds that most comparisons have (the larger of two equals); with looks
        the most that any has, since a method that is not decided goes on to them."""
        counts = [v.difference.n for v in self.verdicts.values() if v.difference.n]
        if self.analysis.looks:
            return max(counts, default=0)
        return max(counts, key=lambda n: (counts.count(n), n), default=0)

    @property
    def sd(self) -> float:
        """The standard deviation of the paired differences: its median over the
        comparisons, which one noisy method does not change."""
        sds = [v.difference.sd for v in self.verdicts.values() if v.difference.n > 1]
        return float(np.median(sds)) if sds else math.nan

    @property
    def df(self) -> float:
        """The degrees of freedom: their median over the comparisons that have `seeds`."""
        seeds = self.seeds
        dfs = [v.difference.df for v in self.verdicts.values() if v.difference.n == seeds]
        return float(np.median(dfs)) if dfs else math.nan

    def common(self, sd: float) -> float | None:
        """The common variance relative to that of a comparison with the standard deviation
        `sd`; None where every comparison has its own."""
        if self.analysis.test != MODERATED:
            return None
        return self.common_variance / sd**2 if sd else None

    @property
    def common_variance(self) -> float:
        """The variance that moderated tests shrink theirs towards; 0 where there is none."""
        if self.analysis.test != MODERATED:
            return 0.0
        return common_variance({k: v.difference for k, v in self.verdicts.items()})

    @property
    def detectable_sds(self) -> float:
        """The smallest detectable difference in units of `sd`."""
        analysis, m = self.analysis, max(self.size, 1)
        common, alpha = self.common(self.sd), analysis.alpha * analysis.share(self.seeds)
        return detectable(self.seeds, alpha, analysis.power, m, self.df, common)

    @property
    def detectable(self) -> float:
        """The smallest detectable difference in the scores' unit."""
        return self.detectable_sds * self.sd

    def detectable_by(self, name: str) -> float:
        """The smallest detectable difference of one comparison, from the standard deviation
        and the number of seeds of that comparison."""
        analysis, d = self.analysis, self.verdicts[name].difference
        common, alpha = self.common(d.sd), analysis.alpha * self.verdicts[name].share
        return detectable(d.n, alpha, analysis.power, self.size, d.df, common) * d.sd


def adjust(ps: Sequence[float], correction: str = "holm") -> list[float]:
    """Corrected p values; "holm" is Holm's step-down procedure (1979). A NaN counts in the
    family's size and stays NaN. The same as statsmodels' `multipletests`, which however collects
    the process's garbage at every call: a second each where torch is loaded."""
    raw = np.asarray(ps, dtype=float)
    missing, m = np.isnan(raw), len(raw)
    order = np.argsort(np.where(missing, 1.0, raw), kind="stable")
    factors = m - np.arange(m) if correction == "holm" else np.full(m, m)
    sorted_ps = np.maximum.accumulate(np.where(missing, 1.0, raw)[order] * factors)
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(sorted_ps, 1.0)
    return [math.nan if none else float(p) for none, p in zip(missing, adjusted, strict=True)]


def step_alphas(ps: Sequence[float], alpha: float, correction: str = "holm") -> list[float]:
    """The error at which the correction decided each comparison.

    Holm tests the j-th smallest of m p values at alpha / (m - j + 1) and stops at the
    first that fails; all that are not rejected are decided at that step. So the
    interval at 1 - step_alpha excludes 0 exactly for the rejected.
    """
    m = len(ps)
    if correction == "bonferroni":
        return [alpha / m] * m
    adjusted = adjust(ps, correction)
    rejected = [p <= alpha for p in adjusted]  # NaN compares false
    stop = alpha / max(m - sum(rejected), 1)
    below = [sum(q < p for q in ps) for p in ps]
    return [alpha / (m - b) if r else stop for b, r in zip(below, rejected, strict=True)]


def verdict_text(mean: float, n: int, p_adjusted: float, p_equal: float, alpha: float) -> str:
    """The verdict on one comparison, in words."""
    if n < FEWEST_SEEDS:
        return f"no verdict below {FEWEST_SEEDS} seeds"
    differs, equal = p_adjusted <= alpha, p_equal <= alpha
    if differs:
        direction = "better" if mean > 0 else "worse"
        return f"{direction} but practically equal" if equal else direction
    return "practically equal" if equal else f"cannot tell at {n} seeds"


def without_reference(family: Family) -> Family:
    """The family where the reference has no score: its verdicts say so, in place of counting
    seeds."""
    text = "no verdict without the reference"
    return replace(family, verdicts={k: replace(v, text=text) for k, v in family.verdicts.items()})


def judge(
    differences: Mapping[str, Difference],
    analysis: Analysis,
    equal: Callable[[Difference, float], float] = equality_p,
    decided: Mapping[str, Verdict] = NONE,
) -> Family:
    """Test, correct and judge a family of differences from one reference. `equal` computes
    the p of the test that a difference lies within a margin.

    `decided` holds the verdicts of comparisons that stand, from a look before: they are not
    judged again, and Holm's procedure does not count those that it has rejected, among the
    differences and among the equalities.
    """
    alpha, own = analysis.alpha, own_comparisons(analysis, len(differences))
    tested = moderate(differences) if analysis.test == MODERATED else dict(differences)
    ps, equal_ps = {}, {}
    for name, d in tested.items():
        stands = decided.get(name)
        if not (stands and stands.significant):
            ps[name] = math.nan if stands else d.p
        if not (stands and stands.equal):
            equal_ps[name] = math.nan if stands else equal(d, analysis.margin)
    adjusted = _adjusted(ps, analysis.correction)
    equal_adjusted = _adjusted(equal_ps, analysis.correction)
    steps = dict(zip(ps, step_alphas([*ps.values()], alpha, analysis.correction), strict=True))
    verdicts = dict(decided)
    for name in differences.keys() - decided.keys():
        d = differences[name]
        p = confirmed_p(adjusted[name], d.p, own)
        p_equal = confirmed_p(equal_adjusted[name], equal(d, analysis.margin), own)
        low, high = confirmed_interval(tested[name], d, steps[name], alpha, own)
        text = verdict_text(d.mean, d.n, p, p_equal, alpha)
        verdicts[name] = Verdict(d, tested[name], p, p_equal, 1 - steps[name], low, high, text)
    return Family(analysis, {name: verdicts[name] for name in differences})


def _adjusted(ps: Mapping[str, float], correction: str) -> dict[str, float]:
    return dict(zip(ps, adjust([*ps.values()], correction), strict=True))


@dataclass(frozen=True)
class BestSet:
    """The method with the highest mean (`best`), and the methods that the corrected tests
    do not tell apart from it (`members`, with the best). `comparisons` counts all pairs;
    `common` is the variance that moderated tests shrink theirs towards."""

    best: str | None
    members: frozenset[str]
    comparisons: int
    analysis: Analysis
    common: float | None = None


def best_set(scores: Mapping[str, Scores], analysis: Analysis) -> BestSet:
    """Test all pairs, correct over all pairs, and keep the methods that are not rejected
    against the best. Methods with fewer than 3 scored seeds are left out, and of fewer
    than two methods there is no set."""
    by_seed = {k: drop_missing(v) for k, v in scores.items()}
    by_seed = {k: v for k, v in by_seed.items() if len(v) >= FEWEST_SEEDS}
    means = {k: float(np.mean(list(v.values()))) for k, v in by_seed.items()}
    pairs = combinations(by_seed, 2)
    differences = {
        (a, b): paired_difference(by_seed[a], by_seed[b], analysis.level, analysis.image)
        for a, b in pairs
    }
    return best_of(means, differences, analysis)


def best_of(
    means: Mapping[str, float],
    differences: Mapping[tuple[str, str], Difference],
    analysis: Analysis,
) -> BestSet:
    """`best_set` from the methods' mean scores and the differences of all pairs. A pair
    with fewer than 3 seeds cannot be told apart, but counts. Where there are looks, a pair is
    tested with what the look at its number of seeds spends of the error."""
    if len(means) < 2:
        return BestSet(None, frozenset(), 0, analysis)
    own = own_comparisons(analysis, len(differences))
    moderated = analysis.test == MODERATED
    tested = moderate(differences) if moderated else differences
    shares = {pair: analysis.share(d.n) for pair, d in differences.items()}
    ps = [d.p / shares[pair] if d.n >= FEWEST_SEEDS else math.nan for pair, d in tested.items()]
    adjusted = dict(zip(differences, adjust(ps, analysis.correction), strict=True))
    best = max(means, key=lambda k: means[k])
    rejected = [
        pair
        for pair, p in adjusted.items()
        if best in pair
        and confirmed_p(p, differences[pair].p / shares[pair], own) <= analysis.alpha
    ]
    worse = {k for pair in rejected for k in pair} - {best}
    common = common_variance(differences) if moderated else None
    return BestSet(best, frozenset(means) - worse, len(adjusted), analysis, common)
