"""The verdicts on a declared family of comparisons, and the set of best methods."""

import gc
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

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


@dataclass(frozen=True)
class Verdict:
    """The verdict on one comparison of a family.

    `difference` has the method's own variance, `tested` that of the family's test.
    `p_adjusted` is the corrected p, `p_equal` the corrected p of the two one-sided
    tests, `low` and `high` the interval at `level`, which is that of the step at which
    the correction decided: it excludes 0 exactly when the difference is significant
    (except for constant differences, and for pooled ones that sign flips do not
    confirm; see `judge_pooled`). `text` is the verdict in words.
    """

    difference: Difference
    tested: Difference
    p_adjusted: float
    p_equal: float
    level: float
    low: float
    high: float
    text: str

    @property
    def significant(self) -> bool:
        """Whether the verdict is better or worse."""
        return self.text.startswith(("better", "worse"))


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
        common = common_variance({k: v.difference for k, v in self.verdicts.items()})
        return common / sd**2 if sd else None

    @property
    def detectable_sds(self) -> float:
        """The smallest detectable difference in units of `sd`."""
        analysis, m = self.analysis, max(self.size, 1)
        common = self.common(self.sd)
        return detectable(self.seeds, analysis.alpha, analysis.power, m, self.df, common)

    @property
    def detectable(self) -> float:
        """The smallest detectable difference in the scores' unit."""
        return self.detectable_sds * self.sd

    def detectable_by(self, name: str) -> float:
        """The smallest detectable difference of one comparison, from the standard deviation
        and the number of seeds of that comparison."""
        analysis, d = self.analysis, self.verdicts[name].difference
        common = self.common(d.sd)
        return detectable(d.n, analysis.alpha, analysis.power, self.size, d.df, common) * d.sd


def adjust(ps: Sequence[float], correction: str = "holm") -> list[float]:
    """Corrected p values, as statsmodels computes them; "holm" is Holm's step-down
    procedure (1979). A NaN counts in the family's size and stays NaN."""
    if len(ps) == 0:
        return []
    from statsmodels.stats.multitest import multipletests

    raw = np.asarray(ps, dtype=float)
    missing = np.isnan(raw)
    gc.freeze()  # statsmodels collects garbage here, for a third of a second beside torch
    try:
        adjusted = multipletests(np.where(missing, 1.0, raw), method=correction)[1]
    finally:
        gc.unfreeze()
    return [math.nan if m else float(p) for m, p in zip(missing, adjusted, strict=True)]


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


def judge(
    differences: Mapping[str, Difference],
    analysis: Analysis,
    equal: Callable[[Difference, float], float] = equality_p,
) -> Family:
    """Test, correct and judge a family of differences from one reference. `equal` computes
    the p of the test that a difference lies within a margin."""
    alpha, own = analysis.alpha, own_comparisons(analysis, len(differences))
    tested = moderate(differences) if analysis.test == MODERATED else dict(differences)
    raw = [d.p for d in tested.values()]
    adjusted = adjust(raw, analysis.correction)
    equal_raw = [equal(d, analysis.margin) for d in tested.values()]
    equal_adjusted = adjust(equal_raw, analysis.correction)
    steps = step_alphas(raw, alpha, analysis.correction)
    verdicts = {}
    for (name, d), p, p_equal, step in zip(
        differences.items(), adjusted, equal_adjusted, steps, strict=True
    ):
        p = confirmed_p(p, d.p, own)
        p_equal = confirmed_p(p_equal, equal(d, analysis.margin), own)
        low, high = confirmed_interval(tested[name], d, step, alpha, own)
        text = verdict_text(d.mean, d.n, p, p_equal, alpha)
        verdicts[name] = Verdict(d, tested[name], p, p_equal, 1 - step, low, high, text)
    return Family(analysis, verdicts)


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
    with fewer than 3 seeds cannot be told apart, but counts."""
    if len(means) < 2:
        return BestSet(None, frozenset(), 0, analysis)
    own = own_comparisons(analysis, len(differences))
    moderated = analysis.test == MODERATED
    tested = moderate(differences) if moderated else differences
    ps = [d.p if d.n >= FEWEST_SEEDS else math.nan for d in tested.values()]
    adjusted = dict(zip(differences, adjust(ps, analysis.correction), strict=True))
    best = max(means, key=lambda k: means[k])
    rejected = [
        pair
        for pair, p in adjusted.items()
        if best in pair and confirmed_p(p, differences[pair].p, own) <= analysis.alpha
    ]
    worse = {k for pair in rejected for k in pair} - {best}
    common = common_variance(differences) if moderated else None
    return BestSet(best, frozenset(means) - worse, len(adjusted), analysis, common)
