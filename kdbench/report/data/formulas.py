"""Texts that a spreadsheet would take for formulas, in CSV files.

`=HYPERLINK(...)` as a method's name would be computed when the file is opened. An apostrophe
before it makes it a text for spreadsheets; reading takes the apostrophe off again. Numbers are
left alone, so that -0.5 remains a number.
"""

import re
from collections.abc import Callable

import pandas as pd

#: What begins like a formula, in any width, or like one that has been escaped.
FORMULA = re.compile(r"'*[=+\-@\t\r＝＋－＠]")


def escape_formula(text: str) -> str:
    """The text with an apostrophe before it where it would be a formula."""
    return f"'{text}" if FORMULA.match(text) else text


def unescape_formula(text: str) -> str:
    """The text that `escape_formula` was given."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def escape_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with every text escaped."""
    return _texts(frame, escape_formula)


def unescape_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame that `escape_formulas` was given."""
    return _texts(frame, unescape_formula)


def _texts(frame: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    changed = {}
    for name in frame.columns:
        # Only texts can begin like that: FORMULA is matched once for each text there is.
        texts = {v for v in frame[name].unique() if isinstance(v, str) and FORMULA.match(v)}
        if texts and frame[name].dtype.kind not in "iufb":
            changed[name] = frame[name].replace({text: change(text) for text in texts})
    return frame.assign(**changed)
