"""`kdbench study` chooses the test images of its report after the last score, and not before."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from support.command_line import kdbench, output

from kdbench.execution import gallery
from kdbench.execution.engines import worker
from kdbench.records.galleries import gallery_path, read_gallery
from kdbench.records.plan_file import PlanFile
from kdbench.records.store import Store


@pytest.fixture
def root(tiny_root: Path, tmp_path: Path, inside: None) -> Path:
    """A copy of the finished study."""
    shutil.copytree(tiny_root, tmp_path, dirs_exist_ok=True)
    return tmp_path


def refused(*_: object) -> None:
    pytest.fail("the test set was opened for images")


def test_a_finished_study_has_images_of_its_teacher_and_two_best_methods(tiny_root: Path) -> None:
    kept = read_gallery(gallery_path(tiny_root, "tiny"))
    assert kept
    store = Store(tiny_root)
    assert kept.predictors[0].label == "teacher"
    assert {p.label for p in kept.predictors[1:]} == {"ce", "kd"}
    assert kept.tested == 597
    votes = []
    for predictor in kept.predictors:
        logits = [store.record(run).predictions()["last"] for run in predictor.runs]
        votes.append([Counter(column) for column in np.argmax(logits, axis=2).T.tolist()])
    labels = store.record(kept.predictors[0].runs[0]).predictions()["labels"]
    assert kept.images
    for image in kept.images:
        assert image.label == labels[image.position]
        for vote, counts in zip(image.votes, votes, strict=True):
            most = max(counts[image.position].values())
            winners = [k for k, n in counts[image.position].items() if n == most]
            assert (vote.predicted, vote.runs) == (min(winners), most)


def test_no_image_is_chosen_while_a_run_waits_for_its_score(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = gallery_path(root, "tiny").read_bytes()
    gallery_path(root, "tiny").unlink()
    plan = PlanFile.load(Store(root).plan_path("tiny"))
    assert plan
    run = plan.rows[0].runs["2"]
    for name in ("test.json", "test.npz"):
        (root / "runs" / run / name).unlink()
    with monkeypatch.context() as patch:

        def fails(*_: object) -> None:
            raise RuntimeError("no score")

        patch.setattr(worker, "score_run", fails)
        patch.setattr(gallery, "open_test_set_of", refused)
        result = kdbench("study", root / "tiny.yaml", "--root", root)
    assert result.exit_code == 1
    assert "no score" in result.output
    assert not gallery_path(root, "tiny").exists()
    output("study", root / "tiny.yaml", "--root", root)
    assert gallery_path(root, "tiny").read_bytes() == before


def test_a_test_set_that_is_gone_costs_the_images_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery_path(root, "tiny").unlink()

    def gone(*_: object) -> None:
        raise gallery.NotShown("the disk is full")

    monkeypatch.setattr(gallery, "open_test_set_of", gone)
    text = output("study", root / "tiny.yaml", "--root", root)
    assert "the report shows no test images: the disk is full" in text
    assert not gallery_path(root, "tiny").exists()
