"""The packages that a run's networks and data set come from, recorded beside its result."""

from importlib.metadata import version
from typing import Any

from kdbench.data import DATASETS
from kdbench.models import MODELS
from kdbench.models.names import ModelName, is_foreign, without_input
from kdbench.records.spec import RunSpec


def packages_of(spec: RunSpec) -> dict[str, Any]:
    """`packages`, the versions of plug-ins and of the library a network is of, by name; nothing
    where all is kdbench's own. The method's package is in the run's id, and a user's own files are
    named by their content."""
    names = [without_input(name)[0] for name in spec.models.values()]
    origins = [*map(MODELS.origin, names), DATASETS.origin(spec.data.name)]
    packages = {name: its for name, _, its in (o.partition("==") for o in origins) if its}
    for source in {ModelName.parse(name).source for name in names if is_foreign(name)}:
        if not source.endswith(".py"):
            packages[source] = version(source)
    return {"packages": packages} if packages else {}
