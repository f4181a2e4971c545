"""Weights of a network that somebody else trained, as the record of a run.

Such a run is never trained: its record is finished before the first start, and from then on it is
a teacher like any other, scored on the test set and named by the checksum of its file.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from kdbench import models
from kdbench.data.load import TrainingData
from kdbench.errors import KdbenchError, first_names, one_line
from kdbench.records.lineage import LEARNED_FROM
from kdbench.records.spec import RunSpec
from kdbench.records.store import Store
from kdbench.training.packages import packages_of

UNREADABLE = (OSError, RuntimeError, ValueError, EOFError, LookupError, pickle.UnpicklingError)
#: Where a file of a training script keeps the weights among other things.
WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "network", "weights")
#: What wrappers of networks put before every name.
PREFIXES = ("module.", "_orig_mod.")


class BadWeights(KdbenchError):
    """Given weights cannot be read, or do not fit their network."""


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state dict in a file of safetensors or of `torch.save`, without the usual wrappers.

    Nothing in the file is run. Raises `BadWeights`.
    """
    try:
        if path.suffix == ".safetensors":
            raw: Any = load_file(path)
        else:
            raw = torch.load(path, map_location="cpu", weights_only=True)
    except (*UNREADABLE, SafetensorError) as error:
        # torch's message tells how to run what is in the file, which is no advice.
        why = "" if isinstance(error, pickle.UnpicklingError) else f": {one_line(error)[:200]}"
        raise BadWeights(
            f"{path} cannot be read as weights{why}. Save the state dict alone, as nothing else in "
            "a file is read: torch.save(model.state_dict(), path)"
        ) from error
    for key in WRAPPERS:
        if isinstance(raw, Mapping) and isinstance(raw.get(key), Mapping):
            raw = raw[key]
    if not isinstance(raw, Mapping) or not raw or not all(map(_is_entry, raw.items())):
        raise BadWeights(
            f"{path} holds no state dict: a mapping of names to tensors, alone or under one of "
            f"{', '.join(WRAPPERS)}"
        )
    weights: dict[str, Tensor] = dict(raw)
    while prefix := next((p for p in PREFIXES if all(n.startswith(p) for n in weights)), None):
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    return weights


def fitting_weights(path: Path, model: str, data: TrainingData) -> dict[str, Tensor]:
    """The weights in a file, held against the network `model` for these data. Raises
    `BadWeights` that lists what is missing, too much or of another shape."""
    weights = read_weights(path)
    with torch.random.fork_rng(devices=[]):
        expected = models.build(model, data.shape, data.classes).state_dict()
    # A count of batches that batch normalisation keeps, and old files lack; nothing reads it.
    optional = {name for name in expected if name.endswith("num_batches_tracked")}
    weights = {**{n: expected[n] for n in optional}, **weights}
    shapes = [
        f"{name} is {_shape(weights[name])} in the file and {_shape(expected[name])} in {model}"
        for name in expected
        if name in weights and weights[name].shape != expected[name].shape
    ]
    if count := _other_classes(weights, expected, data.classes):
        raise BadWeights(
            f"{path} tells {count} classes apart, and {data.name} has {data.classes}; a teacher "
            "needs the classes of the study's data: train its classifier on them first"
        )
    lists = {
        "missing": [name for name in expected if name not in weights],
        "not of this network": [name for name in weights if name not in expected],
        "of another shape": shapes,
    }
    if found := [f"{kind}: {first_names(names, 5)}" for kind, names in lists.items() if names]:
        raise BadWeights(
            f"{path} does not hold the weights of {model} for {data.classes} classes; "
            f"{'; '.join(found)}"
        )
    if bad := [n for n, value in weights.items() if not bool(value.isfinite().all())]:
        raise BadWeights(f"{path} holds values that are no finite numbers: {first_names(bad, 5)}")
    return {name: weights[name].to(expected[name].dtype).contiguous() for name in expected}


def _other_classes(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], classes: int
) -> int:
    """How many classes the weights are for, where that is all that does not fit; else 0."""
    if weights.keys() != expected.keys():
        return 0
    pairs = [(weights[n], value) for n, value in expected.items()]
    wrong = [(given, value) for given, value in pairs if given.shape != value.shape]
    counts = {given.shape[:1] for given, _ in wrong}
    same = all(v.shape[:1] == (classes,) and g.shape[1:] == v.shape[1:] for g, v in wrong)
    return counts.pop()[0] if same and len(counts) == 1 and counts != {()} else 0


def keep_given(store: Store, spec: RunSpec, path: Path, data: TrainingData) -> None:
    """Write the record of a run whose weights are in a file, unless it is there already."""
    record = store.record(spec.id)
    if record.result is not None:
        return
    weights = fitting_weights(path, spec.models["student"], data)
    with torch.random.fork_rng(devices=[]):
        network = models.build(spec.models["student"], data.shape, data.classes)
    size = sum(p.numel() for p in network.parameters())
    result = {
        "id": spec.id,
        "state": "done",
        "epochs": 0,
        "diverged_epoch": None,
        "last": {},
        # Whichever epoch's weights a study takes, they are these.
        "best": {"epoch": 0},
        "loss_weights": {},
        LEARNED_FROM: {},
        "parameters": size,
        "student_parameters": size,
        "macs": models.macs(spec.models["student"], data.shape, data.classes),
        "seconds": 0.0,
        **packages_of(spec),
    }
    both = {f"{which}/{n}": v.clone() for which in ("last", "best") for n, v in weights.items()}
    with record.writing():
        record.begin(spec)
        record.finish(result, save_tensors(both))


def _is_entry(item: tuple[Any, Any]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
