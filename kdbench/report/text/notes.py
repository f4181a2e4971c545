"""The notes beneath a leaderboard: what a reader must know about single rows and runs."""

from collections.abc import Iterable

from kdbench.report.rows import TableRow
from kdbench.report.text.context import Context, Sentence, count
from kdbench.report.text.costs import unknown_costs
from kdbench.stats import FEWEST_SEEDS

#: What may differ between runs: devices and torch only where some are taken from a report.
ORIGINS = {
    "commit": "commits",
    "hardware": "machines",
    "device": "devices",
    "torch": "torch versions",
}


def write_notes(context: Context) -> tuple[Sentence, ...]:
    """The notes, each with its topic; empty where there is nothing to say."""
    by_topic = {
        "incomplete": (*_incomplete(context), *_few_seeds(context)),
        "unscored": _unscored(context),
        "tuning": (*_default_chosen(context), *_at_edge(context)),
        "constant": _constant(context),
        "seeds": _seeds_in_common(context),
        "origin": _mixed_origins(context),
        "cost": unknown_costs(context),
    }
    return tuple(Sentence(note, topic) for topic, notes in by_topic.items() for note in notes)


def _incomplete(context: Context) -> Iterable[str]:
    if context.incomplete:
        yield "Incomplete: not every run that the study wants is finished and scored."


def _few_seeds(context: Context) -> Iterable[str]:
    if context.family.seeds >= FEWEST_SEEDS or not context.family.size:
        return
    if not context.primary[context.plan.reference].scores:
        yield _no_reference(context)
    elif context.best.best is None:
        yield f"Fewer than {FEWEST_SEEDS} seeds: numbers only, no verdict and no bold."
    else:
        yield (
            f"Fewer than {FEWEST_SEEDS} seeds in common with {context.plan.reference}: no verdict."
        )


def _no_reference(context: Context) -> str:
    """Why nothing is compared, and what to do where no run is to come that would change it."""
    row = context.primary[context.plan.reference]
    states = sorted(set(row.runs["state"]))
    if row.plan.incompatible:
        why = row.plan.incompatible
    elif states and set(states) <= {"diverged", "failed"}:
        why = f"{' or '.join(states)} on every seed"
    else:
        return f"The reference {row.label} has no score yet, so nothing is compared with it."
    option = "report.reference" if context.plan.score is None else "--reference"
    return (
        f"The reference {row.label} has no score ({why}), so nothing could be compared with it; "
        f"take another: {option}."
    )


def _unscored(context: Context) -> Iterable[str]:
    for row in context.rows:
        if row.reason:
            rest = ""
            if row.scores and len(row.scores) < len(row.runs):
                rest = f"; its numbers are over the other {count(len(row.scores), 'seed')}"
                if (row.runs["state"] == "diverged").any():
                    rest += " and so leave out where it fails"
            yield f"{_name(row)}: {row.reason}{rest}."


def _default_chosen(context: Context) -> Iterable[str]:
    for row in context.rows:
        if row.row != "tuned" or not row.plan.runs:
            continue
        for other in context.rows:
            default = other.row == "default" and other.label == row.label
            if default and other.plan.runs.items() <= row.plan.runs.items():
                same = other.plan.runs == row.plan.runs
                yield (
                    f"{row.label}: tuning chose the published defaults (trial 0), so "
                    + ("both its rows are" if same else "its tuned row contains")
                    + (" the same runs." if same else " the runs of its default row.")
                )


def _at_edge(context: Context) -> Iterable[str]:
    for row in context.rows:
        if row.plan.at_edge:
            values = ", ".join(f"{name} = {row.plan.hparams[name]:g}" for name in row.plan.at_edge)
            yield (
                f"{_name(row)}: the best trial lies at an end of what was searched ({values}), so "
                "better values may lie outside."
            )


def _constant(context: Context) -> Iterable[str]:
    for label, verdict in context.family.verdicts.items():
        if verdict.difference.constant:
            yield (
                f"{label}: the difference is the same on every seed, so its interval has no "
                "width; p is the exact sign-flip test's."
            )


def _seeds_in_common(context: Context) -> Iterable[str]:
    reference = context.primary[context.plan.reference]
    for label, verdict in context.family.verdicts.items():
        scored, n = len(context.primary[label].scores), verdict.difference.n
        # With looks a method has fewer seeds than the reference where it was decided.
        most = scored if context.plan.looks else max(scored, len(reference.scores))
        if n < most and scored and reference.scores:
            seeds = ", ".join(map(str, verdict.difference.seeds)) or "none"
            yield (
                f"{label}: compared with {reference.label} on the {count(n, 'seed')} that both "
                f"have ({seeds})."
            )


def _mixed_origins(context: Context) -> Iterable[str]:
    for column, plural in ORIGINS.items():
        groups = context.frame.dropna(subset=[column]).groupby(column, sort=True)
        if len(groups) > 1:
            parts = (f"{value} ({count(len(set(g['id'])), 'run')})" for value, g in groups)
            yield f"The runs come from several {plural}: {', '.join(parts)}."
    dirty = context.frame[context.frame["dirty"].eq(True)]
    if len(dirty):
        yield f"Code with uncommitted changes made {count(len(set(dirty['id'])), 'run')}."


def _name(row: TableRow) -> str:
    return row.label if row.row in ("only", "pinned") else f"{row.label} ({row.row})"
