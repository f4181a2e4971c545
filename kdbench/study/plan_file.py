"""From a plan to the plan file, for reports and for people."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from kdbench.masking import mask
from kdbench.methods import METHODS
from kdbench.methods.base import Range
from kdbench.models.names import without_input
from kdbench.records.measures import ACCURACY
from kdbench.records.plan_file import (
    PlanConfirm,
    PlanData,
    PlanFile,
    PlannedTrial,
    PlanRow,
    PlanTune,
    SearchRange,
)
from kdbench.records.spec import YOUNGER, digest
from kdbench.registry import Paper
from kdbench.stats.analysis import PAIRED
from kdbench.study import references, sampling
from kdbench.study.graph import labelled_count
from kdbench.study.method_texts import method_text
from kdbench.study.plan import Node, Plan, Row, Trial
from kdbench.study.planner import Planner
from kdbench.study.schema import Study, Tune
from kdbench.study.teacher_input import described

#: Prose, copied numbers and a licence, which only the text of a report depends on: not hashed.
NOT_HASHED: dict[str, Any] = {
    "question": True,
    "report": {"published": True, "sources": True, "images": True},
}


def plan_file(planner: Planner, plan: Plan) -> PlanFile:
    """The plan file of a study as far as it is planned now."""
    study = planner.study
    papers = references.references(study)
    data_paper = references.of_data(study)
    return PlanFile(
        study=study.name,
        selection=study.final.epoch,
        question=mask(study.question),
        hash=study_hash(study),
        data=_data(planner),
        models={"student": study.student.model, "teacher": study.teacher.model},
        recipe=study.recipe.resolve(),
        reference=study.report.reference,
        margin=study.report.margin,
        measure=study.report.score,
        test=study.report.test,
        looks=study.final.looks,
        teacher_weights=study.teacher.weights or "",
        teacher_input=described(study),
        tune=_tune(planner.tune),
        teachers=plan.teachers,
        published=tuple(number.model_dump() for number in study.report.published),
        references={key: _fields(paper) for key, paper in papers.items()},
        taken=planner.base.taken if planner.base else None,
        methods={row.method: method_text(row.method) for row in plan.rows},
        cites={
            "data": data_paper and data_paper.key,
            "models": {name: paper.key for name, paper in references.of_models(study).items()},
        },
        complete=not plan.open and all(_has_ended(planner, plan, n) for n in plan.nodes.values()),
        rows=tuple(_row(planner, plan, row) for row in plan.rows),
        listing={id: node.listing for id, node in plan.nodes.items()},
    )


def study_hash(study: Study) -> str:
    """12 hex digits of all of a study that its numbers can depend on."""
    return digest(_hashed(study))


def _hashed(study: Study) -> dict[str, Any]:
    """All of a study that its numbers can depend on."""
    content = study.model_dump(mode="json", exclude=NOT_HASHED)
    # Younger than the first reports: where they say what those did, a study keeps its hash.
    for name, default in YOUNGER.items():
        if content["recipe"][name] == default:
            del content["recipe"][name]
    if study.tune and study.tune.confirm is None:
        del content["tune"]["confirm"]
    if not study.final.looks:
        del content["final"]["looks"]
    if study.data.labelled is None:
        del (
            content["data"]["labelled"],
            content["data"]["unlabelled"],
            content["teacher"]["labelled"],
        )
    # The planner's study has in it what `size` and `normalise` come to on these data.
    content["teacher"]["model"], _ = without_input(content["teacher"]["model"])
    for name in ("weights", "size", "normalise"):
        if content["teacher"][name] is None:
            del content["teacher"][name]
    if study.report.test == PAIRED:
        del content["report"]["test"]
    if study.report.score == ACCURACY.key:
        del content["report"]["score"]
    for entry in content["methods"]:
        if entry["precision"] is None:
            del entry["precision"]
    return content


def _data(planner: Planner) -> PlanData:
    part, data = planner.study.data, planner.data
    return PlanData(
        name=part.name,
        checksum=data.checksum,
        validation=part.validation,
        augment=part.augment,
        train_on=planner.study.final.train_on,
        classes=tuple(data.class_names),
        images=len(data.labels),
        shape=tuple(data.shape),
        labelled=labelled_count(part, len(data.labels)),
        unlabelled=part.unlabelled.ratio if part.labelled else 0,
        teacher_labelled=planner.study.teacher.labelled or "",
    )


def _tune(tune: Tune | None) -> PlanTune | None:
    if tune is None:
        return None
    stage = tune.confirm
    confirm = PlanConfirm(stage.points, stage.seeds) if stage else None
    return PlanTune(tune.trials, tune.epochs, tune.seeds, tune.sampler, confirm)


def _fields(paper: Paper) -> dict[str, Any]:
    fields = asdict(paper)
    if paper.arxiv is None:
        del fields["arxiv"]
    return {name: value for name, value in fields.items() if name != "key"}


def _has_ended(planner: Planner, plan: Plan, node: Node) -> bool:
    """Whether a run is finished, and scored where it may be, or can never be trained."""
    record = planner.store.record(node.id)
    result = record.result
    if result is None or (node.score and result["state"] == "done" and record.test is None):
        return planner.graph.diverged_source(plan, node.id) is not None
    return True


def _row(planner: Planner, plan: Plan, row: Row) -> PlanRow:
    # Outputs are had alike in all runs of a row; before tuning is over, in all its trials.
    runs = [*row.runs.values(), *(run for trial in row.trials for run in trial.runs)]
    entry = next(entry for entry in planner.study.methods if entry.label == row.label)
    ranges = planner.searched(entry) if row.trials else {}
    precision = entry.precision or ""
    return PlanRow(
        label=row.label,
        row=row.row,
        method=row.method,
        cite=row.cite,
        hparams=row.hparams,
        searched=tuple(row.searched),
        runs=row.runs,
        trials=tuple(map(_trial, row.trials)),
        best_trial=row.best_trial,
        incompatible=row.incompatible,
        outputs=dict(planner.outputs.access(plan, runs[0])) if runs else {},
        ranges={name: SearchRange(r.low, r.high, r.log) for name, r in ranges.items()},
        at_edge=_at_edge(row, ranges),
        unlabelled=planner.study.data.labelled is not None and METHODS[row.method].unlabelled,
        precision="" if precision == planner.study.recipe.precision else precision,
    )


def _at_edge(row: Row, ranges: Mapping[str, Range]) -> tuple[str, ...]:
    """What a trial that was chosen has at an end of its range; the default needs no range."""
    if not row.best_trial:
        return ()
    return tuple(name for name, r in ranges.items() if sampling.is_at_edge(row.hparams[name], r))


def _trial(trial: Trial) -> PlannedTrial:
    accuracy, nll = trial.score or (None, None)
    confirmed = trial.confirmed or ()
    return PlannedTrial(trial.number, trial.runs, trial.hparams, accuracy, nll, confirmed)
