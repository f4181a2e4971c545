"""Where a method, a model or a data set comes from: what its BibTeX entry needs."""

import re
from dataclasses import dataclass

#: BibTeX's entry types, and the field that holds the venue of each.
KINDS = {
    "article": "journal",
    "inproceedings": "booktitle",
    "misc": "howpublished",
    "phdthesis": "school",
    "techreport": "institution",
}

#: What a citation key may look like: it is written into LaTeX as it stands.
KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._/+-]{0,63}")


@dataclass(frozen=True)
class Paper:
    """A source. `key` is its BibTeX key, `authors` as BibTeX wants them (`Last, First and
    Last, First`, an institution in braces); title and venue are plain text, not LaTeX.
    `kind` is one of `KINDS`; `url` is for what is hard to find without.

    Raises `ValueError` where no BibTeX entry could be made of it.
    """

    key: str
    authors: str
    title: str
    venue: str
    year: int
    kind: str = "inproceedings"
    url: str | None = None

    def __post_init__(self) -> None:
        if not KEY.fullmatch(self.key):
            raise ValueError(f"{self.key!r} is no BibTeX key")
        if self.kind not in KINDS:
            raise ValueError(f"{self.key}: unknown kind {self.kind!r}; known: {', '.join(KINDS)}")
        if not balanced(self.authors):
            raise ValueError(f"{self.key}: the braces of its authors do not pair up")


def balanced(text: str) -> bool:
    """Whether every brace has its partner."""
    depth = 0
    for char in text:
        depth += {"{": 1, "}": -1}.get(char, 0)
        if depth < 0:
            return False
    return depth == 0
