"""Whether a method can serve a pair of models."""

import torch

from kdbench import models
from kdbench.data.load import TrainingData
from kdbench.errors import one_line
from kdbench.methods import METHODS
from kdbench.methods.base import Incompatible, Method
from kdbench.methods.layers import resolve_layers, shapes_of_run
from kdbench.methods.networks import RoleModels
from kdbench.methods.types import Shapes
from kdbench.study.load import StudyError
from kdbench.study.mixing import mixing_fault
from kdbench.study.schema import Entry, Study


def model_of(study: Study, entry: Entry | None, slot: str) -> str:
    """The model in a slot: the entry's own, else the study's teacher or student."""
    if entry is not None and slot in entry.slots:
        return entry.slots[slot]
    return study.teacher.model if slot == "teacher" else study.student.model


def incompatible(study: Study, data: TrainingData, entry: Entry) -> str | None:
    """Why a method cannot serve this pair of models, or None. Raises `StudyError` for a layer
    that the study asks for and a model lacks."""
    method = METHODS[entry.method](**entry.hparams)
    try:
        shapes = method_shapes(study, data, entry, method)
    except ValueError as error:
        # Layers that the study asks for are its mistake; the method's own make it incompatible.
        if method.layers() != METHODS[entry.method]().layers():
            raise StudyError(study.name, [f"methods ({entry.label}): {error}"]) from None
        return str(error)
    if fault := _momentum_fault(study, entry):
        return fault
    try:
        with torch.random.fork_rng(devices=[]):
            helpers = method.helpers(shapes)
    except Incompatible as reason:
        return str(reason)
    except Exception as error:  # the code of another package can raise anything
        fault = f"methods ({entry.label}): helpers() raises {one_line(error)}"
        raise StudyError(study.name, [fault]) from error
    return mixing_fault(method, shapes, helpers) if study.recipe.resolve().mixes else None


def _momentum_fault(study: Study, entry: Entry) -> str | None:
    """Why the recipe cannot give a method's terms momenta of their own, at its defaults or at
    the ends of what is tuned; None where it can, or the method asks for none."""
    recipe, kind = study.recipe, METHODS[entry.method]
    settings: list[dict[str, float]] = [{}]
    if study.tune:
        searched = kind.searched().items()
        settings += [{name: getattr(r, end) for name, r in searched} for end in ("low", "high")]
    for values in settings:
        for term, shift in kind(**{**values, **entry.hparams}).momentum_shifts().items():
            if recipe.optimizer != "sgd" or not recipe.momentum:
                return (
                    "needs SGD with momentum, as terms get momenta of their own; the recipe has "
                    + (recipe.optimizer if recipe.optimizer != "sgd" else "momentum 0")
                )
            if recipe.nesterov or recipe.clip:
                what = "nesterov" if recipe.nesterov else "clip"
                return f"gives terms momenta of their own, for which {what} is not defined"
            if not 0 <= recipe.momentum + shift < 1:
                return (
                    f"needs momenta from 0 to below 1; that of the term {term} would be "
                    f"{recipe.momentum + shift:g}, as the recipe has {recipe.momentum:g}"
                )
    return None


def check_models(study: Study, data: TrainingData) -> None:
    """Raise `StudyError` with a line for each model of the study that fails on the data's images
    or does not return their logits."""
    places = {"student.model": study.student.model, "teacher.model": study.teacher.model}
    for entry in study.methods:
        for slot, model in entry.slots.items():
            places[f"methods ({entry.label}).{slot}.model"] = model
    faults = []
    for place, model in places.items():
        try:
            models.feature_shapes(model, data.shape, data.classes)
        except models.BrokenModel as error:
            faults.append(f"{place}: {error} (data: {data.name})")
    if faults:
        raise StudyError(study.name, faults)


def method_shapes(study: Study, data: TrainingData, entry: Entry, method: Method) -> Shapes:
    """The layer shapes that an entry's method will see, by role. Raises `ValueError` for a
    layer that a model lacks."""
    role_models = RoleModels(
        method.networks(),
        in_slot=lambda slot: model_of(study, entry, slot),
        of_frozen=lambda _, run: model_of(study, entry, run.model),
    ).by_role()
    shapes = {
        role: models.feature_shapes(model, data.shape, data.classes)
        for role, model in role_models.items()
    }
    layers = resolve_layers(method.layers(), shapes, role_models)
    return shapes_of_run(role_models, layers, data.shape, data.classes, len(data.labels))
