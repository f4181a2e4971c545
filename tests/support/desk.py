"""Plans of small studies, and records written as if their runs had been trained."""

import json
from pathlib import Path
from typing import Any

import torch

from kdbench.data.load import TrainingData
from kdbench.records.store import Store
from kdbench.study.load import parse_study
from kdbench.study.plan import Node, Plan, Row
from kdbench.study.planner import Planner
from kdbench.study.schema import Study

COUNT, CLASSES = 1200, 10


def unseen_digits() -> TrainingData:
    """Digits in size and shape; no run is trained here, so nothing looks at a pixel."""
    pixels = torch.zeros(1, 1, 8, 8, dtype=torch.uint8).expand(COUNT, 1, 8, 8)
    labels = torch.arange(COUNT) % CLASSES
    names = tuple(str(n) for n in range(CLASSES))
    return TrainingData("digits", pixels, labels, names, 16, (0.0,), (1.0,), "abcdef012345")


def study_of(*methods: Any, **parts: Any) -> Study:
    raw: dict[str, Any] = {
        "name": "small",
        "data": {"name": "digits", "validation": 200},
        "student": {"model": "digits-cnn-small"},
        "teacher": {"model": "digits-cnn"},
        "recipe": {"epochs": 4, "batch": 64, "lr": 0.01},
        "methods": list(methods or ("ce", "kd")),
        "tune": {"trials": 6, "epochs": 2, "seeds": [100]},
        "final": {"seeds": [0, 1, 2]},
        "report": {"reference": "ce"},
    }
    for name, part in parts.items():
        merged = isinstance(raw.get(name), dict) and isinstance(part, dict)
        raw[name] = {**raw[name], **part} if merged else part
    if "ce" not in methods and "report" not in parts:
        raw["report"] = {"reference": raw["methods"][0]}
    return parse_study(json.dumps(raw), "small")


class Desk:
    """A planner over a store, and records written as if the runs had been trained."""

    def __init__(self, root: Path, images: TrainingData) -> None:
        self.store, self.images = Store(root), images

    def planner(self, study: Study, tune: bool = True) -> Planner:
        return Planner(study, self.images, self.store, tune)

    def plan(self, study: Study, tune: bool = True) -> Plan:
        return self.planner(study, tune).plan()

    def finish(self, node: Node, accuracy: float = 0.5, nll: float = 1.0, ok: bool = True) -> None:
        record = self.store.record(node.id)
        record.begin(node.spec)
        score = {"val.accuracy": accuracy, "val.nll": nll}
        state = "done" if ok else "diverged"
        result = {"id": node.id, "state": state, "diverged_epoch": None if ok else 1}
        record.finish({**result, "last": score, "best": score}, None)


def rows(plan: Plan, label: str) -> dict[str, Row]:
    return {row.row: row for row in plan.rows if row.label == label}


def kinds(plan: Plan, kind: str, label: str | None = None) -> list[Node]:
    return [
        node
        for node in plan.nodes.values()
        if node.listing.kind == kind and label in (None, node.listing.label)
    ]


def source(plan: Plan, node: Node, role: str = "teacher") -> Node:
    return plan.nodes[node.spec.frozen_runs[role]]
