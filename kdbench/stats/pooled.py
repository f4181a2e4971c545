"""One method against the reference over several settings: these settings, no others.

The mean over the settings of the mean paired difference, by a t test (`pool`) and by
flipping signs (`flip_p`). Only Wilcoxon's test (`wilcoxon_p`), whose unit is a setting,
speaks of settings like these, and it needs many of them (`settings_needed`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from kdbench.stats.paired import Difference, equality_p, from_values

DRAWS = 99_999
"""Random sign flips, where there are too many to try all. scipy tries all up to this
number, so up to 16 differences (65,536 flips)."""
FEWEST_SETTINGS = 6
"""Below this many settings no p of Wilcoxon's test is at most 0.05, however few the
comparisons, and nothing is said about settings like these."""


@dataclass(frozen=True)
class Pooled(Difference):
    """The mean over `settings` of the mean paired difference.

    `n` is the number of seeds: those that all settings have where they share their
    seeds, else the fewest that any setting has. `sd` is `se` times the root of `n`: the
    standard deviation of a mean over the settings of one seed each. `seeds` and
    `values` are those of the means by seed where the seeds are shared, else empty:
    seed 0 of one setting then has nothing to do with seed 0 of another.
    """

    shared: bool
    settings: Mapping[str, Difference]

    @property
    def approximate(self) -> bool:
        """Whether the degrees of freedom are Satterthwaite's, which are approximate."""
        return not self.shared and len(self.settings) > 1


def pool(differences: Mapping[str, Difference], shared: bool, level: float = 0.95) -> Pooled:
    """The mean of the settings' differences, each setting counting the same.

    `shared`: a seed means the same random streams in every setting (settings that share
    data and student), so that the settings' differences go together. Then each seed is
    averaged over the settings, over the seeds that all of them have, and the test is
    Student's t with n - 1 degrees of freedom.

    Else the settings are independent strata: the squared standard errors add, with
    Satterthwaite's degrees of freedom (1946). Settings differ in noise, for which the
    plain pooled variance with sum(n - 1) degrees of freedom is too narrow. Coverage of
    the 95 % interval, 40,000 draws of 3, 5 and 10 seeds in 2, 4 and 8 settings:

        standard deviations           Satterthwaite     plain
        all equal                     95.1 to 96.5 %    94.8 to 95.1 %
        1:5, in equal halves          94.3 to 96.3 %    91.1 to 94.7 %
        one setting 5, the others 1   93.4 to 94.8 %    89.2 to 93.6 %

    A setting without any seed leaves nothing but NaN (n = 0): a mean over the others
    would answer another question. A setting whose difference is constant adds no
    variance; where all are, the p value is that of `flip_p`. Raises `ValueError` where
    there is no setting.
    """
    if not differences:
        raise ValueError("there are no settings to pool")
    found = (_by_seed if shared else _stratified)(list(differences.values()), level)
    return Pooled(**vars(found), shared=shared, settings=dict(differences))


def satterthwaite(ses: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard error of the mean of independent means, along the last axis, and its
    degrees of freedom; `ses` are theirs, each from `counts` values."""
    squares = np.square(ses)
    total = squares.sum(axis=-1)
    df = total**2 / (squares**2 / (counts - 1)).sum(axis=-1)
    return np.sqrt(total) / squares.shape[-1], df


def flip_p(pooled: Pooled) -> float:
    """p of the stratified sign-flip test of the mean over the settings (Fisher 1935).

    If method and reference were alike, each difference might as well have had the other
    sign. All flips are tried up to 16 differences, else 99,999 drawn with a fixed seed
    and p = (b + 1) / (m + 1). Shared seeds flip in all settings together. Settings whose
    true differences only cancel out make p too large, never too small. NaN where any
    setting has fewer than 2 seeds.
    """
    return math.nan if pooled.n < 2 else _flip(_strata(pooled))


def confirmed(pooled: Pooled, flip: float) -> Pooled:
    """The same with the larger p of the t test and of `flip_p`, which is `flip`, where
    the t test is approximate.

    Its intervals keep to two points of their level, but a correction asks for tails
    where that is too much. With 9 comparisons and one setting 5 times as noisy as the
    others, families of equal methods held a significant difference 8 to 9 % of the time
    with 3 seeds and 7 % with 5; where sign flips must confirm it, at most 2 %. They cost
    little: in 4 settings of equal noise they confirmed 97 % and more of what t found, in
    2 settings 82 % and more with 5 seeds, but nothing with 3, where 2 / 2**6 is the
    smallest p there is.
    """
    if not pooled.approximate or math.isnan(pooled.p):
        return pooled
    return replace(pooled, p=max(pooled.p, flip))


def confirmed_equality_p(difference: Difference, margin: float) -> float:
    """`equality_p`, or that of two one-sided sign-flip tests where it is larger and the
    t tests are approximate; see `confirmed`."""
    p = equality_p(difference, margin)
    if not isinstance(difference, Pooled) or not difference.approximate:
        return p
    if difference.constant or math.isnan(p):
        return p
    strata = _strata(difference)
    below, above = [margin - x for x in strata], [margin + x for x in strata]
    return max(p, _flip(below, two_sided=False), _flip(above, two_sided=False))


def settings_needed(comparisons: int, alpha: float = 0.05) -> int:
    """The fewest settings at which Wilcoxon's test can reject in a corrected family: its
    smallest p with d settings, 2 / 2**d, must be at most alpha / comparisons.

    Raises `ValueError` where there is no comparison.
    """
    if comparisons < 1:
        raise ValueError(f"there must be a comparison, not {comparisons}")
    return max(FEWEST_SETTINGS, math.ceil(1 + math.log2(comparisons / alpha)))


def wilcoxon_p(pooled: Pooled, comparisons: int, alpha: float = 0.05) -> float:
    """p of Wilcoxon's signed-rank test over the settings' mean differences: would it be
    so on settings like these? It takes the settings for independent draws; settings
    that share data or a teacher are not.

    NaN with fewer settings than `settings_needed`, and where a setting has no seed.
    """
    means = np.array([d.mean for d in pooled.settings.values()])
    if len(means) < settings_needed(comparisons, alpha) or np.isnan(means).any():
        return math.nan
    if not means.any():
        return 1.0
    from scipy import stats

    grid = 1e-9 * np.abs(means).max()  # differences that are equal must tie
    return float(stats.wilcoxon(np.round(means / grid)).pvalue)


def _by_seed(found: list[Difference], level: float) -> Difference:
    columns = [dict(zip(d.seeds, _values(d), strict=True)) for d in found]
    seeds = tuple(s for s in columns[0] if all(s in column for column in columns))
    values = np.array([[column[s] for s in seeds] for column in columns])
    scale = float(np.abs(values).max(initial=0.0))
    return from_values(values.mean(axis=0), seeds, level, scale)


def _stratified(found: list[Difference], level: float) -> Difference:
    means = np.array([d.mean for d in found])
    mean, n = float(means.mean()), min(d.n for d in found)
    if n < 2:
        nan = math.nan
        return Difference(mean, nan, nan, nan, n, se=nan, p=nan, df=0, constant=False,
                          seeds=(), values=())  # fmt: skip
    counts = np.array([d.n for d in found])
    if all(d.constant for d in found):
        mean = 0.0 if abs(mean) <= 1e-11 * np.abs(means).max() else mean
        return Difference(mean, mean, mean, 0.0, n, se=0.0, p=_flip([_values(d) for d in found]),
                          df=int(counts.sum()) - len(found), constant=True,
                          seeds=(), values=())  # fmt: skip
    from scipy import stats

    se, df = (float(x) for x in satterthwaite(np.array([d.se for d in found]), counts))
    half = float(stats.t.ppf((1 + level) / 2, df)) * se
    return Difference(mean, mean - half, mean + half, se * math.sqrt(n), n, se=se,
                      p=2 * float(stats.t.sf(abs(mean) / se, df)), df=df, constant=False,
                      seeds=(), values=())  # fmt: skip


def _values(difference: Difference) -> np.ndarray:
    """The values by seed, without the rounding in those that are all one number."""
    if difference.constant:
        return np.full(difference.n, difference.mean)
    return np.asarray(difference.values)


def _strata(pooled: Pooled) -> list[np.ndarray]:
    """What flips its sign, in its strata."""
    if pooled.shared:
        return [np.asarray(pooled.values)]
    return [_values(d) for d in pooled.settings.values()]


def _flip(settings: list[np.ndarray], two_sided: bool = True) -> float:
    """p of the sign-flip test that the mean of the settings' means is 0, against
    another mean or, one-sided, a higher one."""
    from scipy import stats

    def mean(flipped: np.ndarray, axis: int) -> np.ndarray:
        found = flipped.sum(axis=axis)
        return np.abs(found) if two_sided else found

    shares = np.concatenate([values / (len(values) * len(settings)) for values in settings])
    result = stats.permutation_test(
        (shares,),
        mean,
        permutation_type="samples",
        alternative="greater",
        vectorized=True,
        n_resamples=DRAWS,
        batch=10_000,
        rng=0,
    )
    null = result.null_distribution
    # scipy's own count allows for less rounding than the scores bring, and splits ties.
    reached = int(np.sum(null >= result.statistic - 1e-9 * np.abs(shares).max()))
    if len(null) == 2 ** len(shares):
        return reached / len(null)
    return (reached + 1) / (len(null) + 1)
