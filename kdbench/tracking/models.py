"""Networks as MLflow's logged and registered models: the file as it is, with its signature. No
pickle is written, and none is needed to load them."""

import json
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kdbench.errors import KdbenchError
from kdbench.records.files import link_or_copy
from kdbench.records.store import Record
from kdbench.tracking.experiment import find_experiment, preference
from kdbench.tracking.read import tracking_at

#: The input example: one image, all grey, under the name of the input.
EXAMPLE_FILE, IMAGES = "input_example.json", "images"

#: What MLflow refuses in the name of a logged model.
REFUSED = re.compile(r"[/:.%\"']")


class NotInMlflow(KdbenchError, LookupError):
    """MLflow has no run of this record."""


@dataclass(frozen=True)
class NetworkFile:
    """A network in the file `name` of a `format`: images of `shape` (channels, height, width) go
    in, `classes` logits come out. `details` are what else a reader of the file must know."""

    name: str
    format: str
    shape: tuple[int, ...]
    classes: int
    details: Mapping[str, Any] = field(default_factory=dict)


def log_network(
    client: Any, experiment: str, run: str, name: str, folder: Path, network: NetworkFile
) -> str:
    """Log the files of `folder` as the model that a run has made; the model's id."""
    from mlflow.entities import LoggedModelOutput

    model = client.create_logged_model(
        experiment, REFUSED.sub("-", name), run, model_type="image classifier"
    )
    _describe(folder, network, model.model_id, run)
    client.log_model_artifacts(model.model_id, str(folder))
    client.finalize_logged_model(model.model_id, "READY")
    client.log_outputs(run, [LoggedModelOutput(model.model_id, step=0)])
    return str(model.model_id)


def _describe(folder: Path, network: NetworkFile, model: str, run: str) -> None:
    """Write `MLmodel`, with the signature, and the input example."""
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    number = np.dtype("float32")
    example = np.full((1, *network.shape), 0.5, number)
    (folder / EXAMPLE_FILE).write_text(json.dumps({IMAGES: example.tolist()}))
    signature = ModelSignature(
        Schema([TensorSpec(number, (-1, *network.shape), IMAGES)]),
        Schema([TensorSpec(number, (-1, network.classes), "logits")]),
    )
    described = Model(
        run_id=run,
        model_id=model,
        signature=signature,
        saved_input_example_info={"artifact_path": EXAMPLE_FILE, "type": "ndarray"},
    )
    described.add_flavor(network.format, data=network.name, **network.details)
    described.save(str(folder / "MLmodel"))


def log_weights(
    client: Any, experiment: str, run: str, name: str, record: Record, network: NetworkFile
) -> str:
    """Log the weights of a finished run as its model; the model's id. Raises `CorruptRecord` where
    they are damaged: a copy would pass for sound ones."""
    record.state_dict()
    with tempfile.TemporaryDirectory(dir=record.folder, prefix=".mlflow.") as folder:
        for file in (network.name, "spec.json"):
            link_or_copy(record.path(file), Path(folder) / file)
        return log_network(client, experiment, run, name, Path(folder), network)


def register_network(
    study: str, uri: str, record_id: str, name: str, folder: Path, network: NetworkFile
) -> str:
    """Register the network in `folder` as the next version of the model `name`, made by the run
    that MLflow has of a record; the version. Raises `UnknownExperiment`, `NotInMlflow`, and what
    MLflow raises."""
    from mlflow.exceptions import MlflowException

    connected, experiment = find_experiment(study, uri)
    runs = connected.search_runs([experiment], f"tags.`kdbench.id` = '{record_id}'")
    if not runs:
        raise NotInMlflow(f"MLflow has no run {record_id}: `kdbench sync {study}` adds it")
    run = min(runs, key=preference).info.run_id
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        model = log_network(connected, experiment, run, name, Path(copy), network)
    try:
        connected.get_registered_model(name)
    except MlflowException:
        connected.create_registered_model(name)
    with tracking_at(uri):  # MLflow looks the model up in its own default store
        made = connected.create_model_version(name, f"models:/{model}", run, model_id=model)
    return str(made.version)
