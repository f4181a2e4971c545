"""What a study with looks goes on with: the methods that are not decided at the seeds they have."""

from collections.abc import Mapping

from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store
from kdbench.records.summary import test_score
from kdbench.stats import FEWEST_SEEDS, Analysis, judge_looks
from kdbench.study.graph import Graph
from kdbench.study.load import StudyError
from kdbench.study.plan import Plan, Row, measure_of
from kdbench.study.schema import Study


def compared_rows(plan: Plan, reference: str) -> dict[str, Row]:
    """The rows that are compared, by label, and the reference's."""
    rows = {row.label: row for row in plan.rows if row.label == reference}
    return rows | {row.label: row for row in plan.rows if row.judged}


def undecided(
    study: Study,
    plan: Plan,
    graph: Graph,
    reached: int,
    taken: Mapping[str, Mapping[int, float]],
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
    """Raise `StudyError` where a study has looks or had them at its last start, a final run of it
    is scored, and the looks are others now or the seeds do not begin with those it has: the error
    that the looks spend cannot be spent again on scores that were seen. Without looks and with too
    few seeds for a verdict, as in a rehearsal, nothing was spent."""
    if before is None or not (before.looks or study.final.looks):
        return
    runs = {run for row in before.rows for run in row.runs.values()}
    seeds = tuple(sorted({int(seed) for row in before.rows for seed in row.runs}))
    if not before.looks and len(seeds) < FEWEST_SEEDS:
        return
    same = before.looks == study.final.looks
    if same and seeds == study.final.seeds[: len(seeds)]:
        return
    if all(store.record(run).test is None for run in runs):
        return
    how = f"with looks at {_said(before.looks)} seeds" if before.looks else "without looks"
    now = (
        f"final.seeds: they should begin with {_said(seeds)}"
        if same
        else f"final.looks: {_said(study.final.looks)}"
    )
    raise StudyError(
        study.name,
        [
            f"{now}, but the study has been judged {how}, and looks and their seeds are fixed "
            "before the first score is seen; undo the change, or give the study another name and "
            "seeds that were not used"
        ],
    )


def _said(looks: tuple[int, ...]) -> str:
    return ", ".join(map(str, looks)) or "none"
