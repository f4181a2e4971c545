"""JSON on the terminal: results as plain values, with null where a number is not finite."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any


def print_json(value: object) -> None:
    """Print `value` as JSON, indented, on standard output."""
    print(json.dumps(plain_value(value), indent=2, ensure_ascii=False, allow_nan=False))


def plain_value(value: Any) -> Any:
    """`value` as what JSON can hold.

    A data class becomes an object of its fields, a DataFrame a list of rows, a NumPy scalar a
    number, a path a string, and NaN, NaT and infinities null. Raises `TypeError` for the rest.
    """
    if isinstance(value, float):  # np.float64 too
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(inner) for inner in value]
    if is_dataclass(value):
        return {f.name: plain_value(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "to_dict"):  # a DataFrame
        return plain_value(value.to_dict("records"))
    if hasattr(value, "item"):  # a NumPy scalar
        return plain_value(value.item())
    if value != value:  # pandas' NaT
        return None
    raise TypeError(f"no JSON for a {type(value).__name__}")
