"""What a method is called and what it says of itself, for tables and pages: no torch here."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

TABLE = "methods.json"


@dataclass(frozen=True)
class MethodText:
    """`title` is the method's display name, `summary` one sentence on what the student learns
    from, `formula` its loss in lines of plain text; the last two are empty where a plug-in's
    docstring has none."""

    title: str
    summary: str = ""
    formula: str = ""


@cache
def builtin_texts() -> dict[str, MethodText]:
    """The texts of kdbench's own methods by key, from the table that `make docs` writes.

    A plan brings those of its methods; the plans of the first reports do not.
    """
    table = resources.files(__package__).joinpath(TABLE).read_text(encoding="utf-8")
    return {key: MethodText(**fields) for key, fields in json.loads(table).items()}
