"""Where the papers of kdbench's own methods are found: no torch here."""

import json
from functools import cache
from importlib import resources

TABLE = "papers.json"


def builtin_address(key: str, title: str) -> str | None:
    """The address of the paper of a builtin method with a BibTeX key and a title, if it has one.

    A plan brings the addresses of its papers; the plans of the first reports do not. Another
    package's paper may have the same key, so the title is compared too.
    """
    found = _table().get(key)
    return found["address"] if found and found["title"] == title else None


@cache
def _table() -> dict[str, dict[str, str]]:
    """Title and address of each paper by key, from the table that `make methods` writes."""
    table = resources.files(__package__).joinpath(TABLE).read_text(encoding="utf-8")
    papers: dict[str, dict[str, str]] = json.loads(table)
    return papers
