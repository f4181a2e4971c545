"""The teacher whose weights a study gives: held against its network, and kept as a record."""

from kdbench.records.store import Store
from kdbench.study.load import StudyError
from kdbench.study.planner import Planner
from kdbench.study.weights_files import path_of
from kdbench.training.given_weights import BadWeights, fitting_weights, keep_given


def check_given_teacher(planner: Planner) -> None:
    """Raise `StudyError` where the weights that the study gives its teacher do not fit."""
    teacher = planner.study.teacher
    if teacher.weights is None or planner.graph.result(planner.graph.given_teacher().id):
        return
    try:
        fitting_weights(path_of(teacher.weights), teacher.model, planner.data)
    except BadWeights as error:
        raise StudyError(planner.study.name, [f"teacher.weights: {error}"]) from error


def keep_given_teacher(planner: Planner, store: Store) -> None:
    """Write the record of a teacher whose weights the study gives, unless it is there."""
    if weights := planner.study.teacher.weights:
        spec = planner.graph.given_teacher().spec
        keep_given(store, spec, path_of(weights), planner.data)
