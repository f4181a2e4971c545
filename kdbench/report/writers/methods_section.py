"""The methods section of a paper: how a study was done, as a paragraph of LaTeX."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from kdbench.report.data.runs import PUBLISHED, TEACHER
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.rows import hparams_text
from kdbench.report.text.context import Sentence, count
from kdbench.report.writers.latex import escape

TOPICS = ("scores", "tuning", "test", "equality", "detectable", "teacher", "origin")
"""The captions that the paragraph takes over from the table, by topic."""


def paragraph(board: Leaderboard, plan: Mapping[str, Any]) -> str:
    """The paragraph, with one sentence on each line. It cites only references of the plan, and
    leaves out what the plan does not contain (results made elsewhere)."""
    captions = {s.topic: _with_article(s) for s in board.captions if isinstance(s, Sentence)}
    sentences = [
        _methods(board, plan),
        *_incompatible(plan),
        _data(plan),
        _models(board.table, plan),
        _recipe(plan),
        *(escape(captions[topic]) for topic in TOPICS if topic in captions),
        escape(f"The hash of the study file is {plan['hash']}.") if plan.get("hash") else "",
    ]
    head = f"% how the study {escape(board.study)} was done; the keys are in references.bib"
    return "\n".join([head, *(s for s in sentences if s)]) + "\n"


def _with_article(sentence: Sentence) -> str:
    """A caption as a sentence of prose: one of them lacks an article at its beginning."""
    detectable = sentence.topic == "detectable"
    return f"The {sentence[0].lower()}{sentence[1:]}" if detectable else sentence


def _cited(text: str, key: str | None, plan: Mapping[str, Any]) -> str:
    """`text` as LaTeX, with its citation where the plan has the reference."""
    citable = key is not None and key in (plan.get("references") or {})
    return rf"{escape(text)}~\cite{{{key}}}" if citable else escape(text)


def _joined(parts: Iterable[str]) -> str:
    *rest, last = parts
    return f"{', '.join(rest)} and {last}" if rest else last


# -- the methods


def _methods(board: Leaderboard, plan: Mapping[str, Any]) -> str:
    rows = {label: _primary(rows) for label, rows in _by_label(plan).items()}
    others = [_method(row, plan) for k, row in rows.items() if k != board.reference and _ran(row)]
    reference = _method(rows[board.reference], plan)
    if not others:
        return f"The study {escape(board.study)} trains {reference}."
    return f"The study {escape(board.study)} compares {_joined(others)} with {reference}."


def _by_label(plan: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    by_label: dict[str, list[Mapping[str, Any]]] = {}
    for row in plan["rows"]:
        by_label.setdefault(str(row["label"]), []).append(row)
    return by_label


def _primary(rows: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The first row with runs, if the method has any."""
    return next((row for row in rows if _ran(row)), rows[0])


def _ran(row: Mapping[str, Any]) -> bool:
    return bool(row["runs"]) or not row.get("incompatible")


def _method(row: Mapping[str, Any], plan: Mapping[str, Any]) -> str:
    text = _cited(str(row["label"]), row.get("cite"), plan)
    if row["row"] != "pinned":
        return text
    name = "" if row["label"] == row["method"] else f"{row['method']} with "
    return f"{text} ({escape(name + hparams_text(row))})"


def _incompatible(plan: Mapping[str, Any]) -> Iterable[str]:
    for label, rows in _by_label(plan).items():
        if not any(map(_ran, rows)):
            method = _cited(label, rows[0].get("cite"), plan)
            yield f"{method} could not be compared: {escape(str(rows[0]['incompatible']))}."


# -- data, models and training


def _data(plan: Mapping[str, Any]) -> str:
    data = plan.get("data") or {}
    if not data.get("name"):
        return ""
    facts = []
    if data.get("images"):
        shape = "x".join(map(str, data.get("shape") or ()))
        facts.append(count(data["images"], "training image") + (shape and f" of {shape} values"))
    if data.get("classes"):
        facts.append(count(len(data["classes"]), "class", "classes"))
    if data.get("checksum"):
        facts.append(f"checksum {data['checksum'][:12]}")
    text = f"The data set is {_cited(data['name'], (plan.get('cites') or {}).get('data'), plan)}"
    in_brackets = f" ({escape(', '.join(facts))})" if facts else ""
    return f"{text}{in_brackets}{escape(_parts(data))}."


def _parts(data: Mapping[str, Any]) -> str:
    """Which images are held out, which are trained on, and with which augmentation."""
    held = data.get("validation")
    text = f"; validation holds out {count(held, 'image')}, stratified by class" if held else ""
    if data.get("train_on"):
        part = "all training images" if data["train_on"] == "all" else "the other training images"
        text += f"; the final runs train on {part}"
    augment = data.get("augment", "none")
    return text + ("" if augment == "none" else f", augmented by {augment}")


def _models(table: pd.DataFrame, plan: Mapping[str, Any]) -> str:
    models = plan.get("models") or {}
    keys = (plan.get("cites") or {}).get("models") or {}
    others = [_cited(name, key, plan) for name, key in keys.items() if name not in models.values()]
    parts = [
        f"the {role} is {_cited(name, keys.get(name), plan)}{_size(table, role == TEACHER)}"
        for role, name in sorted(models.items())
    ]
    if others:
        parts.append(f"methods that need further networks use {_joined(others)}")
    text = _joined(parts) if parts else ""
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _size(table: pd.DataFrame, teacher: bool) -> str:
    is_teacher = table["row"] == TEACHER
    rows = table[is_teacher if teacher else ~is_teacher & (table["row"] != PUBLISHED)]
    sizes = rows["student_parameters"].dropna()  # a teacher's row has its own size here
    return f" ({count(int(sizes.iloc[0]), 'parameter')})" if len(sizes) else ""


def _recipe(plan: Mapping[str, Any]) -> str:
    recipe = plan.get("recipe") or {}
    if not recipe.get("epochs"):
        return ""
    tuned = any("recipe.lr" in (row.get("searched") or ()) for row in plan["rows"])
    rate = f"learning rate {recipe['lr']:g}{' unless tuned' if tuned else ''}"
    details = [rate, f"{recipe['schedule']} schedule"]
    if recipe.get("milestones"):
        shares = ", ".join(f"{100 * m:g} %" for m in recipe["milestones"])
        details[1] += f" (times {recipe['gamma']:g} after {shares} of the epochs)"
    for key in ("momentum", "weight_decay"):
        if recipe.get(key):
            details.append(f"{key.replace('_', ' ')} {recipe[key]:g}")
    details.append(recipe["precision"])
    return escape(
        f"Networks are trained for {count(recipe['epochs'], 'epoch')} in batches of "
        f"{recipe['batch']} with {recipe['optimizer']} ({', '.join(details)})."
    )
