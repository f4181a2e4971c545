"""The plan as it is kept on disk, for reports and for people."""

from dataclasses import asdict
from typing import Any

from kdbench.records.spec import digest
from kdbench.records.store import Store
from kdbench.registry import Paper
from kdbench.study import references
from kdbench.study.plan import Node, Plan, Row
from kdbench.study.planner import Planner
from kdbench.study.schema import Study

#: What only words and copied numbers of a report depend on: no part of the study's hash.
WORDS: dict[str, Any] = {"question": True, "report": {"published": True, "sources": True}}


def plan_file(planner: Planner, plan: Plan) -> dict[str, Any]:
    """Ids, chosen hyperparameters, listing, papers: all that a report takes from a study."""
    study = planner.study
    first = next(iter(plan.nodes.values())).spec
    return {
        "study": study.name,
        "question": study.question,
        "hash": digest(_identity(study)),
        "data": {
            "name": study.data.name,
            "checksum": planner.data.checksum,
            "validation": study.data.validation,
            "augment": study.data.augment,
            "train_on": study.final.train_on,
            "classes": list(planner.data.class_names),
            "images": len(planner.data.labels),
            "shape": list(planner.data.shape),
        },
        "models": {"student": study.student.model, "teacher": study.teacher.model},
        "recipe": {**first.recipe.__dict__, "milestones": list(first.recipe.milestones)},
        "selection": study.final.epoch,
        "reference": study.report.reference,
        "margin": study.report.margin,
        "tune": planner.tune
        and {
            "trials": planner.tune.trials,
            "epochs": planner.tune.epochs,
            "seeds": list(planner.tune.seeds),
            "sampler": planner.tune.sampler,
        },
        "teachers": plan.teachers,
        "published": [row.model_dump() for row in study.report.published],
        **_papers(study),
        "complete": not plan.open
        and all(
            _over(planner.store, n) or planner.graph.diverged_source(plan, n.id)
            for n in plan.nodes.values()
        ),
        "rows": [_row(row, planner, plan) for row in plan.rows],
        "listing": {id: dict(node.listing) for id, node in plan.nodes.items()},
    }


def _identity(study: Study) -> dict[str, Any]:
    """All of a study that its numbers can depend on."""
    content = study.model_dump(mode="json", exclude=WORDS)
    # Younger than the first reports: at their defaults a study keeps the hash it had.
    if study.recipe.storage == "fp32":
        del content["recipe"]["storage"]
    for entry in content["methods"]:
        if entry["precision"] is None:
            del entry["precision"]
    return content


def _papers(study: Study) -> dict[str, Any]:
    """`references`: the fields of each paper by its key; `cites`: the key of the data set's
    and of each model's paper (rows have theirs)."""
    known = references.of_data(study)
    return {
        "references": {key: _fields(paper) for key, paper in references.references(study).items()},
        "cites": {
            "data": known and known.key,
            "models": {name: paper.key for name, paper in references.of_models(study).items()},
        },
    }


def _fields(paper: Paper) -> dict[str, Any]:
    return {name: value for name, value in asdict(paper).items() if name != "key"}


def _over(store: Store, node: Node) -> bool:
    record = store.record(node.id)
    result = record.result
    if result is None:
        return False
    return not node.score or result["state"] != "done" or record.test is not None


def _row(row: Row, planner: Planner, plan: Plan) -> dict[str, Any]:
    trials = [
        {
            "number": t["number"],
            "runs": t["runs"],
            "hparams": t["hparams"],
            "accuracy": t["score"][0] if t["score"] else None,
            "nll": t["score"][1] if t["score"] else None,
        }
        for t in row.trials
    ]
    # The same for all runs of a row; before tuning is over, for all of its trials.
    known = [*row.runs.values(), *(run for t in row.trials for run in t["runs"])]
    ways = dict(planner.outputs.ways(plan, known[0])) if known else {}
    return {**row.__dict__, "trials": trials, "outputs": ways}
