"""The file of a study's measured costs: what each method costs on one machine.

A row holds the cost of one step (`relative`, `seconds_per_step`, `peak_mb`) and `training`: the
steps of all that is trained for one final run, over those for one of the reference. The study's
teacher, which methods share, is apart: it has a row of its own.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdbench.errors import KdbenchError
from kdbench.records.files import write_json
from kdbench.records.readers import CorruptRecord, read_object, sealed


class CorruptCosts(KdbenchError):
    """A file of measured costs that cannot be read."""

    def __init__(self, path: Path, why: str) -> None:
        study = path.name.removesuffix(".cost.json")
        super().__init__(
            f"the measured costs {path} cannot be read: {why}. `kdbench study {study}` measures "
            "them again; `kdbench doctor` moves them aside."
        )
        self.why = why


def read_costs(path: Path) -> dict[str, Any]:
    """`machine`, and the costs of each method by label under `rows`; empty where there is no
    file. Raises `CorruptCosts`."""
    try:
        costs = read_object(path)
    except CorruptRecord as error:
        raise CorruptCosts(path, error.why) from error
    if costs is None:
        return {}
    rows = costs.get("rows")
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise CorruptCosts(path, "they have no rows")
    return costs


def write_costs(path: Path, machine: str, rows: Mapping[str, Any]) -> None:
    """Write the costs measured on a machine, with a checksum."""
    write_json(path, sealed({"machine": machine, "rows": rows}))
