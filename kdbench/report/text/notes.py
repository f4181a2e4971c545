"""What is out of the ordinary in a leaderboard, and where: the notes beneath it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kdbench.report.text.context import Context, count

if TYPE_CHECKING:
    from kdbench.report.rows import Line


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
                rest = f"; its numbers are over the other {count(len(line.scores), 'seed')}"
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
                f"{label}: compared with {base.label} on the {count(n, 'seed')} that both "
                f"have ({seeds})."
            )


def _mixed(context: Context) -> Iterable[str]:
    for column, word in (("commit", "commits"), ("hardware", "machines")):
        groups = context.frame.dropna(subset=[column]).groupby(column, sort=True)
        if len(groups) > 1:
            parts = (f"{value} ({count(len(set(g['id'])), 'run')})" for value, g in groups)
            yield f"The runs come from several {word}: {', '.join(parts)}."
    dirty = context.frame[context.frame["dirty"].eq(True)]
    if len(dirty):
        yield f"Code with uncommitted changes made {count(len(set(dirty['id'])), 'run')}."


def _name(line: "Line") -> str:
    return line.label if line.row in ("only", "pinned") else f"{line.label} ({line.row})"
