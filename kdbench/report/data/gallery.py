"""Whose predictions a study's gallery of test images compares, and whether one is still theirs."""

from pathlib import Path

import pandas as pd

from kdbench.records.galleries import Gallery, Predictor, gallery_path, read_gallery
from kdbench.records.plan_file import PlanFile
from kdbench.report.data.runs import TEACHER
from kdbench.report.rows import best_first, primary_rows, table_rows

#: Methods that are compared.
BEST = 2


def predictors_of(frame: pd.DataFrame, plan: PlanFile) -> tuple[Predictor, ...]:
    """The teacher, if the study has one, then the methods with the best mean scores, each by the
    row that stands for it; with their scored runs."""
    primary = primary_rows(table_rows(frame, plan))
    best = [row for row in best_first(primary.values(), primary) if row.scores][:BEST]
    rows = [(row.label, row.row, row.runs) for row in best]
    found = [(TEACHER, TEACHER, frame[frame["row"] == TEACHER]), *rows]
    scored = [(label, row, runs[runs["state"] == "done"]) for label, row, runs in found]
    return tuple(Predictor(a, b, tuple(runs["id"])) for a, b, runs in scored if len(runs))


def current_gallery(root: Path, frame: pd.DataFrame, plan: PlanFile) -> Gallery | None:
    """The gallery that a root keeps of a study; None where there is none, and where it compares
    other runs than those that are the best now. Raises `CorruptGallery`."""
    gallery = read_gallery(gallery_path(root, plan.study))
    if gallery and gallery.licence and gallery.predictors != predictors_of(frame, plan):
        return None
    return gallery
