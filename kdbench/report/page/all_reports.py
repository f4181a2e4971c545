"""The page over all reports of a folder: what each asks and answers, with a link."""

from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

from kdbench.records.bounded import MOST_TEXT, read_bounded
from kdbench.records.files import atomic_write
from kdbench.report.page.templates import environment, file_text

PAGE = "index.html"
TEMPLATE = "reports.html.jinja"
HEAD = "<nav"
"""What is before it in a page says what the report is about."""
LIST = '<main class="reports">'
"""What the page over all reports has, and no report."""


@dataclass(frozen=True)
class Entry:
    """A report: its folder's place, title, question and answer, the last two maybe empty."""

    folder: str
    title: str
    question: str
    answer: str


class _Head(HTMLParser):
    """The texts of a page's title, question and answer."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts = {"h1": "", "question": "", "answer": ""}
        self._part = ""
        self.feed(text.partition(HEAD)[0])

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        name = tag if tag == "h1" else dict(attributes).get("class") or ""
        self._part = name if tag in ("h1", "p") and name in self.texts else ""

    def handle_endtag(self, tag: str) -> None:
        self._part = ""

    def handle_data(self, data: str) -> None:
        if self._part:
            self.texts[self._part] += data


def write_all_reports(folder: Path) -> None:
    """Write `index.html` over the reports in a folder's folders, sorted by name. A folder of
    reports, as several settings have one, stands there with each of them. What cannot be read as a
    page is left out."""
    entries = _entries(folder, folder)
    text = (
        environment().get_template(TEMPLATE).render(entries=entries, style=file_text("style.css"))
    )
    atomic_write(folder / PAGE, text.encode())


def _entries(folder: Path, home: Path) -> list[Entry]:
    """The reports in the folders of `folder`, which is `home` or a folder in it."""
    entries = []
    for path in sorted(folder.glob(f"*/{PAGE}")):
        try:
            text = read_bounded(path, home, MOST_TEXT).decode()
        except (OSError, UnicodeDecodeError):
            continue
        if LIST in text.partition(HEAD)[0]:  # no deeper: a link may lead back to `home`
            entries += _entries(path.parent, home) if folder == home else []
            continue
        parts, place = _Head(text).texts, path.parent.relative_to(home).as_posix()
        entries.append(Entry(place, parts["h1"] or place, parts["question"], parts["answer"]))
    return entries
