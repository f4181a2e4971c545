"""The texts of methods from the registry, and where their papers are found."""

import inspect
import json
import textwrap
from dataclasses import asdict

from kdbench.methods import BUILTIN, METHODS
from kdbench.records.bounded import printable
from kdbench.records.method_text import MethodText


def method_text(key: str) -> MethodText:
    """The texts of a method, from its `title` and its docstring. Raises as the registry does."""
    kind = METHODS[key]
    documentation = printable(inspect.getdoc(kind) or "")
    summary = " ".join(documentation.split("\n\n")[0].split())
    _, _, formula = documentation.partition("\nFormula:\n")
    formula = textwrap.dedent(formula.split("\n\n")[0])
    return MethodText(printable(kind.title) or key, summary, formula)


def builtin_table() -> str:
    """`kdbench/records/methods.json`: the texts of all builtin methods by key."""
    table = {key: asdict(method_text(key)) for key in BUILTIN}
    return json.dumps(table, indent=1, ensure_ascii=False) + "\n"


def paper_table() -> str:
    """`kdbench/records/papers.json`: titles and addresses of the builtin methods' papers by key."""
    papers = {kind.paper.key: kind.paper for kind in BUILTIN.values() if kind.paper.address}
    table = {key: {"title": p.title, "address": p.address} for key, p in papers.items()}
    return json.dumps(table, indent=1, ensure_ascii=False) + "\n"
