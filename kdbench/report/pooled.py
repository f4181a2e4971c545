"""Settings pooled in one table: each method against the reference over all of them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

from kdbench.errors import KdbenchError
from kdbench.records.measures import MEASURES
from kdbench.records.plan_file import PlanFile
from kdbench.report.data.report_data import ReportData
from kdbench.report.data.software import Software, merged
from kdbench.report.deployment import (
    Deployment,
    pooled_deployment,
    profile_outdated,
    profiled_together,
)
from kdbench.report.rows import TableRow, in_family, primary_rows, table_rows
from kdbench.report.write import leaderboard_of
from kdbench.stats import (
    FEWEST_SEEDS,
    Analysis,
    BestSet,
    PooledFamily,
    Scores,
    best_set_pooled,
    judge_pooled,
    paired_difference,
    without_reference,
)


class NotComparable(KdbenchError, ValueError):
    """Settings that cannot stand in one table."""


@dataclass(frozen=True, eq=False)
class PooledTable:
    """The pooled verdict over settings, best method first.

    `means` are the methods' mean scores over the settings (percentage points; NaN where
    one is missing), `digests` say what each setting was made from; methods in `not_pooled`
    are not in the family of every setting, and those in `lacking` have no run in the settings
    named there; in the settings of `no_reference` the reference has no score. `deployment` is
    what one would deploy, where the settings are students on the same data that were profiled
    together; `profile_outdated`: they were, and one of them was changed since. `first_looks`
    says how many seeds were taken of the settings that have looks.
    """

    name: str
    reference: str
    digests: Mapping[str, str]
    data: tuple[str, ...]
    family: PooledFamily
    best: BestSet
    means: Mapping[str, float]
    not_pooled: tuple[str, ...]
    lacking: Mapping[str, Sequence[str]]
    no_reference: Sequence[str]
    deployment: Deployment | None = None
    software: Software = field(default_factory=dict)
    profile_outdated: bool = False
    first_looks: Mapping[str, int] = field(default_factory=dict)

    @property
    def analysis(self) -> Analysis:
        """What was declared."""
        return self.family.family.analysis

    @property
    def order(self) -> list[str]:
        """The methods by pooled mean, those without one last."""
        rank = {k: math.inf if math.isnan(v) else -v for k, v in self.means.items()}
        return sorted(rank, key=lambda k: (rank[k], k))


def pool_settings(
    name: str, settings: Mapping[str, ReportData], shared: bool | None = None
) -> PooledTable:
    """Pool settings, each with the same reference.

    `shared`: whether a seed means the same random streams in all of them; None asks the
    plans: settings that share data and student do, and those with the same teacher for each seed.
    The margin is the largest declared. Of a setting with looks only the seeds of the first are
    used, which all its methods have.
    Raises `NotComparable` where references or scores differ, fewer than two settings are given,
    or shared seeds are too few in common.
    """
    if len(settings) < 2:
        raise NotComparable("one setting cannot be pooled: name two or more studies")
    references = {s: e.plan.reference for s, e in settings.items()}
    if len(set(references.values())) > 1:
        pairs = ", ".join(f"{s} with {r}" for s, r in references.items())
        raise NotComparable(f"these studies compare with different references: {pairs}")
    measures = {s: MEASURES[e.plan.measure].words for s, e in settings.items()}
    if len(set(measures.values())) > 1:
        pairs = ", ".join(f"{s} by {words}" for s, words in measures.items())
        raise NotComparable(f"these studies compare by different scores: {pairs}")
    boards = {s: leaderboard_of(e) for s, e in settings.items()}
    images = {s: b.family.analysis.image for s, b in boards.items()}
    widest = max((b.family.analysis for b in boards.values()), key=lambda a: a.margin)
    widest = replace(widest, looks=())
    reference = next(iter(references.values()))
    primary = {s: primary_rows(table_rows(e.runs, e.plan)) for s, e in settings.items()}
    scores = _scores(primary, {s: e.plan for s, e in settings.items()})
    pooled = [k for k in scores if k != reference and _declared(k, primary)]
    lacking = {k: _lacking(k, primary) for k in scores if k not in pooled}
    lacking = {k: where for k, where in lacking.items() if where}
    not_pooled = [k for k in scores if k not in (reference, *pooled, *lacking)]
    differences = {
        label: {
            s: paired_difference(by_seed, scores[reference][s], widest.level, images[s])
            for s, by_seed in scores[label].items()
        }
        for label in pooled
    }
    shared = _share(settings) if shared is None else shared
    if shared:
        _require_common_seeds(scores[reference], {s: e.plan for s, e in settings.items()})
    family = judge_pooled(differences, list(settings), shared, widest)
    no_reference = [s for s, by_seed in scores[reference].items() if not by_seed]
    if no_reference:
        family = replace(family, family=without_reference(family.family))
    compared = {k: scores[k] for k in (reference, *pooled)}
    means = {k: _mean(v, settings) for k, v in compared.items()}
    return PooledTable(
        name,
        reference,
        {s: e.digest for s, e in settings.items()},
        tuple(dict.fromkeys(_data(s, e) for s, e in settings.items())),
        family,
        best_set_pooled(compared, list(settings), shared, widest, images),
        means,
        tuple(not_pooled),
        lacking,
        no_reference,
        pooled_deployment(name, boards, settings),
        merged(*(e.software for e in settings.values())),
        profiled_together(settings.values()) and any(map(profile_outdated, settings.values())),
        {s: e.plan.looks[0] for s, e in settings.items() if e.plan.looks},
    )


def _declared(label: str, primary: Mapping[str, Mapping[str, TableRow]]) -> bool:
    """Whether every setting declared the method, which was known before any number. One
    that failed in a setting stays declared, and counts in the correction."""
    return all(label in rows and in_family(rows[label]) for rows in primary.values())


def _lacking(label: str, primary: Mapping[str, Mapping[str, TableRow]]) -> list[str]:
    """The settings that do not name the method, or whose networks it cannot serve."""
    return [
        setting
        for setting, rows in primary.items()
        if label not in rows or (rows[label].plan.incompatible and not in_family(rows[label]))
    ]


def _scores(
    primary: Mapping[str, Mapping[str, TableRow]], plans: Mapping[str, PlanFile]
) -> dict[str, dict[str, Scores]]:
    """Scores by method, setting and seed, of the rows that stand for the methods."""
    scores: dict[str, dict[str, Scores]] = {}
    for setting, rows in primary.items():
        looks = plans[setting].looks
        for label, row in rows.items():
            own = row.scores
            if looks:
                first = sorted(map(int, row.plan.runs))[: looks[0]]
                own = {seed: own[seed] for seed in first if seed in own}
            scores.setdefault(label, {})[setting] = own
    return scores


def _require_common_seeds(scores: Mapping[str, Scores], plans: Mapping[str, PlanFile]) -> None:
    """Raise `NotComparable` where each setting has enough scored seeds of the reference, but all
    together have too few of the same."""
    common = set.intersection(*map(set, scores.values()))
    if min(map(len, scores.values())) >= FEWEST_SEEDS > len(common):
        seeds = "; ".join(f"{s} has {', '.join(map(str, own))}" for s, own in scores.items())
        looks = "".join(
            f". Of {s}, which has looks, only the first {plan.looks[0]} seeds are taken, which all "
            "its methods have"
            for s, plan in plans.items()
            if plan.looks
        )
        # Only results of a file name what they measure.
        of_file = all(plan.score is not None for plan in plans.values())
        apart = "; if a seed means something else in each, name --no-shared-seeds"
        raise NotComparable(
            "the settings share their seeds, so a seed is averaged over them first, but they have "
            f"{len(common)} in common and a verdict needs {FEWEST_SEEDS}: {seeds}{looks}. Give "
            f"them the same {'first ' if looks else ''}seeds{apart if of_file else ''}"
        )


def _mean(scores: Mapping[str, Scores], settings: Mapping[str, Any]) -> float:
    if set(scores) != set(settings) or not all(scores.values()):
        return math.nan
    return sum(sum(v.values()) / len(v) for v in scores.values()) / len(scores)


def _data(setting: str, data: ReportData) -> str:
    return data.plan.data.name if data.plan.data else setting


def _share(settings: Mapping[str, ReportData]) -> bool:
    """Whether two settings share what differs by seed: the random streams, which are keyed by
    data and student model, or a teacher of each seed."""
    keys = [(_data(s, e), e.plan.models.get("student")) for s, e in settings.items()]
    teachers = [set(e.plan.teachers.items()) for e in settings.values()]
    by_seed = [t for t in teachers if len({run for _, run in t}) > 1]
    return len(set(keys)) < len(keys) or any(a & b for a, b in combinations(by_seed, 2))
