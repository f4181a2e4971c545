"""The answer to a study's question, in one paragraph from the object that judged."""

from collections.abc import Iterable

import pandas as pd

from kdbench.errors import first_names
from kdbench.report.needs import seconds_a_seed, seeds_to_tell
from kdbench.report.text.context import Context, count, percent
from kdbench.stats import FEWEST_SEEDS, Verdict, mean_interval

#: Methods that are named of one kind; the others are counted.
NAMED = 5

#: Measured costs that are this near are not told apart: they settle within a few per cent.
NEAR = 0.05


def write_answer(context: Context) -> str:
    """Which methods are better than the reference and by how much; which is the cheapest of those
    that are not told apart from the best, and what it costs; what would have been seen; and what
    to do next where nothing was decided. Empty where nothing was compared."""
    if not context.family.size:
        return ""
    parts = (*_verdicts(context), _best(context), _cheapest(context), _seen(context))
    return " ".join(part for part in (*parts, _next(context)) if part)


def _verdicts(context: Context) -> Iterable[str]:
    reference, verdicts = context.plan.reference, context.family.verdicts
    level = percent(context.family.analysis.level)
    unit = f"difference in points, {level} interval"
    for word in ("better", "worse"):
        chosen = [k for k, v in verdicts.items() if v.text.startswith(word)]
        if chosen:
            ordered = sorted(chosen, key=lambda k: -abs(verdicts[k].difference.mean))
            shown = first_names([_by_how_much(k, verdicts[k]) for k in ordered], NAMED)
            yield (
                f"{len(chosen)} of {count(len(verdicts), 'method')} {_are(chosen)} {word} than "
                f"{reference} ({unit}): {shown}."
            )
    margin = f"within {context.family.analysis.margin:.2g} points"
    if equal := [k for k, v in verdicts.items() if v.text == "practically equal"]:
        yield f"Practically equal to {reference}, {margin}: {first_names(equal, NAMED)}."
    open_ = [k for k, v in verdicts.items() if not v.significant and not v.equal]
    few = [k for k in open_ if verdicts[k].difference.n < FEWEST_SEEDS]
    if undecided := [k for k in open_ if k not in few]:
        yield f"Not told apart from {reference}: {first_names(undecided, NAMED)}."
    if few and context.primary[reference].scores:  # else a note says what is missing
        yield f"No verdict, for too few scores: {first_names(few, NAMED)}."


def _are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _by_how_much(label: str, verdict: Verdict) -> str:
    d = verdict.difference
    equal = ", practically equal" if verdict.equal else ""
    return f"{label} {d.mean:+.2f} ({d.low:+.2f} to {d.high:+.2f}{equal})"


def _best(context: Context) -> str:
    best = context.best
    if best.best is None:
        return ""
    mean = mean_interval(context.primary[best.best].scores).mean
    others = sorted(best.members - {best.best}, key=list(context.primary).index)
    told = (
        f"{first_names(others, NAMED)} {_are(others)} not told apart from it by tests of all pairs"
    )
    apart = f"; {told}" if others else ""
    return f"The highest mean is that of {best.best}, {mean:.2f} %{apart}."


def _cheapest(context: Context) -> str:
    """Which of the best cost least to train, where all their costs are known, and to deploy; of
    external results, which cost least, whatever their costs count."""
    rows = context.cost.get("rows") or {}
    costs = {k: (rows.get(k) or {}).get("training") for k in context.best.members}
    known = {k: cost for k, cost in costs.items() if cost is not None}
    if not known or len(known) < len(costs):
        return ""
    least, reference = min(known.values()), context.plan.reference
    given = context.plan.score is not None  # external results
    cheapest = sorted(k for k in known if known[k] <= least * (1 if given else 1 + NEAR))
    ends = [f"{known[k]:.2f}" for k in sorted(cheapest, key=lambda k: known[k])]
    times = f"{' to '.join(dict.fromkeys((ends[0], ends[-1])))} times"
    if given:
        what, best, cost = "cost", "cheapest of these", f"is {times} that of {reference}"
    else:
        what, best = "training", "cheapest of these to train"
        best += f", within {percent(NEAR)}," if len(cheapest) > 1 else ""
        cost = f"takes {times} what {reference} takes, the study's teacher apart"
    if len(known) == 1:
        said = "It is the reference" if cheapest == [reference] else f"Its {what} {cost}"
    elif cheapest == [reference]:
        said = f"The {best} is {reference}, the reference"
    elif len(cheapest) == 1:
        said = f"The {best} is {cheapest[0]}: its {what} {cost}"
    else:
        names = f"{', '.join(cheapest[:-1])} and {cheapest[-1]}"
        said = f"The {best} are {names}: the {what} of each {cost}"
    deployed = {_deployed(context, k) for k in cheapest}
    return "; ".join(filter(None, (said, deployed.pop() if len(deployed) == 1 else ""))) + "."


def _deployed(context: Context, label: str) -> str:
    runs = context.primary[label].runs
    parameters, macs = (_first(runs[name]) for name in ("student_parameters", "macs"))
    if parameters is None or macs is None:
        return ""
    size = count(parameters, "parameter")
    return f"deployed, the student has {size} and takes {macs:,} multiply-adds an image"


def _first(values: pd.Series) -> int | None:
    present = values.dropna()
    return int(present.iloc[0]) if len(present) else None


def _seen(context: Context) -> str:
    family = context.family
    if family.seeds < FEWEST_SEEDS or not family.sd > 0:  # below, there is no verdict
        return ""
    points = f"{family.detectable:.2g}"
    return (
        f"A difference of {points} point{'s' * (points != '1')} would have been seen "
        f"({percent(family.analysis.power)} power, {count(family.seeds, 'seed')})."
    )


def _next(context: Context) -> str:
    """What it takes to see a difference, where none was seen and none excluded."""
    family = context.family
    if any(v.significant or v.equal for v in family.verdicts.values()) or not family.sd > 0:
        return ""
    margin = family.analysis.margin
    seeds = seeds_to_tell(family, family.sd, margin)
    if seeds is None:
        return f"To see {margin:.2g} points takes more than 10,000 seeds: another setting."
    hours = seeds * seconds_a_seed(context.frame) / 3600
    cost = f", {hours:.1f} hours of one worker" if hours else ""
    return (
        f"Nothing was told apart; a difference of {margin:.2g} points takes about "
        f"{count(seeds, 'seed')}{cost} (`kdbench power` has other differences)."
    )
