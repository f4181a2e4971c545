"""Statistics of scores that are paired by seed. No torch, no MLflow, no tables.

The unit of replication is a seed. Scores, margins and differences are in one unit,
which the caller chooses (the leaderboard uses percentage points of test accuracy).

- Interval: Student's t over the seeds. Not a bootstrap: with 3, 5, 10 seeds a
  percentile bootstrap's 95 % interval covers about 75, 83, 90 %.
- Test: the moderated t test (Smyth 2004) or the two-sided paired t test, corrected over a
  declared family (Holm 1979); see `moderated`.
- Equality: two one-sided tests against a margin (Schuirmann 1987), corrected over the
  same family, so that a study says "practically equal" wrongly as rarely as "better".
- Looks: the same at growing numbers of seeds, with the error spent over them; see `looks`.
- Several settings: the mean of their paired differences, averaged by seed where the
  settings share their seeds, else stratified and confirmed by sign flips; see `pool`.
- Descriptive, without a verdict: `iqm`, `performance_profile`,
  `probability_of_improvement`, `gap_recovered`, `budget_curve`.

A member of a family that could not be tested (a method that failed, or has one seed)
still counts in the family's size: losing runs must not make the other tests easier.
"""

from kdbench.stats.analysis import CORRECTIONS, MODERATED, PAIRED, TESTS, Analysis
from kdbench.stats.describe import (
    SMALLEST_GAP,
    budget_curve,
    gap_recovered,
    iqm,
    performance_profile,
    probability_of_improvement,
)
from kdbench.stats.looks import for_all_looks, judge_looks
from kdbench.stats.moderated import PRIOR_DF, moderate, own_comparisons
from kdbench.stats.paired import (
    FEWEST_SEEDS,
    Difference,
    Interval,
    Scores,
    equality_p,
    interval_at,
    lies_within,
    mean_interval,
    paired_difference,
    prediction_interval,
    t_intervals,
)
from kdbench.stats.pooled import (
    FEWEST_SETTINGS,
    Pooled,
    confirmed_by_flips,
    confirmed_equality_p,
    pool,
    settings_needed,
    sign_flip_p,
    wilcoxon_p,
)
from kdbench.stats.pooled_verdicts import PooledFamily, best_set_pooled, judge_pooled
from kdbench.stats.power import (
    detectable,
    seeds_for_equality,
    seeds_needed,
    seeds_of_constant,
    seeds_to_tell_apart,
)
from kdbench.stats.verdicts import (
    BestSet,
    Family,
    Verdict,
    adjust,
    best_of,
    best_set,
    judge,
    step_alphas,
    verdict_text,
    without_reference,
)

__all__ = [
    "CORRECTIONS",
    "FEWEST_SEEDS",
    "FEWEST_SETTINGS",
    "MODERATED",
    "PAIRED",
    "PRIOR_DF",
    "SMALLEST_GAP",
    "TESTS",
    "Analysis",
    "BestSet",
    "Difference",
    "Family",
    "Interval",
    "Pooled",
    "PooledFamily",
    "Scores",
    "Verdict",
    "adjust",
    "best_of",
    "best_set",
    "best_set_pooled",
    "budget_curve",
    "confirmed_by_flips",
    "confirmed_equality_p",
    "detectable",
    "equality_p",
    "for_all_looks",
    "gap_recovered",
    "interval_at",
    "iqm",
    "judge",
    "judge_looks",
    "judge_pooled",
    "lies_within",
    "mean_interval",
    "moderate",
    "own_comparisons",
    "paired_difference",
    "performance_profile",
    "pool",
    "prediction_interval",
    "probability_of_improvement",
    "seeds_for_equality",
    "seeds_needed",
    "seeds_of_constant",
    "seeds_to_tell_apart",
    "settings_needed",
    "sign_flip_p",
    "step_alphas",
    "t_intervals",
    "verdict_text",
    "wilcoxon_p",
    "without_reference",
]
