"""The mark that a method has in the figures, for the table of the page."""

import numpy as np
from markupsafe import Markup

from kdbench.report.figures.style import INK, Mark

SIZE = 12
"""Pixels."""


def mark_svg(mark: Mark) -> Markup:
    """The mark as a small picture that a screen reader passes over."""
    from matplotlib.markers import MarkerStyle
    from matplotlib.transforms import Affine2D

    style = MarkerStyle(mark.marker)
    outline = style.get_path().transformed(style.get_transform() + Affine2D().scale(0.8 * SIZE))
    # Upwards is positive in a figure, downwards in a page.
    lines = [
        "M" + "L".join(f"{x:.1f} {-y:.1f}" for x, y in np.asarray(polygon).tolist())
        for polygon in outline.to_polygons(closed_only=False)
    ]
    colour = "currentColor" if mark.colour == INK else mark.colour
    half = SIZE / 2
    return Markup(
        '<svg class="mark" viewBox="{0:g} {0:g} {1} {1}" width="{1}" height="{1}" '
        'aria-hidden="true"><path d="{2}" fill="{3}"/></svg>'
    ).format(-half, SIZE, "".join(lines), colour)
