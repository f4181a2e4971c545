"""One drawing, three forms."""

import io
from typing import TYPE_CHECKING, Any

from kdbench.report.figures.svg import inline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kdbench.report.figures.drawn import Picture

DPI = 150
"""Of the PNG."""

UNDATED: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""Neither when a file was made nor by what."""


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
