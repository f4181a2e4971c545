"""A text file with delimiters, as W&B, MLflow, pandas and spreadsheets write it, as rows of texts.

Encoding, separator and names of columns are found where they are certain; otherwise there is
one `WrongResults` that says what is wrong and where. The standard library's `csv` reads the
rows, since it knows the line of each, which pandas does not tell.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdbench.errors import KdbenchError

REQUIRED = ("method", "setting", "seed", "score")
ALLOWED = (*REQUIRED, "cost")
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
#: Byte order marks, the longer ones first: that of UTF-32 begins like that of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
#: The header of an index that pandas wrote, or wrote and read and wrote again.
INDEX = re.compile(r"|index|level_\d+|unnamed: [\d.]+", re.IGNORECASE)
#: Bytes of a file: a million rows.
MOST_BYTES = 64 << 20


class WrongResults(KdbenchError):
    """A file of results that cannot be read; the message lists its wrong rows."""


@dataclass(frozen=True)
class Row:
    """The texts of a row by column, those of `ALLOWED` that the file has, and its line. `wrong`
    says what is wrong with the number of its cells."""

    line: int
    cells: Mapping[str, str]
    wrong: str = ""


@dataclass(frozen=True)
class Rows:
    """The rows of a file, and the separator of its cells."""

    rows: tuple[Row, ...]
    separator: str


def read_rows(path: Path, columns: Mapping[str, str], setting: str) -> Rows:
    """The rows of a file. `columns` gives the file's own name for some of `ALLOWED`; `setting`
    is the setting of all rows where the file has no such column.

    Raises `WrongResults`.
    """
    text = _text(path)
    separator = _separator(path, text)
    lines = _records(path, text, separator)
    first, header = next(lines, (1, []))
    header = [name.strip() for name in header]
    places, faults = _places(header, columns, setting)
    if faults:
        faults.append(f"the columns are {', '.join(map(repr, header)) or 'none'}")
        raise WrongResults(listing(path, [f"line {first}: {fault}" for fault in faults]))
    rows = []
    ignored = [k for k, name in enumerate(header) if INDEX.fullmatch(name)]
    for line, cells in lines:
        if not any(cell.strip() for k, cell in enumerate(cells) if k not in ignored):
            continue
        more = len(cells) - len(header)
        wrong = f"{abs(more)} {'more' if more > 0 else 'fewer'} cells than the header has columns"
        cells += [""] * -more
        texts = {column: cells[place].strip() for column, place in places.items()}
        rows.append(Row(line, {"setting": setting, **texts}, wrong if more else ""))
    return Rows(tuple(rows), separator)


def listing(path: Path, faults: Sequence[str], most: int = 20) -> str:
    """A message with the first faults of a file, a line each, and how many more there are."""
    more = [f"  ... and {len(faults) - most} more"] if len(faults) > most else []
    return "\n".join([f"{path}: wrong rows", *(f"  {fault}" for fault in faults[:most]), *more])


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise WrongResults(f"{path}: there is no such file") from None
    except OSError as error:
        raise WrongResults(f"{path}: not readable as CSV: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise WrongResults(f"{path}: not readable as CSV: more than {MOST_BYTES:,} bytes")
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise WrongResults(
            f"{path}: not readable as CSV: line {line}: byte 0x{content[error.start]:02x} is not "
            f"{encoding.upper()}: save the file as UTF-8"
        ) from None
    if "\0" in text:
        raise WrongResults(
            f"{path}: not readable as CSV: it holds null characters: is it UTF-16 without a byte "
            "order mark? Save it as UTF-8"
        )
    return text


def _separator(path: Path, text: str) -> str:
    """What separates the names in the header. Raises `WrongResults` where that is not certain."""
    lines = enumerate(_uncommented(text), start=1)
    line, header = next(((n, line) for n, line in lines if line.strip()), (1, ""))
    unquoted = re.sub(r'"[^"]*"', "", header)
    found = [separator for separator in SEPARATORS if separator in unquoted]
    if len(found) > 1:
        names = " and ".join(SEPARATORS[separator] for separator in found)
        raise WrongResults(
            f"{path}: line {line}: {names} both stand in the header {header.strip()!r}: put names "
            "that hold one of them in quotes"
        )
    return found[0] if found else ","


def _uncommented(text: str) -> Iterator[str]:
    """The lines with their ends, comments made empty. Within quotes no line is a comment."""
    quoted = False
    for line in io.StringIO(text, newline=""):
        if not quoted and line.lstrip().startswith("#"):
            yield "\n"
            continue
        quoted ^= line.count('"') % 2 == 1
        yield line


def _records(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The number of the first line, and the cells, of each row that is not empty."""
    reader = csv.reader(_uncommented(text), delimiter=separator, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise WrongResults(f"{path}: not readable as CSV: line {line}: {error}") from None
        if cells:
            yield line, cells


def _places(
    header: Sequence[str], columns: Mapping[str, str], setting: str
) -> tuple[dict[str, int], list[str]]:
    """Where each column stands, and what is wrong with the header."""
    faults, places = [], {}
    for column in ALLOWED:
        wanted = columns.get(column, column)
        near = [k for k, name in enumerate(header) if name.casefold() == wanted.casefold()]
        same = [k for k in near if header[k] == wanted]
        found = same if column in columns and same else near
        if len(found) > 1:
            names = " and ".join(repr(header[k]) for k in found)
            faults.append(f"the columns {names} are all the {column}")
        elif found:
            places[column] = found[0]
        elif column in columns:
            faults.append(f"there is no column {wanted!r} for the {column}")
        elif column in REQUIRED and not (column == "setting" and setting):
            faults.append(f"the column {column!r} is missing{_hint(column)}")
    if setting and "setting" in places:
        faults.append("there is a column for the setting, so --setting has no place")
    if not columns:  # without --map a column of another name is a mistake
        known = {*places.values(), *(k for k, name in enumerate(header) if INDEX.fullmatch(name))}
        faults += [
            f"the column {name!r} is unknown; there are {', '.join(ALLOWED)} (--map "
            "score=COLUMN uses another and ignores the rest)"
            for k, name in enumerate(header)
            if k not in known and name.casefold() not in ALLOWED
        ]
    return places, faults


def _hint(column: str) -> str:
    if column == "setting":
        return "; name the setting of all rows with --setting NAME"
    return f"; name the file's own with --map {column}=COLUMN"
