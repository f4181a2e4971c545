"""The file of a study's measured costs: what each method costs on one machine.

A row holds the cost of one step (`relative`, `seconds_per_step`, `peak_mb`) and `training`: the
steps of all that is trained for one final run, over those for one of the reference. The study's
teacher, which methods share, is apart: it has a row of its own. `measured` says what each row was
measured of, by label; files of earlier versions lack it.
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
    """`machine`, the costs of each method by label under `rows`, and `measured`; empty where there
    is no file. Raises `CorruptCosts`."""
    try:
        costs = read_object(path)
    except CorruptRecord as error:
        raise CorruptCosts(path, error.why) from error
    if costs is None:
        return {}
    rows = costs.get("rows")
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise CorruptCosts(path, "they have no rows")
    if not isinstance(costs.get("measured", {}), dict):
        raise CorruptCosts(path, "they do not say what was measured")
    return costs


def write_costs(
    path: Path, machine: str, rows: Mapping[str, Any], measured: Mapping[str, str] | None = None
) -> None:
    """Write the costs measured on a machine, and what of, with a checksum."""
    costs = {"machine": machine, "rows": rows}
    write_json(path, sealed({**costs, "measured": measured} if measured else costs))


def over_reference(rows: Mapping[str, Any], reference: str) -> dict[str, Any]:
    """The rows with their costs over those of a reference; none where it has no costs."""
    base = rows.get(reference, {})
    if not base.get("training") or not base.get("relative"):
        return {}
    return {
        label: {k: v / base[k] if k in ("relative", "training") else v for k, v in row.items()}
        for label, row in rows.items()
    }
