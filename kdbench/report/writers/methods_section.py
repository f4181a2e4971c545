"""The methods section of a paper: how a study was done, as a paragraph of LaTeX."""

from collections.abc import Iterable

import pandas as pd

from kdbench.records.plan_file import PlanData, PlanFile, PlanRow
from kdbench.records.titles import title_of
from kdbench.report.data.runs import PUBLISHED, TEACHER
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.rows import hparams_text
from kdbench.report.text.context import Sentence, count
from kdbench.report.writers.latex import escape
from kdbench.stats.analysis import CITATION

TOPICS = (
    *("scores", "tuning", "test", "looks", "equality", "detectable", "taken", "teacher"),
    *("origin", "software"),
)
"""The captions that the paragraph takes over from the table, by topic."""

NOT_IN_LATEX = (*TOPICS, "data", "descriptive")
"""The captions that LaTeX tables leave out: the paragraph says them too, or they are of columns
that the tables do not have."""


def paragraph(board: Leaderboard, plan: PlanFile) -> str:
    """The paragraph, with one sentence on each line. It cites only references of the plan, and
    leaves out what the plan does not contain (external results)."""
    captions = {s.topic: _with_article(s) for s in board.captions if isinstance(s, Sentence)}
    hashed = "the study file" if plan.data else "the results"
    sentences = [
        _methods(board, plan),
        *_incompatible(plan),
        _data(plan),
        _models(board.table, plan),
        _recipe(plan),
        *(_caption(captions[topic], board, plan) for topic in TOPICS if topic in captions),
        escape(f"The hash of {hashed} is {plan.hash}.") if plan.hash else "",
    ]
    head = f"% how the study {escape(board.study)} was done; the keys are in references.bib"
    # Names of hyperparameters and checksums do not break: lines may be loose, not too long.
    body = [r"\begin{sloppypar}", *(s for s in sentences if s), r"\end{sloppypar}"]
    return "\n".join([head, *body]) + "\n"


def _with_article(sentence: Sentence) -> Sentence:
    """A caption as a sentence of prose: one of them lacks an article at its beginning."""
    if sentence.topic != "detectable":
        return sentence
    return Sentence(f"The {sentence[0].lower()}{sentence[1:]}", sentence.topic)


def _caption(caption: Sentence, board: Leaderboard, plan: PlanFile) -> str:
    """A caption as LaTeX, citing the paper of the test where it is named. The first sentence of
    the paragraph has named the reference."""
    text: str = caption
    if caption.topic == "test":
        text = text.replace(f"against {board.reference},", "against the reference,", 1)
    return _cited("Smyth 2004", CITATION, plan).join(map(escape, text.split("Smyth 2004")))


def _cited(text: str, key: str | None, plan: PlanFile) -> str:
    """`text` as LaTeX, with its citation where the plan has the reference."""
    citable = key is not None and key in plan.references
    return rf"{escape(text)}~\cite{{{key}}}" if citable else escape(text)


def _joined(parts: Iterable[str]) -> str:
    *rest, last = parts
    return f"{', '.join(rest)} and {last}" if rest else last


# -- the methods


def _methods(board: Leaderboard, plan: PlanFile) -> str:
    rows = {label: _primary(rows) for label, rows in _by_label(plan).items()}
    others = [_method(row, plan) for k, row in rows.items() if k != board.reference and _ran(row)]
    reference = f"{_method(rows[board.reference], plan)}, the reference"
    if not others:
        return f"The study {escape(board.study)} trains {_method(rows[board.reference], plan)}."
    return f"The study {escape(board.study)} compares {_joined(others)} with {reference}."


def _by_label(plan: PlanFile) -> dict[str, list[PlanRow]]:
    by_label: dict[str, list[PlanRow]] = {}
    for row in plan.rows:
        by_label.setdefault(row.label, []).append(row)
    return by_label


def _primary(rows: list[PlanRow]) -> PlanRow:
    """The first row with runs, if the method has any."""
    return next((row for row in rows if _ran(row)), rows[0])


def _ran(row: PlanRow) -> bool:
    return bool(row.runs) or not row.incompatible


def _method(row: PlanRow, plan: PlanFile) -> str:
    text = _cited(title_of(plan, row.label), row.cite, plan)
    set_by_hand = row.row in ("pinned", "only") and row.hparams
    return f"{text} ({escape(hparams_text(row))})" if set_by_hand else text


def _incompatible(plan: PlanFile) -> Iterable[str]:
    for label, rows in _by_label(plan).items():
        if not any(map(_ran, rows)):
            method = _cited(title_of(plan, label), rows[0].cite, plan)
            yield f"{method} could not be compared: {escape(str(rows[0].incompatible))}."


# -- data, models and training


def _data(plan: PlanFile) -> str:
    data = plan.data
    if data is None:
        return ""
    facts = []
    if data.images:
        shape = "x".join(map(str, data.shape))
        facts.append(count(data.images, "training image") + (shape and f" of {shape} values"))
    if data.classes:
        facts.append(count(len(data.classes), "class", "classes"))
    if data.checksum:
        facts.append(f"checksum {data.checksum[:12]}")
    text = f"The data set is {_cited(data.name, plan.cites.get('data'), plan)}"
    in_brackets = f" ({escape(', '.join(facts))})" if facts else ""
    return f"{text}{in_brackets}{escape(_parts(data))}."


def _parts(data: PlanData) -> str:
    """Which images are held out, which are trained on, and with which augmentation."""
    held = data.validation
    text = f"; validation holds out {count(held, 'image')}, stratified by class" if held else ""
    if data.train_on:
        part = "all training images" if data.train_on == "all" else "the other training images"
        text += f"; the final runs train on {part}"
    if data.labelled:
        teacher = "all of them" if data.teacher_labelled else "the same ones"
        text += (
            f"; {count(data.labelled, 'image')}, stratified by class, keep their labels (the "
            f"teacher has {teacher}), and each step has {data.unlabelled} images without a label "
            "for each of those with one"
        )
    return text + ("" if data.augment == "none" else f", augmented by {data.augment}")


def _models(table: pd.DataFrame, plan: PlanFile) -> str:
    models = plan.models
    keys = plan.cites.get("models") or {}
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
    # A teacher's row has its own size here, and a student with a head is larger than most.
    sizes = rows["student_parameters"].mode()
    return f" ({count(int(sizes.iloc[0]), 'parameter')})" if len(sizes) else ""


def _recipe(plan: PlanFile) -> str:
    recipe = plan.recipe
    if recipe is None:
        return ""
    tuned = any("recipe.lr" in (row.searched) for row in plan.rows)
    rate = f"learning rate {recipe.lr:g}{' unless tuned' if tuned else ''}"
    details = [rate, f"{recipe.schedule} schedule"]
    if recipe.milestones:
        shares = ", ".join(f"{100 * m:g} %" for m in recipe.milestones)
        details[1] += f" (times {recipe.gamma:g} after {shares} of the epochs)"
    if recipe.warmup:
        details[1] += f" after a warm-up of {count(recipe.warmup, 'epoch')}"
    values = {
        "Nesterov momentum" if recipe.nesterov else "momentum": recipe.momentum,
        "weight decay": recipe.weight_decay,
        "gradients clipped at norm": recipe.clip,
        "label smoothing": recipe.label_smoothing,
        "a running mean of the weights with decay": recipe.ema,
        "mixup with alpha": recipe.mixup,
        "CutMix with alpha": recipe.cutmix,
        "random erasing with probability": recipe.erasing,
    }
    details += [f"{name} {value:g}" for name, value in values.items() if value]
    if recipe.augment != "none":
        details.append(f"images changed by {recipe.augment}")
    if recipe.class_weights != "none":
        details.append(f"{recipe.class_weights} class weights")
    details.append("; ".join([recipe.precision, *_other_precisions(plan)]))
    return escape(
        f"Networks are trained for {count(recipe.epochs, 'epoch')} in batches of "
        f"{recipe.batch} with {recipe.optimizer} ({', '.join(details)})."
    )


def _other_precisions(plan: PlanFile) -> Iterable[str]:
    """Which methods are trained in another precision than the recipe's."""
    labels: dict[str, list[str]] = {}
    for label, (row, *_) in _by_label(plan).items():
        if row.precision:
            labels.setdefault(row.precision, []).append(label)
    for precision, alike in labels.items():
        yield f"{_joined(alike)} in {precision}"
