"""What a reader must be told, in words made from the objects that did the computation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from kdbench.report.frame import TEACHER, Plan
from kdbench.stats import BestSet, Family

if TYPE_CHECKING:
    from kdbench.report.board import Line


@dataclass(frozen=True)
class Context:
    """All that the sentences are made from. `image` is what one test image is worth, in
    percentage points, or 0 where the size of the test set is not known."""

    plan: Plan
    frame: pd.DataFrame
    lines: "Sequence[Line]"
    mains: "Mapping[str, Line]"
    family: Family
    best: BestSet
    image: float
    second: str | None
    incomplete: bool
    cost: Mapping[str, Any]


def captions(context: Context) -> tuple[str, ...]:
    """How the table was made."""
    made = (
        _scores(context), _test(context), _equality(context), _bold(context),
        _detectable(context), _tuning(context), _teacher(context), _provenance(context),
        _measured(context),
    )  # fmt: skip
    return tuple(sentence for sentence in made if sentence)


def _scores(context: Context) -> str:
    analysis = context.family.analysis
    rule = {"last": "the last epoch", "best": "the epoch of best validation accuracy"}
    seeds = sorted({int(s) for line in context.lines for s in line.plan["runs"]})
    said = ", ".join(map(str, seeds))
    return (
        f"Test accuracy in %, mean over {_count(len(seeds), 'seed')} ({said}) of the weights of "
        f"{rule[context.plan['selection']]}, with a {_percent(analysis.level)} Student t interval. "
        "Differences are in percentage points, paired by seed, with intervals of the same kind."
    )


def _test(context: Context) -> str:
    family = context.family
    if not family.size:
        return ""
    return (
        f"p: {family.analysis.test} against {context.plan['reference']}, "
        f"{family.analysis.correction_name}-corrected over {_count(family.size, 'comparison')} "
        "(the tuned row of every method, or its only row where nothing is tuned) at a "
        f"family-wise error of {_percent(family.analysis.alpha)}; * marks what is significant. "
        "All other differences show intervals only."
    )


def _equality(context: Context) -> str:
    analysis = context.family.analysis
    if not context.family.size:
        return ""
    image = f" (one test image is {context.image:.2g} points)" if context.image else ""
    return (
        f"Practically equal: two one-sided tests against a margin of {analysis.margin:.2g} "
        f"points{image}, {analysis.correction_name}-corrected over the same comparisons."
    )


def _bold(context: Context) -> str:
    best = context.best
    if best.best is None:
        return ""
    return (
        f"Bold: not told apart from the highest mean ({best.best}) by {best.analysis.test}s of "
        f"{_count(best.comparisons, 'pair')}, {best.analysis.correction_name}-corrected."
    )


def _detectable(context: Context) -> str:
    family = context.family
    if not family.size or family.seeds < 2 or family.sd != family.sd:
        return ""
    return (
        f"Smallest detectable difference at {_percent(family.analysis.power)} power with "
        f"{family.seeds} seeds and {_count(family.size, 'comparison')}: {family.detectable:.2f} "
        f"points ({family.detectable_sds:.2f} times the standard deviation of the paired "
        f"differences, whose median over the comparisons is {family.sd:.2f} points)."
    )


def _tuning(context: Context) -> str:
    tune = context.plan.get("tune")
    if not tune:
        return "Nothing was tuned: every method has its published default knobs or those shown."
    return (
        f"Tuning budget: {_count(tune['trials'], 'trial')} of {_count(tune['epochs'], 'epoch')} "
        f"for each method with knobs ({tune['sampler']} sampler, seeds "
        f"{', '.join(map(str, tune['seeds']))}), scored on validation data; trial 0 is the "
        "published default. Final runs have fresh seeds."
    )


def _teacher(context: Context) -> str:
    ids = list(dict.fromkeys((context.plan.get("teachers") or {}).values()))
    if not ids:
        return ""
    runs = context.frame[context.frame["row"] == TEACHER]
    known = 100 * runs["accuracy"].dropna()
    score = f" ({known.mean():.2f} % on test)" if len(known) else ""
    if len(ids) == 1:
        return f"Results are conditional on teacher {ids[0]}{score}."
    return f"Each seed has a teacher of its own: {', '.join(ids)}{score}."


def _provenance(context: Context) -> str:
    plan, data = context.plan, context.plan["data"]
    part = "all training images" if data.get("train_on") == "all" else "the fit part"
    models = plan.get("models") or {}
    parts = [
        f"Data: {data['name']} (checksum {data['checksum'][:12]}), students trained on {part}, "
        f"augmentation {data.get('augment', 'none')}",
        f"teacher {models.get('teacher')}, student {models.get('student')}" if models else "",
        f"study {plan.get('hash')}" if plan.get("hash") else "",
        *(_origin(context.frame, c, w) for c, w in ORIGINS.items()),
    ]
    return "; ".join(p for p in parts if p) + "."


ORIGINS = {
    "commit": "commit",
    "torch": "torch",
    "device": "device",
    "hardware": "hardware",
}


def _origin(frame: pd.DataFrame, column: str, word: str) -> str:
    found = sorted({str(v) for v in frame[column].dropna()})
    return f"{word} {', '.join(found)}" if found else ""


def _measured(context: Context) -> str:
    machine = context.cost.get("machine")
    where = f" on {machine}" if machine else ""
    return (
        f"Columns marked (measured) were measured{where} and are the only ones in which two "
        f"equal studies may differ; relative cost is against {context.plan['reference']}."
    )


# -- notes


def notes(context: Context) -> tuple[str, ...]:
    """What is out of the ordinary, and where."""
    found = [
        *_incomplete(context), *_short(context), *_states(context), *_same(context),
        *_constant(context), *_pairs(context), *_mixed(context),
    ]  # fmt: skip
    return tuple(found)


def _incomplete(context: Context) -> Iterable[str]:
    if context.incomplete:
        yield "Incomplete: not every run that the study wants is finished and scored."


def _short(context: Context) -> Iterable[str]:
    if context.family.seeds < 3 and context.family.size:
        yield "Fewer than 3 seeds: numbers only, no verdict and no bold."


def _states(context: Context) -> Iterable[str]:
    for line in context.lines:
        if line.reason:
            rest = ""
            if line.scores and len(line.scores) < len(line.runs):
                rest = f"; its numbers are over the other {_count(len(line.scores), 'seed')}"
                if (line.runs["state"] == "diverged").any():
                    rest += " and so leave out where it fails"
            yield f"{_name(line)}: {line.reason}{rest}."


def _same(context: Context) -> Iterable[str]:
    for line in context.lines:
        if line.row != "tuned" or not line.plan["runs"]:
            continue
        for other in context.lines:
            same = other.row == "default" and other.label == line.label
            if same and other.plan["runs"] == line.plan["runs"]:
                yield (
                    f"{line.label}: tuning chose the published defaults (trial 0), so both its "
                    "rows are the same runs."
                )


def _constant(context: Context) -> Iterable[str]:
    for label, verdict in context.family.verdicts.items():
        if verdict.difference.constant:
            yield (
                f"{label}: the difference is the same on every seed, so its interval has no "
                "width; p is the exact sign-flip test's."
            )


def _pairs(context: Context) -> Iterable[str]:
    base = context.mains[context.plan["reference"]]
    for label, verdict in context.family.verdicts.items():
        ours, n = len(context.mains[label].scores), verdict.difference.n
        if n < max(ours, len(base.scores)) and ours and base.scores:
            seeds = ", ".join(map(str, verdict.difference.seeds)) or "none"
            yield (
                f"{label}: compared with {base.label} on the {_count(n, 'seed')} that both "
                f"have ({seeds})."
            )


def _mixed(context: Context) -> Iterable[str]:
    for column, word in (("commit", "commits"), ("hardware", "machines")):
        groups = context.frame.dropna(subset=[column]).groupby(column, sort=True)
        if len(groups) > 1:
            parts = (f"{value} ({_count(len(set(g['id'])), 'run')})" for value, g in groups)
            yield f"The runs come from several {word}: {', '.join(parts)}."
    dirty = context.frame[context.frame["dirty"].eq(True)]
    if len(dirty):
        count = _count(len(set(dirty["id"])), "run")
        yield f"Code with uncommitted changes made {count}."


# -- words


def _name(line: "Line") -> str:
    return line.label if line.row in ("only", "pinned") else f"{line.label} ({line.row})"


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
