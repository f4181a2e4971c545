"""What a study with looks goes on with: the methods that are not decided at the seeds they have."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.records.summary import test_score
from kdbench.stats import Analysis, judge_looks
from kdbench.study.graph import Graph
from kdbench.study.load import StudyError
from kdbench.study.plan import Plan, Row, measure_of
from kdbench.study.schema import Study

NOTHING: Mapping[str, Any] = MappingProxyType({})


def compared_rows(plan: Plan, reference: str) -> dict[str, Row]:
    """The rows that are compared, by label, and the reference's."""
    rows = {row.label: row for row in plan.rows if row.label == reference}
    return rows | {row.label: row for row in plan.rows if row.judged}


def undecided(
    study: Study,
    plan: Plan,
    graph: Graph,
    reached: int,
    taken: Mapping[str, Mapping[int, float]] = NOTHING,
) -> list[str] | None:
    """The methods that are not decided at the first `reached` looks, or None while runs of them
    are not finished and scored. Scores are compared as the report does it. `taken` are scores in
    percentage points, by label and seed, of methods that the plan does not run."""
    rows, images, step = compared_rows(plan, study.report.reference), 0, 0.0
    rule, measure = study.final.epoch, measure_of(study)
    scores: dict[str, dict[int, float]] = {label: {} for label in rows}
    for label, row in rows.items():
        for seed, run in row.runs.items():
            result = graph.diverged_source(plan, run) or graph.result(run)
            if result is None:
                return None
            if result["state"] != "done":
                continue
            test = graph.test(run)
            if test is None:
                return None
            images = test["images"]
            score, step = test_score(graph.store.record(run), test, rule, measure)
            scores[label][int(seed)] = 100 * score
    report, looks = study.report, study.final.looks
    analysis = Analysis.of_report(report.margin, images, report.test, looks, 100 * step)
    others = {**taken, **scores}
    reference = others.pop(report.reference)
    family = judge_looks(others, reference, analysis, study.final.seeds, reached)
    return [k for k, verdict in family.verdicts.items() if k in scores and not verdict.decided]


def check_looks(study: Study, before: PlanFile | None, store: Store) -> None:
    """Raise `StudyError` where the looks of a study, or its seeds, have changed since its first
    final run was scored: the error that the looks before have spent cannot be spent again."""
    if before is None or not before.looks:
        return
    reference = next((row for row in before.rows if row.label == before.reference), None)
    seeds = reference.runs if reference else {}
    same = before.looks == study.final.looks and seeds.keys() <= set(map(str, study.final.seeds))
    if same or all(store.record(run).test is None for run in seeds.values()):
        return
    raise StudyError(
        study.name,
        [
            f"final.looks: {_said(study.final.looks)}, but the study has been judged with looks at "
            f"{_said(before.looks)} seeds, and looks are fixed before the first score is seen; "
            "write these again, or give the study another name and seeds that were not used"
        ],
    )


def _said(looks: tuple[int, ...]) -> str:
    return ", ".join(map(str, looks)) or "none"
