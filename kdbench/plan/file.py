"""The plan as it is kept on disk, for reports and for people."""

from typing import Any

from kdbench.plan.parts import Node, Plan, Row
from kdbench.plan.planner import Planner
from kdbench.run import digest
from kdbench.store import Store


def plan_file(planner: Planner, plan: Plan) -> dict[str, Any]:
    """Ids, chosen knobs, listing: all that a report takes from a study."""
    study = planner.study
    first = next(iter(plan.nodes.values())).spec
    return {
        "study": study.name,
        "question": study.question,
        "hash": digest(study.model_dump(mode="json")),
        "data": {
            "name": study.data.name,
            "checksum": planner.data.checksum,
            "validation": study.data.validation,
            "augment": study.data.augment,
            "train_on": study.final.train_on,
            "classes": list(planner.data.class_names),
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
        "complete": not plan.open
        and all(
            _over(planner.store, n) or planner.graph.diverged_source(plan, n.id)
            for n in plan.nodes.values()
        ),
        "rows": [_row(row) for row in plan.rows],
        "listing": {id: dict(node.listing) for id, node in plan.nodes.items()},
    }


def _over(store: Store, node: Node) -> bool:
    record = store.record(node.id)
    result = record.result
    if result is None:
        return False
    return not node.score or result["state"] != "done" or record.test is not None


def _row(row: Row) -> dict[str, Any]:
    trials = [
        {
            "number": t["number"],
            "runs": t["runs"],
            "knobs": t["knobs"],
            "accuracy": t["score"][0] if t["score"] else None,
            "nll": t["score"][1] if t["score"] else None,
        }
        for t in row.trials
    ]
    return {**row.__dict__, "trials": trials}
