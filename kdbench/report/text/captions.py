"""The captions of a leaderboard: how it was made, from the objects that computed it.

Each caption is a whole sentence with a topic. The table prints all of them; the methods
section for a paper picks those it needs by topic.
"""

from collections.abc import Iterable

import pandas as pd

from kdbench.records.measures import ACCURACY, BALANCED, MACRO_F1, MEASURES
from kdbench.records.plan_file import PlanFile
from kdbench.report.data.runs import TEACHER
from kdbench.report.text.context import Context, Sentence, count, percent
from kdbench.report.text.costs import measured_columns
from kdbench.report.text.taken import taken_rows
from kdbench.stats import (
    FEWEST_SEEDS,
    PRIOR_DF,
    Family,
    mean_interval,
    own_comparisons,
    paired_difference,
    seeds_to_tell_apart,
)

SELECTION = {"last": "the last epoch", "best": "the epoch of best validation {score}"}
"""The epoch whose weights are scored, by selection rule."""

IMAGE = {
    ACCURACY.key: "one test image",
    BALANCED.key: "one test image of the smallest class",
    MACRO_F1.key: "the most that one test image can count",
}
"""What bounds the variance of a difference, by measure."""

UNEQUAL_SEEDS = (
    " Where two rows have different seeds, their difference is over those that both have, and need "
    "not be that of the means shown."
)
"""What is said of differences where not all rows have the same seeds."""

ORIGINS = ("commit", "torch", "device", "hardware")


def write_captions(context: Context) -> tuple[Sentence, ...]:
    """The sentences that say how the table was made; those that do not apply are left out."""
    family, plan, frame = context.family, context.plan, context.frame
    by_topic = {
        "scores": _scores(context),
        "test": _test(context),
        "marks": "An asterisk (*) marks a significant difference." if family.size else "",
        "looks": _looks(context),
        "equality": _equality(context),
        "bold": _bold(context),
        "detectable": _detectable(context),
        "apart": _apart(context),
        "tuning": _tuning(plan),
        "taken": taken_rows(plan),
        "teacher": _teacher(plan, frame),
        "data": _data(plan),
        "labels": _labels(plan),
        "origin": _origin(frame),
        "measured": measured_columns(context),
        "descriptive": _descriptive(context),
        "published": "Grey rows (italic in Markdown) are copied from their sources and take "
        "part in no test."
        if plan.published
        else "",
    }
    return tuple(Sentence(text, topic) for topic, text in by_topic.items() if text)


def _scores(context: Context) -> str:
    level = percent(context.family.analysis.level)
    planned = [set(row.plan.runs) for row in context.rows if row.plan.runs]
    seeds = sorted({int(seed) for runs in planned for seed in runs})
    fewer = any(len(runs) < len(seeds) for runs in planned)
    scored = {frozenset(row.scores) for row in context.rows if row.scores}
    rule = SELECTION.get(context.plan.selection, "").format(score=context.measure.words)
    return (
        f"{context.plan.score or context.measure.title} is given in %, as the mean over "
        f"{'up to ' if fewer else ''}{count(len(seeds), 'seed')} ({_listed(seeds)})"
        f"{f' of the weights of {rule}' if rule else ''}, with a {level} Student t interval. "
        "Differences are in percentage points, paired by seed, with intervals of the same kind"
        f"{_least_deviation(context)}.{UNEQUAL_SEEDS if len(scored) > 1 else ''}"
    )


def _least_deviation(context: Context) -> str:
    image = context.family.analysis.image
    if not image:
        return ""
    least = IMAGE[context.measure.key]
    return f"; their standard deviation is at least {least} ({image:.2g} points)"


def _test(context: Context) -> str:
    family = context.family
    if not family.size:
        return ""
    return (
        f"The p values are those of the {family.analysis.test_name} against "
        f"{context.plan.reference}, {family.analysis.correction_name}-corrected over "
        f"{count(family.size, 'comparison')} (the tuned row of every method, or its only row "
        f"where nothing is tuned) at a family-wise error of {percent(family.analysis.alpha)}. "
        f"{_moderation(family)}All other differences show intervals only."
    )


def _looks(context: Context) -> str:
    """How a study was judged at several numbers of seeds, where it was."""
    analysis = context.family.analysis
    if not analysis.looks or not context.family.size:
        return ""
    shares = [percent(round(analysis.share(count), 3)) for count in analysis.looks]
    level = percent(analysis.level)
    scores = "accuracies" if context.measure == ACCURACY else "scores"
    return (
        f"The methods were judged at looks that were fixed before the first run: at "
        f"{_listed(analysis.looks)} seeds, which spend {_listed(shares)} of the family-wise error, "
        "by Holm's procedure within a look and for equality likewise. A method that is better, "
        "worse or practically equal gets no more seeds, and its verdict is that of its last look; "
        f"rows that are not compared have the seeds of the first. P values are divided by what "
        f"the look spends, and the {level} intervals of the differences hold for all looks "
        f"together; those of the {scores} do not take the looks into account."
    )


def _moderation(family: Family) -> str:
    """How the moderated t test works, where it is the one."""
    own = own_comparisons(family.analysis, family.size)
    if not own:
        return ""
    if not family.common_variance:
        return "There is no second variance to share (Smyth 2004), so it is the paired t test. "
    return (
        "That test takes the variance of each difference as the larger of its own and of one "
        "shrunk towards that of the mean standard deviation over the comparisons (Smyth 2004; "
        f"{PRIOR_DF} prior degrees of freedom); the method's own paired t test must agree at an "
        f"uncorrected {percent(round(family.analysis.alpha / own, 4))}: p is the larger of that "
        f"test's, corrected, and {own} times the method's own. "
    )


def _equality(context: Context) -> str:
    analysis = context.family.analysis
    if not context.family.size:
        return ""
    least = IMAGE[context.measure.key]
    image = f" ({least} is {context.image:.2g} points)" if context.image else ""
    return (
        "A method is called practically equal to the reference by two one-sided tests against "
        f"a margin of {analysis.margin:.2g} points{image}, {analysis.correction_name}-corrected "
        "over the same comparisons."
    )


def _bold(context: Context) -> str:
    best = context.best
    if best.best is None:
        return ""
    return (
        f"Bold: not significantly different from the highest mean ({best.best}) by "
        f"{best.analysis.test_name}s of {count(best.comparisons, 'pair')}, "
        f"{best.analysis.correction_name}-corrected."
    )


def _detectable(context: Context) -> str:
    family = context.family
    if family.seeds < FEWEST_SEEDS or not family.sd > 0:
        return ""
    return (
        f"Smallest detectable difference at {percent(family.analysis.power)} power with "
        f"{count(family.seeds, 'seed')} and {count(family.size, 'comparison')} is "
        f"{family.detectable:.2f} points ({family.detectable_sds:.2f} times the standard "
        "deviation of the paired differences, whose median over the comparisons is "
        f"{family.sd:.2f} points)."
    )


def _apart(context: Context) -> str:
    """How many seeds a next study would need to tell the two highest means apart."""
    best, analysis = context.best, context.best.analysis
    if best.best is None:
        return ""
    labels = (context.plan.reference, *context.family.verdicts)
    scores = {label: context.primary[label].scores for label in labels}
    means = {k: mean_interval(v).mean for k, v in scores.items() if len(v) >= FEWEST_SEEDS}
    second = max((k for k in means if k != best.best), key=lambda k: means[k])
    difference = paired_difference(
        scores[best.best], scores[second], analysis.level, analysis.image
    )
    if second not in best.members or difference.n < 2 or difference.mean == 0:
        return ""
    most = max(len(scores[best.best]), len(scores[second]))
    shared = " on the seeds that both have" if difference.n < most else ""
    common = best.common / difference.sd**2 if best.common and difference.sd else None
    needed = seeds_to_tell_apart(difference, analysis, best.comparisons, common)
    seeds = "more than 10,000 seeds" if needed is None else f"about {count(needed, 'seed')}"
    return (
        f"The two highest means, {best.best} and {second}, differ by {abs(difference.mean):.2f} "
        f"points{shared}; to tell them apart a next study would need {seeds} (at "
        f"{percent(analysis.power)} power and {count(best.comparisons, 'pair')}, "
        "if difference and spread are as observed here)."
    )


def _tuning(plan: PlanFile) -> str:
    if plan.score is not None:  # external results
        return ""
    tune = plan.tune
    if not tune or not any(row.row == "tuned" for row in plan.rows):
        return (
            "Nothing was tuned: every method has its published default hyperparameters or those "
            "shown."
        )
    stage = tune.confirm
    confirm = (
        f" The default and the {count(stage.points, 'best point', 'best points')} were then "
        f"trained with seeds {_listed(stage.seeds)}; the default is kept unless a point beats it "
        "by more than one standard error of their paired differences."
        if stage
        else ""
    )
    measure = MEASURES[plan.measure]
    by = "" if measure == ACCURACY else f"by {measure.words} "
    return (
        "Every method whose hyperparameters the study leaves open was tuned at the same budget, "
        f"{count(tune.trials, 'trial')} of {count(tune.epochs, 'epoch')} "
        f"({tune.sampler} sampler, seeds {_listed(tune.seeds)}), scored {by}on validation "
        f"data; trial 0 is the published default.{confirm} Final runs have fresh seeds."
    )


def _teacher(plan: PlanFile, frame: pd.DataFrame) -> str:
    ids = list(dict.fromkeys(plan.teachers.values()))
    if not ids:
        return ""
    runs = frame[frame["row"] == TEACHER]
    scores = 100 * runs[MEASURES[plan.measure].column].dropna()
    score = f" ({scores.mean():.2f} % on test)" if len(scores) else ""
    seen = f" The teacher's images are {plan.teacher_input}." if plan.teacher_input else ""
    if len(ids) == 1:
        given = f", whose weights come from {plan.teacher_weights}" if plan.teacher_weights else ""
        return f"Results are conditional on teacher {ids[0]}{score}{given}.{seen}"
    return f"Each seed has a teacher of its own: {', '.join(ids)}{score}.{seen}"


def _data(plan: PlanFile) -> str:
    parts = []
    if data := plan.data:
        checksum = f" (checksum {data.checksum[:12]})" if data.checksum else ""
        part = "all training images" if data.train_on == "all" else "the fit part"
        parts.append(
            f"Data: {data.name}{checksum}, students trained on {part}, augmentation {data.augment}"
        )
    if models := plan.models:
        parts.append(f"teacher {models.get('teacher')}, student {models.get('student')}")
    if plan.hash:
        parts.append(f"study {plan.hash}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}." if text else ""


def _labels(plan: PlanFile) -> str:
    """Which images have labels, and which rows learn from the others."""
    data = plan.data
    if data is None or not data.labelled:
        return ""
    teacher = "all labels" if data.teacher_labelled else "the same labels as the students"
    without = dict.fromkeys(row.label for row in plan.rows if row.runs and not row.unlabelled)
    alone = f" From the labelled images alone learn {_listed(without)}." if without else ""
    return (
        f"Of the training images {data.labelled} keep their labels, stratified by class; the "
        f"teacher has {teacher}. For each labelled image a step has {data.unlabelled} without "
        f"labels, and every method takes the same number of steps.{alone}"
    )


def _origin(frame: pd.DataFrame) -> str:
    origins = {name: sorted({str(v) for v in frame[name].dropna()}) for name in ORIGINS}
    parts = [f"{name} {', '.join(values)}" for name, values in origins.items() if values]
    return f"Made with {'; '.join(parts)}." if parts else ""


def _descriptive(context: Context) -> str:
    reference = context.plan.reference
    gap = f", gap between {reference} and the teacher recovered"
    return (
        "Columns marked (descriptive) stand in the CSV file and on the web page only, and no "
        "verdict rests on them: interquartile mean, probability of improvement over "
        f"{reference}{gap if context.plan.teachers else ''}."
    )


def _listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
