"""What the panel of a row says of its method: one sentence, the formula, the paper with a link."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

from markupsafe import Markup

from kdbench.records.papers import builtin_address
from kdbench.records.plan_file import PlanFile
from kdbench.records.titles import method_text
from kdbench.registry import ARXIV, arxiv_page
from kdbench.report.page.formula import to_mathml

IN_VENUE = re.compile(f"arXiv:({ARXIV})")
SEARCH = "https://scholar.google.com/scholar?q="


@dataclass(frozen=True)
class MethodPanel:
    """All texts may be empty; `link` is where the paper is found."""

    summary: str
    formula: Markup
    paper: str
    link: str


def method_panel(plan: PlanFile, label: str, cite: str | None) -> MethodPanel:
    """The panel of the rows with a label, whose paper has the key `cite`."""
    text = method_text(plan, label)
    key = cite or ""
    paper = plan.references.get(key)
    return MethodPanel(
        text.summary if text else "",
        to_mathml(text.formula) if text else Markup(),
        f"{paper['title']}. {paper['venue']}, {paper['year']}".translate(BRACES) if paper else "",
        paper_link(key, paper) if paper else "",
    )


BRACES = str.maketrans("", "", "{}")
"""Braces keep a word's capitals in BibTeX."""


def paper_link(key: str, paper: Mapping[str, Any]) -> str:
    """The address of a paper of a plan: its own, that of its arXiv number, or the one that kdbench
    knows of the paper with that key and title; else a search for its title."""
    if paper.get("url"):
        return str(paper["url"])
    if paper.get("arxiv"):
        return arxiv_page(str(paper["arxiv"]))
    if number := IN_VENUE.search(str(paper["venue"])):
        return arxiv_page(number[1])
    title = str(paper["title"])
    return builtin_address(key, title) or SEARCH + quote_plus(title.translate(BRACES))
