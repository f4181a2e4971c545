"""The verdicts on a declared family over several settings, by the pooled t test, and the
set of best methods over the settings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from kdbench.stats.analysis import PAIRED, Analysis
from kdbench.stats.paired import FEWEST_SEEDS, Difference, Scores, drop_missing, paired_difference
from kdbench.stats.pooled import (
    Pooled,
    confirmed_by_flips,
    confirmed_equality_p,
    pool,
    settings_needed,
    sign_flip_p,
    wilcoxon_p,
)
from kdbench.stats.verdicts import BestSet, Family, adjust, best_of, judge


@dataclass(frozen=True)
class PooledFamily:
    """The declared comparisons over `settings`, all of them against one reference.

    `family`: the verdicts, each on a `Pooled` difference. `sign_flip` and `wilcoxon`: the
    corrected p values of the other two tests by method, NaN where a test is impossible.
    No verdict is drawn from `wilcoxon`.
    """

    family: Family
    settings: tuple[str, ...]
    shared: bool
    sign_flip: Mapping[str, float]
    wilcoxon: Mapping[str, float]

    @property
    def flips_confirm(self) -> bool:
        """Whether the p of the verdicts is the larger of the t test's and the sign flips'."""
        return not self.shared and len(self.settings) > 1

    @property
    def test(self) -> str:
        """The verdicts' test, as captions print it."""
        if len(self.settings) == 1:
            return self.family.analysis.test_name
        if self.shared:
            return "two-sided paired t test of the means by seed over the settings"
        return (
            "two-sided stratified paired t test (Satterthwaite's degrees of freedom), "
            "confirmed by sign flips (the larger p)"
        )

    @property
    def detectable(self) -> float:
        """The smallest difference that the pooled t test detects, in the scores' unit;
        infinite where there are too few differences for sign flips to confirm any."""
        family = self.family
        tested = [v.difference for v in family.verdicts.values() if v.difference.n > 1]
        counts = [sum(x.n for x in d.settings.values()) for d in tested if isinstance(d, Pooled)]
        if self.flips_confirm and counts:
            smallest_p = 2.0 ** (1 - max(counts))
            if smallest_p > family.analysis.alpha / family.size:
                return math.inf
        return family.detectable

    @property
    def settings_needed(self) -> int:
        """The fewest settings with which Wilcoxon's test can reject."""
        return settings_needed(max(self.family.size, 1), self.family.analysis.alpha)


def judge_pooled(
    differences: Mapping[str, Mapping[str, Difference]],
    settings: Sequence[str],
    shared: bool,
    analysis: Analysis,
) -> PooledFamily:
    """Pool, correct and judge a family of methods, each with its difference from the
    reference by setting.

    `settings` are those declared. A method without a difference in one of them has no
    pooled value (NaN, n = 0), since a mean over fewer settings is not comparable with
    those of the others; it still counts in the family's size. Where the pooled t test is
    approximate, sign flips must confirm it (`confirmed_by_flips`), so an interval may
    exclude 0 without a verdict. Variances are not moderated, whatever the analysis' test:
    over several settings there are seeds enough. Raises `ValueError` if a method has a
    setting that was not declared, and if none was.
    """
    undeclared = sorted({s for one in differences.values() for s in one} - set(settings))
    if undeclared:
        raise ValueError(f"settings that were not declared: {', '.join(undeclared)}")
    if not settings:
        raise ValueError("there are no settings to pool")
    analysis = replace(analysis, test=PAIRED)
    pooled = {k: _pool(one, settings, shared, analysis) for k, one in differences.items()}
    m, alpha, correction = max(len(pooled), 1), analysis.alpha, analysis.correction
    flip_ps = {k: sign_flip_p(d) for k, d in pooled.items()}
    tested = {k: confirmed_by_flips(d, flip_ps[k]) for k, d in pooled.items()}
    wilcoxon_ps = [wilcoxon_p(d, m, alpha) for d in pooled.values()]
    return PooledFamily(
        family=judge(tested, analysis, confirmed_equality_p),
        settings=tuple(settings),
        shared=shared,
        sign_flip=dict(zip(pooled, adjust(list(flip_ps.values()), correction), strict=True)),
        wilcoxon=dict(zip(pooled, adjust(wilcoxon_ps, correction), strict=True)),
    )


def best_set_pooled(
    scores: Mapping[str, Mapping[str, Scores]],
    settings: Sequence[str],
    shared: bool,
    analysis: Analysis,
    images: Mapping[str, float] | None = None,
) -> BestSet:
    """`best_set` by the mean over the settings, from each method's scores by setting:
    all pairs, by the test of `judge_pooled`. Methods with fewer than 3 scored seeds in
    any of `settings` are left out. `images`: what one test image counts, by setting. Raises
    `ValueError` if there is no setting."""
    if not settings:
        raise ValueError("there are no settings to pool")
    complete = {k: {s: drop_missing(v.get(s, {})) for s in settings} for k, v in scores.items()}
    complete = {k: v for k, v in complete.items() if min(map(len, v.values())) >= FEWEST_SEEDS}
    means = {
        k: float(np.mean([np.mean(list(one.values())) for one in v.values()]))
        for k, v in complete.items()
    }
    pairs = {}
    for a, b in combinations(complete, 2):
        differences = {
            s: paired_difference(
                complete[a][s], complete[b][s], analysis.level, (images or {}).get(s, 0.0)
            )
            for s in settings
        }
        pair = _pool(differences, settings, shared, analysis)
        # Flips can only withdraw a rejection, and there are many pairs.
        pairs[a, b] = (
            confirmed_by_flips(pair, sign_flip_p(pair)) if pair.p <= analysis.alpha else pair
        )
    return best_of(means, pairs, replace(analysis, test=PAIRED))


def _pool(
    differences: Mapping[str, Difference],
    settings: Sequence[str],
    shared: bool,
    analysis: Analysis,
) -> Pooled:
    """`pool` over all `settings`, NaN for those without a difference."""
    absent = paired_difference({}, {})
    return pool({s: differences.get(s, absent) for s in settings}, shared, analysis.level)
