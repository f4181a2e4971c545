"""The score by which a study compares: which runs it makes others of, and what looks go by."""

import numpy as np
import pytest
from support.desk import CLASSES, Desk, kinds, study_of

from kdbench.records.plan_file import PlanFile
from kdbench.study.load import StudyError
from kdbench.study.plan_file import plan_file

SCORE = {"reference": "ce", "score": "balanced-accuracy"}


def ids(desk: Desk, kind: str, **parts) -> set[str]:
    return {node.id for node in kinds(desk.plan(study_of("ce", "kd", **parts)), kind)}


def test_only_runs_that_are_chosen_by_it_are_others(desk):
    for kind in ("final", "teacher"):
        assert ids(desk, kind) == ids(desk, kind, report=SCORE)
        best = {"seeds": [0], "epoch": "best"}
        assert not ids(desk, kind, final=best) & ids(desk, kind, final=best, report=SCORE)
    assert not ids(desk, "trial") & ids(desk, "trial", report=SCORE)


def test_a_plan_of_accuracy_is_what_it_was(desk):
    plain, named = (
        study_of("ce", "kd"),
        study_of("ce", "kd", report={"reference": "ce", "score": "accuracy"}),
    )
    other = study_of("ce", "kd", report=SCORE)
    files = [plan_file(desk.planner(s), desk.plan(s)) for s in (plain, named, other)]
    assert files[0] == files[1]
    assert "measure" not in files[0].to_dict()
    assert files[2].measure == "balanced-accuracy"
    assert files[2].hash != files[0].hash
    assert PlanFile.from_dict(files[2].to_dict()) == files[2]


def test_another_score_is_refused():
    with pytest.raises(StudyError, match="did you mean 'balanced-accuracy'"):
        study_of("ce", report={"reference": "ce", "score": "balanced"})


@pytest.mark.parametrize(("score", "seeds"), [("accuracy", 8), ("balanced-accuracy", 4)])
def test_looks_go_by_it(desk, score, seeds):
    """kd is much better in the smallest class, and right as often as ce in all."""
    study = study_of("ce", "kd", tune=None, final={"seeds": "0-7", "looks": [4, 8]},
                     report={"reference": "ce", "score": score})  # fmt: skip
    labels = np.arange(1000) % 100 % CLASSES
    labels = np.where(labels == 9, np.where(np.arange(1000) % 3 == 0, 9, 0), labels)
    rare, common = (np.flatnonzero(labels == label) for label in (9, 0))
    for node in desk.plan(study).nodes.values():
        desk.finish(node)
        right = np.ones(1000, dtype=bool)
        # As many are wrong in either, give or take some by the seed.
        wrong = common if node.listing.label == "kd" else rare
        right[wrong[: 25 + node.listing.seed]] = False
        predicted = np.where(right, labels, (labels + 1) % CLASSES)
        scores = {"accuracy": float(right.mean())}
        test = {"checksum": "t", "images": 1000, "last": scores, "best": None}
        logits = np.eye(CLASSES, dtype=np.float32)[predicted]
        desk.store.record(node.id).score(test, {"labels": labels, "last": logits})
    final = {node.listing.seed for node in kinds(desk.plan(study), "final", "kd")}
    assert len(final) == seeds
