"""The papers that a report cites, as BibTeX."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from kdbench.records.plan_file import PlanFile
from kdbench.registry import KINDS
from kdbench.report.writers.latex import SPECIAL

#: Combining marks and their LaTeX commands.
MARKS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u",
    "\u0307": ".", "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c",
    "\u0328": "k",
}  # fmt: skip
#: BibTeX counts braces also behind a backslash.
ESCAPED = SPECIAL | {"{": r"\textbraceleft{}", "}": r"\textbraceright{}"}
LETTERS = {"ß": "ss", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "æ": "ae", "Æ": "AE", "ı": "i"}


def to_bibtex(plan: PlanFile) -> str:
    """The plan's references, sorted by key; empty if it has none."""
    references = plan.references
    return "\n".join(_entry(key, references[key]) for key in sorted(references))


def _entry(key: str, paper: Mapping[str, Any]) -> str:
    fields = {
        # Braces keep an institution's name together, so they are not escaped.
        "author": "".join(c if c in "{}" else _text(c) for c in paper["authors"]),
        "title": protect(_text(paper["title"])),
        KINDS[paper["kind"]]: _text(paper["venue"]),
        "year": str(paper["year"]),
    }
    if paper.get("url"):
        fields["url"] = paper["url"]
    number = paper.get("arxiv")
    if number and number not in paper["venue"]:  # else it would be printed twice
        fields |= {"eprint": number, "archivePrefix": "arXiv"}
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
    return f"@{paper['kind']}{{{key},\n{lines}}}\n"


def protect(title: str) -> str:
    """A title with braces around words that have a capital inside, since BibTeX styles write
    titles in lower case."""
    return re.sub(r"[^\s{}:;,.?!()]*[A-Za-z0-9][A-Z][^\s{}:;,.?!()]*", r"{\g<0>}", title)


def _text(text: str) -> str:
    """Text escaped for LaTeX, in ASCII where LaTeX has a command: BibTeX reads bytes, and
    would split a letter when it shortens a first name."""
    return "".join(ESCAPED.get(c) or _letter(c) for c in unicodedata.normalize("NFC", text))


def _letter(char: str) -> str:
    if char in LETTERS:
        return f"{{\\{LETTERS[char]}}}"
    plain, *marks = list(unicodedata.normalize("NFD", char))
    if len(marks) != 1 or marks[0] not in MARKS:
        return " " if char.isspace() else char
    base = "\\i" if plain == "i" else plain  # an i without its dot
    return f"{{\\{MARKS[marks[0]]}{{{base}}}}}"
