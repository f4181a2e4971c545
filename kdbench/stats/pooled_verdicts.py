"""A declared family over several settings: judged by the pooled t test, with the
corrected sign-flip and Wilcoxon p beside it, and the best of all over the settings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from kdbench.stats.analysis import Analysis
from kdbench.stats.paired import FEWEST_SEEDS, Difference, Scores, known, paired_difference
from kdbench.stats.pooled import (
    Pooled,
    confirmed,
    confirmed_equality_p,
    flip_p,
    pool,
    settings_needed,
    wilcoxon_p,
)
from kdbench.stats.verdicts import BestSet, Family, adjust, best_of, judge


@dataclass(frozen=True)
class PooledFamily:
    """The declared comparisons over `settings`, all of them against one reference.

    `family`: the verdicts, each on a `Pooled` difference. `flip` and `wilcoxon`: the
    corrected p of the other two tests by method; NaN where they cannot be made.
    `flips_confirm`: whether sign flips had to confirm the verdicts; no verdict is ever
    drawn from `wilcoxon`.
    """

    family: Family
    settings: tuple[str, ...]
    shared: bool
    flip: Mapping[str, float]
    wilcoxon: Mapping[str, float]

    @property
    def flips_confirm(self) -> bool:
        """Whether the verdicts' p is the larger of the t test's and the sign flips'."""
        return not self.shared and len(self.settings) > 1

    @property
    def test(self) -> str:
        """The verdicts' test, as captions print it."""
        if len(self.settings) == 1:
            return self.family.analysis.test
        if self.shared:
            return "two-sided paired t test of the means by seed over the settings"
        return (
            "two-sided stratified paired t test (Satterthwaite's degrees of freedom), "
            "confirmed by sign flips (the larger p)"
        )

    @property
    def detectable(self) -> float:
        """The smallest difference that the pooled t test detects, in the scores' unit;
        infinite where there are too few differences for sign flips ever to confirm one."""
        family = self.family
        found = [v.difference for v in family.verdicts.values() if v.difference.n > 1]
        flips = [sum(x.n for x in d.settings.values()) for d in found if isinstance(d, Pooled)]
        if self.flips_confirm and flips:
            smallest = 2.0 ** (1 - max(flips))
            if smallest > family.analysis.alpha / family.size:
                return math.inf
        return family.detectable

    @property
    def settings_needed(self) -> int:
        """The fewest settings from which `wilcoxon` says anything."""
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
    the others'; it still counts in the family's size. Where the pooled t test is
    approximate, sign flips must confirm what it says (`confirmed`), so that an interval
    may leave out 0 without a verdict. Raises `ValueError` where a method has a setting
    that was not declared, and where none was.
    """
    strange = sorted({s for found in differences.values() for s in found} - set(settings))
    if strange:
        raise ValueError(f"settings that were not declared: {', '.join(strange)}")
    if not settings:
        raise ValueError("there are no settings to pool")
    pooled = {k: _pool(found, settings, shared, analysis) for k, found in differences.items()}
    m, alpha, correction = max(len(pooled), 1), analysis.alpha, analysis.correction
    flips = {k: flip_p(d) for k, d in pooled.items()}
    tested = {k: confirmed(d, flips[k]) for k, d in pooled.items()}
    ranks = [wilcoxon_p(d, m, alpha) for d in pooled.values()]
    return PooledFamily(
        family=judge(tested, analysis, confirmed_equality_p),
        settings=tuple(settings),
        shared=shared,
        flip=dict(zip(pooled, adjust(list(flips.values()), correction), strict=True)),
        wilcoxon=dict(zip(pooled, adjust(ranks, correction), strict=True)),
    )


def best_set_pooled(
    scores: Mapping[str, Mapping[str, Scores]],
    settings: Sequence[str],
    shared: bool,
    analysis: Analysis,
) -> BestSet:
    """`best_set` by the mean over the settings, from each method's scores by setting:
    all pairs, by the test of `judge_pooled`. Methods with fewer than 3 scored seeds in
    any of `settings` take no part. Raises `ValueError` where there is no setting."""
    if not settings:
        raise ValueError("there are no settings to pool")
    found = {k: {s: known(v.get(s, {})) for s in settings} for k, v in scores.items()}
    entered = {k: v for k, v in found.items() if min(map(len, v.values())) >= FEWEST_SEEDS}
    means = {
        k: float(np.mean([np.mean(list(one.values())) for one in v.values()]))
        for k, v in entered.items()
    }
    pairs = {}
    for a, b in combinations(entered, 2):
        by_setting = {s: paired_difference(entered[a][s], entered[b][s]) for s in settings}
        pair = _pool(by_setting, settings, shared, analysis)
        # Flips can only take a rejection back, and there are many pairs.
        pairs[a, b] = confirmed(pair, flip_p(pair)) if pair.p <= analysis.alpha else pair
    return best_of(means, pairs, analysis)


def _pool(
    found: Mapping[str, Difference], settings: Sequence[str], shared: bool, analysis: Analysis
) -> Pooled:
    absent = paired_difference({}, {})
    return pool({s: found.get(s, absent) for s in settings}, shared, analysis.level)
