"""The moderated t test: the variances of a family shrunk towards a common one (Smyth 2004).

With few seeds a method's own variance is so uncertain that a paired t test, corrected for
many comparisons, sees almost nothing. The methods of a study are trained alike, so their
variances are of a size, and together they are known well. A method is significant where
two tests agree:

- the moderated t test, corrected over the family: its variance is the larger of the
  method's own and of that shrunk towards the family's common one, with `PRIOR_DF` more
  degrees of freedom;
- its own paired t test at a third of the family-wise error (`OWN_TEST`), not corrected.

The second bounds what a method can do that is far noisier than the family, which the first
alone would call better or worse in more than 5 % of studies (`docs/verdict.md`).
"""

from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import TypeVar

import numpy as np

from kdbench.stats.analysis import MODERATED, Analysis
from kdbench.stats.paired import Difference, interval_at

PRIOR_DF = 3
"""The degrees of freedom that the common variance counts for."""
OWN_TEST = 3
"""A method's own t test is corrected as if there were this many comparisons at most."""

Key = TypeVar("Key", bound=Hashable)


def moderated_variances(own: np.ndarray, common: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Own variances of `df` degrees of freedom, raised to those shrunk towards a `common` one."""
    return np.maximum(own, (PRIOR_DF * common + df * own) / (PRIOR_DF + df))


def unbiased(sds: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Standard deviations without the bias that samples of `df` degrees of freedom have."""
    from scipy.special import gammaln

    return np.asarray(sds * np.sqrt(df / 2) * np.exp(gammaln(df / 2) - gammaln((df + 1) / 2)))


def common_variance(differences: Mapping[Key, Difference]) -> float:
    """The square of the mean standard deviation of the differences; 0 if there are not two."""
    found = [(d.sd, d.df) for d in differences.values() if d.n > 1 and d.sd]
    if len(found) < 2:
        return 0.0
    sds, df = np.array(found).T
    return float(unbiased(sds, df).mean() ** 2)


def own_comparisons(analysis: Analysis, comparisons: int) -> int:
    """What a method's own p is multiplied with before it may confirm the family's test; 0
    where that test is the method's own."""
    return min(OWN_TEST, comparisons) if analysis.test == MODERATED else 0


def confirmed_p(p: float, own: float, comparisons: int) -> float:
    """The corrected p of the family's test, or the method's own if that is larger;
    `comparisons` as `own_comparisons` gives them. NaN stays NaN."""
    return max(p, min(1.0, comparisons * own))


def confirmed_interval(
    tested: Difference, own: Difference, step: float, alpha: float, comparisons: int
) -> tuple[float, float]:
    """The wider of the intervals that exclude 0 where the family's test rejects at `step`,
    and where the method's own confirms it."""
    low, high = interval_at(tested, 1 - step)
    if not comparisons:
        return low, high
    own_low, own_high = interval_at(own, 1 - alpha / comparisons)
    return min(low, own_low), max(high, own_high)


def moderate(differences: Mapping[Key, Difference]) -> dict[Key, Difference]:
    """The family's differences with the variance, degrees of freedom and uncorrected p of the
    moderated t test; without interval. Those with fewer than 2 seeds are unchanged."""
    common = common_variance(differences)
    return {k: moderate_one(d, common) for k, d in differences.items()}


def moderate_one(difference: Difference, common: float) -> Difference:
    """One difference as `moderate` gives it; unchanged where the `common` variance is 0."""
    d = difference
    if d.n < 2 or not common:
        return d
    from scipy import stats

    variance = moderated_variances(np.array(d.sd**2), np.array(common), np.array(d.df))
    se, df = float(np.sqrt(variance / d.n)), d.df + PRIOR_DF
    return replace(
        d,
        low=np.nan,
        high=np.nan,
        sd=float(np.sqrt(variance)),
        se=se,
        df=df,
        p=2 * float(stats.t.sf(abs(d.mean) / se, df)),
        constant=False,
    )
