"""One drawing, three forms."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from xml.sax.saxutils import quoteattr

from kdbench.report.figures.style import INK

if TYPE_CHECKING:
    from matplotlib.figure import Figure


DPI = 150
"""Of the PNG."""

UNDATED: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""Neither when a file was made nor by what."""


TAG = re.compile(r"<[^>]*>")
LONG = re.compile(r"-?\b\d+\.\d{3,}\b")


def render(name: str, picture: "Picture") -> tuple[str, bytes, bytes]:
    """A picture as SVG for a web page, PNG and PDF. To be called within `styled`."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=picture.size, dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    picture.draw(figure)
    settle(figure)
    with rc_context({"svg.hashsalt": f"kdbench {name}"}):
        svg = inline(_saved(figure, "svg", facecolor="none").decode(), name, picture.title)
    return svg, _saved(figure, "png", dpi=DPI), _saved(figure, "pdf")


def settle(figure: "Figure") -> None:
    """Lay the figure out, once for all forms. What is placed by hand comes after this."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def _saved(figure: "Figure", form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, metadata=UNDATED[form], **options)
    return buffer.getvalue()


class Picture(Protocol):
    """What a figure shows, as plain numbers."""

    @property
    def title(self) -> str:
        """One sentence that says what is shown, or two."""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""

    def draw(self, figure: "Figure") -> None:
        """Put it on an empty figure."""


@dataclass(frozen=True)
class Drawn:
    """All figures of a report by name, in three forms. `svg` is for the inside of a web
    page: it takes the colour of the page's text and has no background. `titles` say what
    is shown."""

    svg: Mapping[str, str]
    png: Mapping[str, bytes]
    pdf: Mapping[str, bytes]
    titles: Mapping[str, str]

    def files(self) -> dict[str, bytes]:
        """What to write, by file name."""
        forms = {"png": self.png, "pdf": self.pdf}
        return {f"{name}.{form}": by[name] for name in self.titles for form, by in forms.items()}


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
