"""Logged and registered models: weights without pickle, with signature and input example."""

from pathlib import Path

import mlflow
import numpy as np
import pytest
from safetensors.numpy import load_file
from support.mlflow_root import CLASSES, STUDY, MlflowRoot

from kdbench.tracking import sync_study
from kdbench.tracking.models import NetworkFile, NotInMlflow, register_network
from kdbench.tracking.read import tracking_at


def test_a_final_run_has_a_logged_model_and_no_second_copy(root: MlflowRoot) -> None:
    record = root.final()
    root.sync(record)
    run = root.run(record)
    (output,) = run.outputs.model_outputs
    client = root.experiment().client
    model = client.get_logged_model(output.model_id)
    assert (str(model.status), model.source_run_id) == ("READY", run.info.run_id)
    folder = Path(model.artifact_location.removeprefix("file://"))
    names = {path.name for path in folder.iterdir()}
    assert names == {"MLmodel", "weights.safetensors", "spec.json", "input_example.json"}
    assert set(load_file(folder / "weights.safetensors")) == {"last/w"}
    assert len(list(root.store.root.glob("mlartifacts/**/weights.safetensors"))) == 1
    with tracking_at(root.uri):
        described = mlflow.models.Model.load(str(folder))
        example = described.load_input_example(str(folder))
    assert list(described.flavors) == ["safetensors"]
    assert described.signature.inputs.inputs[0].shape == (-1, 1, 8, 8)
    assert described.signature.outputs.inputs[0].shape == (-1, CLASSES)
    assert np.asarray(example["images"]).shape == (1, 1, 8, 8)


def test_a_model_is_logged_once(root: MlflowRoot) -> None:
    record = root.final()
    root.sync(record)
    (record.folder / "mlflow.json").unlink()
    assert sync_study(root.store, STUDY, root.uri)["updated"] == 1
    experiment = root.experiment()
    assert len(experiment.client.search_logged_models([experiment.id])) == 1


def test_an_export_is_registered_in_versions(root: MlflowRoot, tmp_path: Path) -> None:
    record = root.final()
    root.sync(record)
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"a network")
    network = NetworkFile("model.onnx", "onnx", (1, 8, 8), CLASSES)
    versions = [
        register_network(STUDY, root.uri, record.id, "digits-net", folder, network) for _ in "ab"
    ]
    assert versions == ["1", "2"]
    client = root.experiment().client
    version = client.get_model_version("digits-net", "2")
    assert version.run_id == root.run(record).info.run_id
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    kept = Path(model.artifact_location.removeprefix("file://")) / "model.onnx"
    assert kept.read_bytes() == b"a network"
    assert {path.name for path in folder.iterdir()} == {"model.onnx"}
    with pytest.raises(NotInMlflow, match="kdbench sync"):
        register_network(STUDY, root.uri, "0" * 12, "digits-net", folder, network)
