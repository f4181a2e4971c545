"""The columns of the leaderboard, each declared once: what it holds, where and how it is shown.

The order here is the order in `leaderboard.csv`, in the tables and in a row's details. A
column with `run` summarises a value of the row's runs and needs nothing but its declaration;
`leaderboard` fills in the others by name.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kdbench.records.measures import ACCURACY, Measure


@dataclass(frozen=True)
class Column:
    """One column of the leaderboard.

    `name` heads it in `leaderboard.csv`; `kind` is `number`, `count`, `text` or `flag`.

    `run` is the column of the runs that it summarises, by the `mean`, the `median` or the
    `first` value over the row's finished runs, times `scale`. The runs' column is a `score`
    on test, a `cost` that is known exactly, or `measured`: wall-clock time and memory, in
    which two equal studies may differ.

    `heading` shows it in the tables (Markdown, LaTeX, page), `short` in the terminal and
    `detail` among a row's details on the page; None: not there. `{reference}`, `{second}`,
    `{level}` and `{correction}` stand for what the leaderboard declares. Numbers have
    `digits` decimals, in the terminal `short_digits`. `drop` orders what a narrow terminal
    leaves out: the lowest number first, 0 never. `page` says in which windows the page shows
    the column: a `phone`'s, those of a `desk`, or only where `all` columns are asked for; there
    `unit` stands in its heading, and `about` explains it.
    """

    name: str
    kind: str = "number"
    run: str | None = None
    of: str = "score"
    summary: str = "mean"
    scale: float = 1.0
    heading: str | None = None
    short: str | None = None
    detail: str | None = None
    digits: int = 2
    short_digits: int = 2
    drop: int = 0
    page: str = "all"
    unit: str = ""
    about: str = ""


def _bounds(name: str, *more: str) -> Iterable[Column]:
    """The columns beside an estimate: the ends of its interval, and what else is kept."""
    for part in ("low", "high", *more):
        yield Column(f"{name}_{part}", "count" if part == "n" else "number")


COLUMNS: tuple[Column, ...] = (
    Column("method", "text", heading="method", short="method", page="phone"),
    Column("row", "text", heading="hyperparameters", short="hparams", drop=6),
    Column("state", "text"),
    Column(
        "n", "count", heading="n", short="n", drop=5,
        page="desk", about="The number of seeds that have a score.",
    ),
    Column("wanted", "count"),
    Column("best", "flag"),
    Column(
        "accuracy", heading="accuracy [{level}]", short="accuracy ±", page="phone", unit="%",
        about="The mean on the test set over the seeds, with its t interval.",
    ),
    *_bounds("accuracy"),
    Column(
        "difference", heading="Δ {reference} [{level}]", short="Δ {reference} ±",
        page="desk", unit="points",
        about="The mean difference from {reference} on the same seeds; * better or worse.",
    ),
    *_bounds("difference", "n", "sd"),
    Column("p"),
    Column("p_moderated"),
    Column(
        "p_adjusted", heading="p ({correction})", short="p", digits=3, drop=4, page="desk",
        about="The probability of so large a difference if there were none, corrected for the "
        "number of methods.",
    ),
    Column("adjusted_low"),
    Column("adjusted_high"),
    Column("p_equal"),
    Column("detectable"),
    Column(
        "verdict", "text", heading="verdict", short="verdict", page="phone",
        about="What the corrected test and the margin of practical equality say of it.",
    ),
    Column(
        "versus_second", heading="Δ {second} [{level}]", short="Δ {second} ±", drop=3,
        unit="points",
    ),
    *_bounds("versus_second", "n"),
    Column(
        "gain", heading="gain from tuning [{level}]", unit="points",
        about="The mean difference of the tuned row from the default one on the same seeds.",
    ),
    *_bounds("gain", "n"),
    Column(
        "agreement", run="agreement", scale=100,
        heading="agreement", short="agr.", short_digits=1, drop=1, unit="%",
        about="The share of test images on which student and teacher predict the same class.",
    ),
    Column(
        "ece", run="ece", scale=100, heading="ECE", unit="%",
        about="Expected calibration error: how far the stated confidence is from the share that "
        "is right; 0 is best.",
    ),
    Column(
        "nll", run="nll", heading="NLL", digits=3, unit="nats",
        about="Negative log-likelihood of the true class on the test set; lower is better.",
    ),
    Column("f1", run="f1", scale=100, detail="F1, %"),
    Column("kl", run="kl", detail="KL to the teacher, nats", digits=3),
    Column(
        "student_parameters", "count", run="student_parameters", of="cost", summary="first",
        detail="parameters of the student", digits=0,
    ),
    Column(
        "parameters", "count", run="parameters", of="cost", summary="first",
        detail="parameters, with those of helpers", digits=0,
    ),
    Column(
        "macs", "count", run="macs", of="cost", summary="first",
        detail="multiply-adds of the student for one image", digits=0,
    ),
    Column(
        "relative cost (measured)", heading="relative cost (measured)", short="cost", drop=2,
        page="desk",
        about="What all training for one seed costs, relative to {reference}: with peers, earlier "
        "generations, assistants and further teachers, but not the study's teacher.",
    ),
    Column(
        "cost of a step (measured)", run="measured.relative", of="measured",
        heading="cost of a step (measured)",
        about="The time of a training step relative to one of {reference}.",
    ),
    Column(
        "peak memory in MB (measured)", run="measured.peak_mb", of="measured",
        detail="peak memory (measured), MB", digits=1,
    ),
    Column("seconds (measured)", run="measured.seconds", of="measured", summary="median"),
    Column("iqm (descriptive)", detail="interquartile mean (descriptive), %"),
    Column(
        "probability of improvement, paired (descriptive)",
        detail="probability of improvement over {reference}, paired (descriptive)",
    ),
    Column(
        "probability of improvement, unpaired (descriptive)",
        detail="probability of improvement over {reference}, unpaired (descriptive)",
    ),
    Column(
        "gap recovered (descriptive)",
        detail="share of the gap between {reference} and the teacher recovered (descriptive)",
    ),
    Column(
        "hparams", "text", heading="values", page="desk",
        about="The hyperparameters that were searched, else all.",
    ),
    Column("cite", "text"),
    Column("reason", "text"),
)  # fmt: skip


def columns_by(measure: Measure, taken: bool = False) -> tuple[Column, ...]:
    """The columns of a leaderboard that compares by a measure: its estimate takes the place of that
    of accuracy, whose mean stands beside it. Where rows are `taken` from a report there is one
    more, which says where a row was run."""
    if taken:
        method, *rest = columns_by(measure)
        return (method, Column("origin", "text", heading="run", short="run"), *rest)
    if measure == ACCURACY:
        return COLUMNS
    name, words = measure.column, measure.words
    by_name = {column.name: column for column in COLUMNS}
    estimate = {
        "accuracy": replace(
            by_name["accuracy"], name=name, heading=f"{words} [{{level}}]", short=f"{words} ±"
        ),
        **{f"accuracy_{part}": Column(f"{name}_{part}") for part in ("low", "high")},
    }
    mean = Column("accuracy", run="accuracy", scale=100, heading="accuracy", short="acc.", drop=2)
    columns = [estimate.get(c.name, c) for c in COLUMNS if c.name != name]
    place = columns.index(estimate["accuracy_high"]) + 1
    return (*columns[:place], mean, *columns[place:])


def run_columns(of: str) -> tuple[str, ...]:
    """The columns of the runs that the leaderboard summarises: `score`, `cost` or
    `measured`."""
    return tuple(column.run for column in COLUMNS if column.run and column.of == of)
