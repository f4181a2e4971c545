"""One method against the reference, pooled over several settings.

The mean over the settings of the mean paired difference is tested by a t test (`pool`)
and by sign flips (`sign_flip_p`); both speak of these settings and no others. Only
Wilcoxon's test (`wilcoxon_p`), whose unit is a setting, generalises to settings like
these, and it needs many of them (`settings_needed`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from kdbench.stats.paired import Difference, difference_from_values, equality_p

DRAWS = 99_999
"""Random sign flips, where there are too many to enumerate. scipy enumerates them up to
this number, so for up to 16 differences (65,536 flips)."""
FEWEST_SETTINGS = 6
"""With fewer settings no p of Wilcoxon's test is at most 0.05, however few the
comparisons."""


@dataclass(frozen=True)
class Pooled(Difference):
    """The mean over `settings` of the mean paired difference.

    `n` is the number of seeds that all settings have where the seeds are `shared`,
    otherwise the fewest that any setting has. `sd` is `se` times the root of `n`: the
    standard deviation of a mean over the settings from one seed each. `seeds` and
    `values` are those of the means by seed where the seeds are shared, otherwise empty,
    since seed 0 of one setting is then unrelated to seed 0 of another. `image` makes the
    variance that equality takes at least the sum of what the settings would take.
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
    data and student), so the settings' differences are correlated. Each seed is then
    averaged over the settings, for the seeds that all of them have, and the test is
    Student's t with n - 1 degrees of freedom.

    Otherwise the settings are independent strata: the squared standard errors add up,
    with Satterthwaite's degrees of freedom (1946). Settings differ in noise, and then
    the plain pooled variance with sum(n - 1) degrees of freedom is too narrow. Coverage
    of the 95 % interval, 40,000 draws of 3, 5 and 10 seeds in 2, 4 and 8 settings:

        standard deviations           Satterthwaite     plain
        all equal                     95.1 to 96.5 %    94.8 to 95.1 %
        1:5, in equal halves          94.3 to 96.3 %    91.1 to 94.7 %
        one setting 5, the others 1   93.4 to 94.8 %    89.2 to 93.6 %

    If a setting has no seed, everything is NaN and n is 0: a mean over the others would
    answer another question. A setting whose difference is constant adds no variance; if
    all are constant, the p value is that of `sign_flip_p`. Raises `ValueError` if there
    is no setting.
    """
    if not differences:
        raise ValueError("there are no settings to pool")
    mean_over_settings = _mean_by_seed if shared else _stratified_mean
    pooled = mean_over_settings(list(differences.values()), level)
    return Pooled(**vars(pooled), shared=shared, settings=dict(differences))


def satterthwaite(ses: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standard error of the mean of independent means, along the last axis, and its
    degrees of freedom; `ses` are the standard errors of those means, each of `counts`
    values."""
    squares = np.square(ses)
    total = squares.sum(axis=-1)
    df = total**2 / (squares**2 / (counts - 1)).sum(axis=-1)
    return np.sqrt(total) / squares.shape[-1], df


def sign_flip_p(pooled: Pooled) -> float:
    """p of the stratified sign-flip test of the mean over the settings (Fisher 1935).

    If method and reference were alike, each difference could as well have the other
    sign. Up to 16 differences all flips are enumerated; of more, 99,999 are drawn with a
    fixed seed and p = (b + 1) / (m + 1). Shared seeds flip in all settings together.
    Where true differences cancel out over the settings, p is too large, never too small.
    NaN if any setting has fewer than 2 seeds.
    """
    return math.nan if pooled.n < 2 else _permutation_p(_strata(pooled))


def confirmed_by_flips(pooled: Pooled, flip: float) -> Pooled:
    """`pooled` with the larger p of the t test and of the sign-flip test (`flip`, from
    `sign_flip_p`) where the t test is approximate, otherwise unchanged.

    The coverage of the approximate intervals is within two points of their level, which
    is too much in the tails that a correction uses. With 9 comparisons and one setting 5
    times as noisy as the others, 8 to 9 % of families of equal methods held a
    significant difference with 3 seeds and 7 % with 5; with sign flips at most 2 %. The
    price is small: in 4 settings of equal noise the flips confirmed 97 % and more of
    what the t test found, in 2 settings 82 % and more with 5 seeds, but nothing with 3,
    where the smallest possible p is 2 / 2**6.
    """
    if not pooled.approximate or math.isnan(pooled.p):
        return pooled
    return replace(pooled, p=max(pooled.p, flip))


def confirmed_equality_p(difference: Difference, margin: float) -> float:
    """`equality_p`, or the p of two one-sided sign-flip tests if that is larger and the
    t tests are approximate; see `confirmed_by_flips`."""
    p = equality_p(difference, margin)
    if not isinstance(difference, Pooled) or not difference.approximate:
        return p
    if difference.constant or math.isnan(p):
        return p
    strata = _strata(difference)
    below, above = [margin - x for x in strata], [margin + x for x in strata]
    return max(p, _permutation_p(below, two_sided=False), _permutation_p(above, two_sided=False))


def settings_needed(comparisons: int, alpha: float = 0.05) -> int:
    """The fewest settings with which Wilcoxon's test can reject in a corrected family: its
    smallest p with d settings, 2 / 2**d, must be at most alpha / comparisons.

    Raises `ValueError` if `comparisons` is less than 1.
    """
    if comparisons < 1:
        raise ValueError(f"there must be at least one comparison, not {comparisons}")
    return max(FEWEST_SETTINGS, math.ceil(1 + math.log2(comparisons / alpha)))


def wilcoxon_p(pooled: Pooled, comparisons: int, alpha: float = 0.05) -> float:
    """p of Wilcoxon's signed-rank test (1945) over the settings' mean differences. It takes
    the settings for independent draws, which settings that share data or a teacher are
    not.

    NaN with fewer settings than `settings_needed`, and if a setting has no seed.
    """
    means = np.array([d.mean for d in pooled.settings.values()])
    if len(means) < settings_needed(comparisons, alpha) or np.isnan(means).any():
        return math.nan
    if not means.any():
        return 1.0
    from scipy import stats

    grid = 1e-9 * np.abs(means).max()  # differences that are equal must tie
    return float(stats.wilcoxon(np.round(means / grid)).pvalue)


def _mean_by_seed(differences: list[Difference], level: float) -> Difference:
    """The mean over settings that share their seeds."""
    by_seed = [dict(zip(d.seeds, _values(d), strict=True)) for d in differences]
    seeds = tuple(s for s in by_seed[0] if all(s in one for one in by_seed))
    values = np.array([[one[s] for s in seeds] for one in by_seed])
    scale = float(np.abs(values).max(initial=0.0))
    image = math.hypot(*(d.image for d in differences)) / len(differences)
    return difference_from_values(values.mean(axis=0), seeds, level, scale, image)


def _stratified_mean(differences: list[Difference], level: float) -> Difference:
    """The mean over independent settings."""
    means = np.array([d.mean for d in differences])
    mean, n = float(means.mean()), min(d.n for d in differences)
    if n < 2:
        nan = math.nan
        return Difference(mean, nan, nan, nan, n, se=nan, p=nan, df=0, constant=False,
                          seeds=(), values=())  # fmt: skip
    counts = np.array([d.n for d in differences])
    if all(d.constant for d in differences):
        mean = 0.0 if abs(mean) <= 1e-11 * np.abs(means).max() else mean
        p = _permutation_p([_values(d) for d in differences])
        return Difference(mean, mean, mean, 0.0, n, se=0.0, p=p,
                          df=int(counts.sum()) - len(differences), constant=True,
                          seeds=(), values=())  # fmt: skip
    from scipy import stats

    images = np.array([d.image for d in differences])
    image = float((n * images / counts).sum()) / len(differences) ** 2
    se, df = (float(x) for x in satterthwaite(np.array([d.se for d in differences]), counts))
    half = float(stats.t.ppf((1 + level) / 2, df)) * se
    return Difference(mean, mean - half, mean + half, se * math.sqrt(n), n, se=se,
                      p=2 * float(stats.t.sf(abs(mean) / se, df)), df=df, constant=False,
                      image=image, seeds=(), values=())  # fmt: skip


def _values(difference: Difference) -> np.ndarray:
    """The values by seed, without rounding errors where they are all one number."""
    if difference.constant:
        return np.full(difference.n, difference.mean)
    return np.asarray(difference.values)


def _strata(pooled: Pooled) -> list[np.ndarray]:
    """The values whose signs are flipped, by stratum."""
    if pooled.shared:
        return [np.asarray(pooled.values)]
    return [_values(d) for d in pooled.settings.values()]


def _permutation_p(strata: list[np.ndarray], two_sided: bool = True) -> float:
    """p of the sign-flip test that the mean of the strata's means is 0, against another
    mean or, one-sided, a higher one."""
    from scipy import stats

    def mean(flipped: np.ndarray, axis: int) -> np.ndarray:
        total = flipped.sum(axis=axis)
        return np.abs(total) if two_sided else total

    shares = np.concatenate([values / (len(values) * len(strata)) for values in strata])
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
    # scipy's own count tolerates less rounding than scores have, and so splits ties.
    reached = int(np.sum(null >= result.statistic - 1e-9 * np.abs(shares).max()))
    if len(null) == 2 ** len(shares):
        return reached / len(null)
    return (reached + 1) / (len(null) + 1)
