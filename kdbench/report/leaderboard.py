"""The leaderboard: one object that holds the table, what judged it, and what to say of it.

All scores of the table are in percentage points (accuracy, agreement, F1, ECE) or nats
(NLL, KL), differences in percentage points of test accuracy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kdbench.records.measures import MEASURES, Measure
from kdbench.records.plan_file import PlanFile, PlanRow
from kdbench.records.summary import LARGEST_STEP
from kdbench.report.columns import Column, columns_by
from kdbench.report.data.runs import PUBLISHED, TEACHER, UNFINISHED, refuse_mixture
from kdbench.report.rows import (
    TableRow,
    best_first,
    compared_rows,
    hparams_text,
    primary_rows,
    scores_by_seed,
    table_rows,
)
from kdbench.report.text.answer import write_answer
from kdbench.report.text.captions import write_captions
from kdbench.report.text.context import Context
from kdbench.report.text.notes import write_notes
from kdbench.stats import (
    FEWEST_SEEDS,
    MODERATED,
    Analysis,
    BestSet,
    Difference,
    Family,
    Interval,
    Scores,
    best_set,
    for_all_looks,
    gap_recovered,
    iqm,
    judge,
    judge_looks,
    mean_interval,
    paired_difference,
    probability_of_improvement,
    without_reference,
)

HERE = "here"
"""Where a row was run that was not taken from a report."""

SECOND = "kd"
"""The method that a second column of differences is taken from, where it is on the board."""


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """`table` has the columns of `kdbench.report.columns`, best method first, then the teacher,
    then what papers say; `answer` is what it says, in a paragraph, `captions` say how it was
    made, `notes` what a reader must know of single rows. `score` is what is compared, in words,
    and `measure` says in which column it stands. `second` is None where no second column of
    differences makes sense."""

    study: str
    question: str
    score: str
    measure: Measure
    reference: str
    second: str | None
    selection: str
    incomplete: bool
    table: pd.DataFrame
    columns: tuple[Column, ...]
    family: Family
    best: BestSet
    answer: str
    captions: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """The study's name, and whether runs are still to come."""
        return f"{self.study} (incomplete)" if self.incomplete else self.study


def build_leaderboard(
    frame: pd.DataFrame,
    plan: PlanFile,
    cost: Mapping[str, Any] | None = None,
    analysis: Analysis | None = None,
) -> Leaderboard:
    """Judge the runs of a frame as the plan declares.

    `cost` is the calibration file; `analysis` is for a correction or levels other than
    the usual ones. The margin of practical equality is the plan's, but never less than one
    test image. Raises `MixedRuns` where runs were not made alike, and `ValueError` where the
    reference is not on the board.
    """
    refuse_mixture(frame, taken=plan.taken is not None)
    images = frame["images"].dropna()
    known = int(images.iloc[0]) if len(images) else 0
    measure = MEASURES[plan.measure]
    steps = frame[LARGEST_STEP].dropna() if LARGEST_STEP in frame else ()
    step = 100 * float(max(steps, default=0.0))
    analysis = analysis or Analysis.of_report(plan.margin, known, plan.test, plan.looks, step)
    lines = table_rows(frame, plan)
    primary = primary_rows(lines)
    reference = plan.reference
    if reference not in primary:
        raise ValueError(
            f"the reference '{reference}' is no method of this study: {', '.join(sorted(primary))}"
        )
    columns = columns_by(measure, taken=plan.taken is not None)
    second = SECOND if SECOND in primary and reference != SECOND else None
    members = compared_rows(primary, reference)
    base = primary[reference].scores
    family = _judge(members, plan, analysis)
    best = best_set({k: v.scores for k, v in members.items()}, analysis)
    wanted = {s for r in plan.rows for s in r.runs}
    teachers = frame[frame["row"] == TEACHER]
    taught = scores_by_seed(teachers, measure.column)
    rows = []
    for line in best_first(lines, primary):
        main = line is primary[line.label]
        judged = family.verdicts.get(line.label) if main else None
        count = len(line.plan.runs) if plan.looks else 0
        values = _summary(line, count or len(wanted), cost, analysis, measure)
        if not (main and line.label == reference):
            difference = judged.difference if judged else _difference(line, base, analysis)
            values |= _estimate("difference", difference)
        if second and not (main and line.label == second):
            versus = _difference(line, primary[second].scores, analysis)
            if main and line.label in members and second in members:
                versus = for_all_looks(versus, analysis)
            values |= _estimate("versus_second", versus)
        if line.row == "tuned":
            default = next((x for x in lines if x.label == line.label and x.row == "default"), None)
            if default:
                values |= _estimate("gain", _difference(line, default.scores, analysis))
        if judged:
            values |= _judged(family, line.label)
        values["best"] = main and line.label in best.members
        if plan.taken:
            values["origin"] = plan.taken.report if line.label in plan.taken.labels else HERE
        rows.append(values | _described(line, base, taught))
    if len(teachers):
        row = PlanRow(TEACHER, TEACHER, TEACHER)
        line = TableRow(row, teachers, scores_by_seed(teachers, measure.column))
        rows.append(_summary(line, len(teachers), cost, analysis, measure) | {"best": False})
    rows += [_published(number) for number in plan.published]
    unfinished = frame["state"].isin([*UNFINISHED, "failed"]).any()
    incomplete = bool(unfinished or not plan.complete)
    context = Context(
        plan, frame, lines, primary, family, best, analysis.image, incomplete, cost or {}
    )
    return Leaderboard(
        study=plan.study,
        question=plan.question,
        score=plan.score or measure.title,
        measure=measure,
        reference=reference,
        second=second,
        selection=plan.selection,
        incomplete=incomplete,
        table=_table(rows, columns),
        columns=columns,
        family=family,
        best=best,
        answer=write_answer(context),
        captions=write_captions(context),
        notes=write_notes(context),
    )


# -- which rows


def _judge(members: Mapping[str, TableRow], plan: PlanFile, analysis: Analysis) -> Family:
    """Judge the members against the reference; with looks, at those that are complete, at least
    at the first."""
    base = members[plan.reference]
    others = {k: v for k, v in members.items() if k != plan.reference}
    if not analysis.looks or not base.scores:
        differences = {k: _difference(v, base.scores, analysis) for k, v in others.items()}
        family = judge(differences, analysis)
        return family if base.scores else without_reference(family)
    seeds = sorted(int(seed) for seed in base.plan.runs)
    reached = sum(count < len(seeds) for count in analysis.looks) + plan.complete
    scores = {k: v.scores for k, v in others.items()}
    return judge_looks(scores, base.scores, analysis, seeds, max(reached, 1))


# -- what stands in them


def _difference(line: TableRow, base: Mapping[int, float], analysis: Analysis) -> Difference:
    return paired_difference(line.scores, base, analysis.level, analysis.image)


def _estimate(name: str, interval: Interval) -> dict[str, Any]:
    values = {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return values | {f"{name}_n": interval.n, f"{name}_sd": interval.sd}


def _judged(family: Family, label: str) -> dict[str, Any]:
    verdict = family.verdicts[label]
    return {
        "p": verdict.difference.p,
        "p_moderated": verdict.tested.p if family.analysis.test == MODERATED else None,
        "p_adjusted": verdict.p_adjusted,
        "adjusted_low": verdict.low,
        "adjusted_high": verdict.high,
        "p_equal": verdict.p_equal,
        "detectable": family.detectable_by(label) if verdict.difference.n >= FEWEST_SEEDS else None,
        "verdict": verdict.text,
    }


def _summary(
    line: TableRow,
    wanted: int,
    cost: Mapping[str, Any] | None,
    analysis: Analysis,
    measure: Measure,
) -> dict[str, Any]:
    done = line.runs[line.runs["state"] == "done"]
    values: dict[str, Any] = {
        "method": line.label,
        "row": line.row,
        "state": line.state,
        "n": len(line.scores),
        "wanted": wanted,
        "hparams": hparams_text(line.plan),
        "cite": line.plan.cite,
        "reason": line.reason or None,
        **_estimate(measure.column, mean_interval(line.scores, analysis.level)),
    }
    price = ((cost or {}).get("rows") or {}).get(line.label) or {}
    values["relative cost (measured)"] = price.get("training")
    for column in columns_by(measure):
        if column.run:
            # The cost of a method is measured apart; a run knows it where it was not.
            measured = price.get(column.run.removeprefix("measured."))
            value = _summarised(done[column.run], column.summary) if measured is None else measured
            values[column.name] = value if value is None else column.scale * value
    return values


def _summarised(runs: pd.Series, summary: str) -> Any:
    if summary == "first":
        present = runs.dropna()
        return int(present.iloc[0]) if len(present) else None
    return runs.median() if summary == "median" else runs.mean()


def _described(line: TableRow, base: Scores, taught: Scores) -> dict[str, Any]:
    """What no verdict rests on; `base` are the reference's scores, `taught` the teachers'."""
    values = {"iqm (descriptive)": iqm(line.scores)}
    if line.scores is not base:
        for kind in ("paired", "unpaired"):
            share = probability_of_improvement(line.scores, base, paired=kind == "paired")
            values[f"probability of improvement, {kind} (descriptive)"] = share
        # On the seeds that both have, as their difference; a teacher of each seed likewise.
        shared = line.scores.keys() & base.keys()
        of_seeds = {s: v for s, v in taught.items() if s in shared} if len(taught) > 1 else taught
        ends = ({s: v for s, v in x.items() if s in shared} for x in (line.scores, base))
        means = (mean_interval(scores).mean for scores in (*ends, of_seeds))
        values["gap recovered (descriptive)"] = gap_recovered(*means)
    return values


def _published(number: Mapping[str, Any]) -> dict[str, Any]:
    """A row that was copied: a number, its citation, and nothing that a test could use."""
    return {
        "method": number["label"],
        "row": PUBLISHED,
        "state": PUBLISHED,
        "n": number.get("seeds"),
        "best": False,
        "accuracy": number["accuracy"],
        "hparams": number.get("note") or "",
        "cite": number["cite"],
    }


def _table(rows: list[dict[str, Any]], columns: tuple[Column, ...]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=[column.name for column in columns])
    for column in columns:
        values = table[column.name]
        if column.kind == "count":
            table[column.name] = pd.to_numeric(values).astype("Int64")
        elif column.kind == "text":
            table[column.name] = values.astype(object).where(values.notna(), None)
        elif column.kind == "number" and values.dtype == object:
            table[column.name] = values.astype(float)
    return table
