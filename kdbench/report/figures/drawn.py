"""What a figure is before it is drawn, and after."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
