"""Whether a method can serve a pair of models."""

import torch

from kdbench import models
from kdbench.data.load import TrainingData
from kdbench.methods import METHODS
from kdbench.methods.base import Method, Unfit
from kdbench.methods.networks import Frozen, Trained
from kdbench.methods.taps import resolve_taps
from kdbench.methods.types import Shapes
from kdbench.study.load import StudyError
from kdbench.study.schema import Entry, Study


def model_of(study: Study, entry: Entry | None, slot: str) -> str:
    """The model in a slot: the entry's own, else the study's teacher or student."""
    if entry is not None and slot in entry.slots:
        return entry.slots[slot]
    return study.teacher.model if slot == "teacher" else study.student.model


def unfit(study: Study, data: TrainingData, entry: Entry) -> str | None:
    """Why a method cannot serve this pair of models, or None. Raises `StudyError` for a tap
    that the study asks for and a model lacks."""
    method = METHODS[entry.method](**entry.knobs)
    try:
        shapes = tap_shapes(study, data, entry, method)
    except ValueError as error:
        # Taps that somebody asked for are a mistake; the method's own, a reason.
        if method.taps() != METHODS[entry.method]().taps():
            raise StudyError(study.name, [f"methods ({entry.label}): {error}"]) from None
        return str(error)
    try:
        with torch.random.fork_rng(devices=[]):
            method.helpers(shapes)
    except Unfit as reason:
        return str(reason)
    return None


def tap_shapes(study: Study, data: TrainingData, entry: Entry, method: Method) -> Shapes:
    """The tap shapes that an entry's method will see, by role. Raises `ValueError` for a
    tap that a model lacks."""
    role_models = {}
    for role, source in method.networks().items():
        slot = (
            source.slot
            if isinstance(source, Trained)
            else source.run.model
            if isinstance(source, Frozen)
            else "student"
        )
        role_models[role] = model_of(study, entry, slot)
    known = {r: models.taps_of(m, data.shape, data.classes) for r, m in role_models.items()}
    taps = resolve_taps(method.taps(), known, role_models)
    chosen = {role: {t: shapes[t] for t in taps} for role, shapes in known.items()}
    return Shapes(data.classes, len(data.labels), chosen)
