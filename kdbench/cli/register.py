"""`kdbench export --register`: an exported student in MLflow's registry of models."""

import re
from pathlib import Path

from kdbench.cli.app import UsageError
from kdbench.export.description import Description
from kdbench.tracking.client import tracking_uri
from kdbench.tracking.experiment import find_experiment
from kdbench.tracking.models import NetworkFile, register_network


def check_registry(root: Path, study: str, name: str) -> None:
    """Raise `UsageError` for a name that MLflow refuses, and `UnknownExperiment` where it does not
    know the study, before anything is exported."""
    if re.search(r"[/:]", name) or not name.strip():
        raise UsageError(f"--register {name}: the name of a model has no / and no : in it")
    find_experiment(study, tracking_uri(root))


def register_export(root: Path, folder: Path, written: Description, name: str) -> str:
    """Register the export in `folder`, with its signature and an input example; the version. Raises
    what `register_network` raises."""
    details = {
        "dtype": written.dtype,
        "normalised": written.normalised,
        "mean": list(written.mean),
        "std": list(written.std),
        "class_names": list(written.classes),
    }
    network = NetworkFile(
        written.file, written.format, written.image_shape, len(written.classes), details
    )
    uri = tracking_uri(root)
    return register_network(written.study, uri, written.run, name, folder, network)
