"""Looks: a family that is judged at growing numbers of seeds, fixed before the first of them.

A method stops once it is decided: better, worse or practically equal. Each look spends a part of
the family-wise error, later looks more of it, and the parts add up to the whole. At a look the
methods that are left are judged with that part as `judge` does it; what Holm's procedure takes
from a comparison that it has rejected goes to the others, at this look and at later ones. So the
error over all looks is at most the sum of the parts, whatever the stopping (Bonferroni's
inequality over the looks; the group-sequential Holm procedure of Maurer and Bretz, Statistics in
Biopharmaceutical Research 5, 2013).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kdbench.stats.analysis import Analysis
from kdbench.stats.paired import Difference, Scores, interval_at, paired_difference
from kdbench.stats.verdicts import Family, Verdict, judge


def for_all_looks(difference: Difference, analysis: Analysis) -> Difference:
    """The difference of two methods whose numbers of seeds the looks decided, with an interval
    that holds for all looks together."""
    level = 1 - analysis.share(difference.n) * (1 - analysis.level)
    low, high = interval_at(difference, level)
    return replace(difference, low=low, high=high)


def judge_looks(
    scores: Mapping[str, Scores],
    reference: Scores,
    analysis: Analysis,
    seeds: Sequence[int],
    reached: int,
) -> Family:
    """Judge the methods of `scores` against `reference` at the first `reached` looks of the
    analysis, which are at the first so many of `seeds`.

    A verdict is that of the look at which its method was decided, else of the last. Its p
    values are divided by what that look spends of the error, and its intervals (`difference`
    has one at the analysis' level) hold for all looks together.
    """
    verdicts: dict[str, Verdict] = {}
    for count in analysis.looks[:reached]:
        share, decided = analysis.share(count), {k: v for k, v in verdicts.items() if v.decided}
        look = replace(
            analysis, alpha=share * analysis.alpha, level=1 - share * (1 - analysis.level)
        )
        differences = {
            name: decided[name].difference
            if name in decided
            else paired_difference(
                {seed: own[seed] for seed in seeds[:count] if seed in own},
                reference,
                look.level,
                analysis.image,
            )
            for name, own in scores.items()
        }
        judged = judge(differences, look, decided=decided).verdicts
        for name in scores.keys() - decided.keys():
            v = judged[name]
            p, p_equal = min(1.0, v.p_adjusted / share), min(1.0, v.p_equal / share)
            verdicts[name] = replace(v, p_adjusted=p, p_equal=p_equal, share=share)
    return Family(analysis, {name: verdicts[name] for name in scores})
