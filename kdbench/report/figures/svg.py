"""From matplotlib's SVG file to a piece of a web page."""

import re
from xml.sax.saxutils import quoteattr

from kdbench.report.figures.style import INK

TAG = re.compile(r"<[^>]*>")
"""Matplotlib writes < and > as entities in texts and attributes, so this finds tags only."""

LONG = re.compile(r"-?\b\d+\.\d{3,}\b")
"""Numbers with more digits than anyone sees."""


def inline(svg: str, name: str, title: str) -> str:
    """Without header, metadata and rules for the whole page; in the colour of the page's
    text; with ids that no other figure of the page has; no wider than its place."""
    body = svg[svg.index("<svg") :].strip()
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"\s*<defs>\s*<style[^>]*>[^<]*</style>\s*</defs>", "", body)
    body = TAG.sub(lambda tag: _own(tag.group(), name), body)
    about = (
        f' role="img" aria-label={quoteattr(title)} style="max-width: 100%; height: auto; '
        'stroke-linejoin: round; stroke-linecap: butt"'
    )
    return body.replace("<svg", f"<svg{about}", 1) + "\n"


def _own(tag: str, name: str) -> str:
    if tag.startswith("<image"):  # placed by a matrix; two equal ones have one id, of no use
        return re.sub(r' id="[^"]*"', "", tag)
    tag = LONG.sub(lambda number: f"{float(number.group()):.2f}", tag)
    tag = tag.replace(INK, "currentColor")
    tag = re.sub(r'\bid="', f'id="{name}-', tag)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", tag)
