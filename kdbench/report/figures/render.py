"""From a picture to its three files: SVG for a web page, PNG and PDF."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from xml.sax.saxutils import quoteattr

from kdbench.report.figures.style import INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
"""Resolution of the PNG."""

COLUMN_WIDTH, COLUMN_HEIGHT, COLUMN_TYPE = 3.5, 0.8, 7.0
"""Of a figure in a column of a paper: inches (252 points), the share of the page's height, and the
points of its type."""

METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""Entries that are left out of a file, because they say when or by what it was made."""

TAG = re.compile(r"<[^>]*>")
LONG_NUMBER = re.compile(r"-?\b\d+\.\d{3,}\b")


class Picture(Protocol):
    """What a figure shows, as plain numbers."""

    @property
    def title(self) -> str:
        """One or two sentences that say what is shown."""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""

    def draw(self, figure: "Figure") -> None:
        """Draw on an empty figure."""


@dataclass(frozen=True)
class Drawn:
    """All figures of a report by name, in three formats, with their titles. `svg` is meant to
    be embedded in a web page: it has the colour of the page's text and no background. `column`
    holds those that fit a column of a paper once more, as PDF of that width."""

    svg: Mapping[str, str]
    png: Mapping[str, bytes]
    pdf: Mapping[str, bytes]
    titles: Mapping[str, str]
    column: Mapping[str, bytes] = field(default_factory=dict)

    def files(self) -> dict[str, bytes]:
        """The contents of the PNG and PDF files by file name."""
        formats = {"png": self.png, "pdf": self.pdf}
        wide = {
            f"{name}.{suffix}": contents[name]
            for name in self.titles
            for suffix, contents in formats.items()
        }
        return wide | {f"{name}-column.pdf": content for name, content in self.column.items()}


def render_picture(name: str, picture: Picture) -> tuple[str, bytes, bytes]:
    """A picture as SVG, PNG and PDF. To be called within `styled`."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=picture.size, dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    picture.draw(figure)
    fix_layout(figure)
    with rc_context({"svg.hashsalt": f"kdbench {name}"}):
        svg = embeddable(_saved(figure, "svg", facecolor="none").decode(), name, picture.title)
    return svg, _saved(figure, "png", dpi=DPI), _saved(figure, "pdf")


def column_figure(picture: Picture) -> "Figure":
    """A picture as it is drawn for a column of a paper. To be called within `styled`."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    sizes: list[Any] = [
        "font.size", "xtick.labelsize", "ytick.labelsize", "legend.fontsize", "axes.labelsize",
        "axes.titlesize",
    ]  # fmt: skip
    with rc_context(dict.fromkeys(sizes, COLUMN_TYPE)):
        height = COLUMN_HEIGHT * picture.size[1]
        figure = Figure(figsize=(COLUMN_WIDTH, height), dpi=100, layout="constrained")
        FigureCanvasAgg(figure)
        picture.draw(figure)
        fix_layout(figure)
    for text in figure.findobj(Text):  # names beside points have a size of their own
        text.set_fontsize(COLUMN_TYPE)
    for axes in figure.axes:  # beside long names an axis may be shorter than its label
        if axes.xaxis.label.get_window_extent().x1 > figure.bbox.x1:
            axes.set_xlabel(axes.get_xlabel(), loc="right")
    return figure


def render_column(picture: Picture) -> bytes:
    """A picture as PDF for a column of a paper. To be called within `styled`."""
    return _saved(column_figure(picture), "pdf")


def fix_layout(figure: "Figure") -> None:
    """Lay the figure out once for all formats. Whatever is placed by pixels comes after it."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def _saved(figure: "Figure", suffix: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=suffix, metadata=METADATA[suffix], **options)
    return buffer.getvalue()


# -- SVG


def embeddable(svg: str, name: str, title: str) -> str:
    """An SVG for the inside of a web page: without header, metadata and style rules, in the
    colour of the page's text, with ids that are unique in the page, and never wider than
    its container."""
    body = svg[svg.index("<svg") :].strip()
    body = re.sub(r"\s*<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"\s*<defs>\s*<style[^>]*>[^<]*</style>\s*</defs>", "", body)
    body = TAG.sub(lambda tag: _adapted(tag.group(), name), body)
    attributes = (
        f' role="img" aria-label={quoteattr(title)} style="max-width: 100%; height: auto; '
        'stroke-linejoin: round; stroke-linecap: butt"'
    )
    return body.replace("<svg", f"<svg{attributes}", 1) + "\n"


def _adapted(tag: str, name: str) -> str:
    """A tag with shorter numbers, the page's colour and ids that begin with `name`."""
    if tag.startswith("<image"):  # nothing refers to its id, and equal images share one
        return re.sub(r' id="[^"]*"', "", tag)
    tag = LONG_NUMBER.sub(lambda number: f"{float(number.group()):.2f}", tag)
    tag = tag.replace(INK, "currentColor")
    tag = re.sub(r'\bid="', f'id="{name}-', tag)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", tag)
