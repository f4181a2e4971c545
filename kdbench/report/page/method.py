"""What the panel of a row says of its method: one sentence, the formula, the paper with a link."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

from markupsafe import Markup

from kdbench.records.plan_file import PlanFile
from kdbench.records.titles import method_text
from kdbench.report.page.formula import to_mathml

ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
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
    paper = plan.references.get(cite or "")
    return MethodPanel(
        text.summary if text else "",
        to_mathml(text.formula) if text else Markup(),
        f"{paper['title']}. {paper['venue']}, {paper['year']}".translate(BRACES) if paper else "",
        paper_link(paper) if paper else "",
    )


BRACES = str.maketrans("", "", "{}")
"""Braces keep a word's capitals in BibTeX."""


def paper_link(paper: Mapping[str, Any]) -> str:
    """The address of a paper, given or from its arXiv number; else a search for its title."""
    if paper.get("url"):
        return str(paper["url"])
    if number := ARXIV.search(str(paper["venue"])):
        return f"https://arxiv.org/abs/{number[1]}"
    return SEARCH + quote_plus(str(paper["title"]).translate(BRACES))
