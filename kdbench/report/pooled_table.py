"""The table of several settings pooled, and its files."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kdbench.report.data.report_data import FORMAT, STUDY
from kdbench.report.deployment import outdated_note
from kdbench.report.figures import draw_tradeoffs
from kdbench.report.pooled import PooledTable
from kdbench.report.text.context import count
from kdbench.report.text.software import software_caption
from kdbench.report.write import deployment_files, leaderboard_csv, write_files
from kdbench.report.writers.cells import MISSING, Cell, Document, Grid, interval_cell, p_text
from kdbench.report.writers.latex import to_latex
from kdbench.report.writers.markdown import to_markdown
from kdbench.stats import FEWEST_SEEDS, Pooled, PooledFamily, Verdict


def pooled_frame(table: PooledTable) -> pd.DataFrame:
    """The table with all its digits, in points."""
    rows = []
    for label in table.order:
        verdict = table.family.family.verdicts.get(label)
        row: dict[str, Any] = {"method": label, "best": label in table.best.members}
        row["mean over the settings"] = table.means[label]
        if verdict:
            row |= _verdict(table, label, verdict)
        rows.append(row)
    return pd.DataFrame(rows)


def _verdict(table: PooledTable, label: str, verdict: Verdict) -> dict[str, Any]:
    d = verdict.difference
    assert isinstance(d, Pooled)
    row: dict[str, Any] = {
        "difference": d.mean, "difference_low": d.low, "difference_high": d.high,
        "seeds": d.n, "df": d.df, "p": d.p, "p_adjusted": verdict.p_adjusted,
        "p_equal": verdict.p_equal, "verdict": verdict.text,
        "p_sign_flip_adjusted": table.family.sign_flip[label],
        "p_wilcoxon_adjusted": table.family.wilcoxon[label],
    }  # fmt: skip
    for setting, one in d.settings.items():
        row |= {f"{setting}: difference": one.mean, f"{setting}: difference_low": one.low,
                f"{setting}: difference_high": one.high}  # fmt: skip
    return row


def pooled_document(table: PooledTable) -> Document:
    """The table and its words."""
    level = f"{100 * table.analysis.level:g} %"
    ref, settings = table.reference, list(table.digests)
    correction = table.analysis.correction_name
    headers = [
        "method", "mean", f"Δ {ref} [{level}]", f"p ({correction})", "verdict",
        f"sign-flip p ({correction})", f"Wilcoxon p ({correction})",
        *(f"Δ {ref}, {s} [{level}]" for s in settings),
    ]  # fmt: skip
    rows = [tuple(_row(table, label, settings)) for label in table.order]
    grid = Grid(tuple(headers), tuple(rows), tuple(table.order), ("",) * len(rows))
    return Document(
        name=table.name,
        title=f"{' + '.join(settings)}",
        question=f"Which method is better on these {len(settings)} settings taken together?",
        headline="Mean scores in %, differences in percentage points.",
        grid=grid,
        captions=(*_captions(table), *software_caption(table.software)),
        notes=tuple(_notes(table)),
        digest=digest(table),
    )


def _row(table: PooledTable, label: str, settings: Sequence[str]) -> list[Cell]:
    bold = label in table.best.members
    mean = table.means[label]
    cells = [
        Cell(label, bold=bold),
        Cell(f"{mean:.2f}" if not math.isnan(mean) else MISSING, bold, True),
    ]
    verdict = table.family.family.verdicts.get(label)
    if verdict is None:  # the reference
        none = Cell(MISSING, number=True)
        return [*cells, none, none, Cell(MISSING), none, none, *(none for _ in settings)]
    d = verdict.difference
    assert isinstance(d, Pooled)
    return [
        *cells,
        interval_cell(d.mean, d.low, d.high, verdict.significant),
        Cell(p_text(verdict.p_adjusted), number=True),
        Cell(verdict.text),
        Cell(p_text(table.family.sign_flip[label]), number=True),
        Cell(p_text(table.family.wilcoxon[label]), number=True),
        *(interval_cell(x.mean, x.low, x.high) for x in (d.settings[s] for s in settings)),
    ]


def _captions(table: PooledTable) -> Sequence[str]:
    family, analysis = table.family.family, table.analysis
    percent = f"{100 * analysis.alpha:g} %"
    how = (
        "Their seeds are shared, so each seed is averaged over the settings first."
        if table.family.shared
        else "Their seeds are independent."
    )
    sentences = [
        f"Settings: {', '.join(table.digests)}, each counting the same. {how} A method is "
        f"represented by its tuned row, or its only row where nothing is tuned.{_looks(table)}",
        f"p: {table.family.test} against {table.reference}, {analysis.correction_name}-corrected "
        f"over {family.size} comparisons at a family-wise error of {percent}; * marks what is "
        "significant. It speaks of these settings and no others.",
        "Sign-flip: the exact (or, of more than 16 differences, 99,999-draw) sign-flip test of "
        "the same means, corrected alike.",
        f"Practically equal: two one-sided tests against a margin of {analysis.margin:.2g} points, "
        f"{'confirmed by sign flips and ' if table.family.flips_confirm else ''}corrected alike.",
    ]
    needed = table.family.settings_needed
    if len(table.digests) < needed:
        sentences.append(
            f"Too few settings to speak of settings like these: Wilcoxon's test needs {needed} "
            f"for {family.size} comparisons."
        )
    else:
        sentences.append(
            "Wilcoxon: signed-rank test over the settings' means, as if they were drawn from "
            f"settings like these; they use {len(table.data)} data sets "
            f"({', '.join(table.data)}), and settings that share data are not independent."
        )
    if table.best.best:
        sentences.append(
            f"Bold: not significantly different from the highest mean ({table.best.best}) by "
            f"the same test of all {table.best.comparisons} pairs, "
            f"{analysis.correction_name}-corrected."
        )
    if family.size:
        sentences.append(_detectable(table.family))
    return sentences


def _looks(table: PooledTable) -> str:
    """Which seeds are taken of settings with looks."""
    taken = ", ".join(f"{s} ({count(n, 'seed')})" for s, n in table.first_looks.items())
    return taken and (
        f" Of settings with looks only the seeds of the first are taken, which all rows have: "
        f"{taken}."
    )


def _detectable(family: PooledFamily) -> str:
    least, power = family.detectable, f"{100 * family.family.analysis.power:g} % power"
    if math.isinf(least):
        return (
            "So few differences can never be significant by sign flips, however large: more "
            "seeds or settings are needed for any verdict but equality."
        )
    if math.isnan(least) or family.family.seeds < FEWEST_SEEDS:
        return "Too few seeds to say how small a difference could have been seen."
    return f"Smallest detectable difference of the t test at {power}: {least:.2f} points."


def _notes(table: PooledTable) -> Sequence[str]:
    notes = []
    if table.lacking:
        lacking = (f"{k} (not in {', '.join(where)})" for k, where in table.lacking.items())
        notes.append(
            f"Not run in every setting, so not pooled and not counted: {', '.join(lacking)}."
        )
    if table.not_pooled:
        notes.append(
            "Not tuned (or run without hyperparameters) in every setting, so not pooled and not "
            f"counted: {', '.join(table.not_pooled)}."
        )
    if table.profile_outdated:
        notes.append(outdated_note(table.name))
    notes += _common_seeds(table.family)
    alpha = table.analysis.alpha
    if table.no_reference:
        notes.append(
            f"The reference {table.reference} has no score in {', '.join(table.no_reference)}, so "
            "nothing could be compared with it."
        )
    for label, verdict in table.family.family.verdicts.items():
        d = verdict.difference
        assert isinstance(d, Pooled)
        missing = [s for s, one in d.settings.items() if one.n == 0 and s not in table.no_reference]
        if missing:
            notes.append(
                f"{label}: no score in {', '.join(missing)}, so no pooled value; it still counts "
                "in the correction."
            )
        flip = table.family.sign_flip[label]
        if (
            table.family.shared
            and not math.isnan(flip)
            and (flip <= alpha) != (verdict.p_adjusted <= alpha)
        ):
            notes.append(
                f"{label}: the t test and the sign-flip test disagree at {100 * alpha:g} %."
            )
    return notes


def _common_seeds(family: PooledFamily) -> Iterable[str]:
    """Which methods were compared on fewer seeds than a setting has, since the settings share
    their seeds."""
    labels: dict[tuple[int, ...], list[str]] = {}
    for label, verdict in family.family.verdicts.items():
        d = verdict.difference
        assert isinstance(d, Pooled)
        counts = [one.n for one in d.settings.values()]
        if family.shared and min(counts) and d.n < max(counts):
            labels.setdefault(d.seeds, []).append(label)
    for seeds, alike in labels.items():
        listed = ", ".join(map(str, seeds)) or "none"
        yield (
            f"{', '.join(alike)}: compared on the {count(len(seeds), 'seed')} that all settings "
            f"have ({listed}), the means are over all."
        )


def digest(table: PooledTable) -> str:
    """Of the settings' digests, in their order."""
    text = json.dumps([list(table.digests.items()), table.family.shared])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pooled_files(table: PooledTable) -> dict[str, bytes]:
    """The table's files by name."""
    document = pooled_document(table)
    return {
        "leaderboard.csv": leaderboard_csv(pooled_frame(table), document.digest, table.software),
        "leaderboard.md": to_markdown(document).encode(),
        "leaderboard.tex": to_latex(document).encode(),
        **deployment_files(table.deployment, document.digest, table.software),
    }


def write_pooled(table: PooledTable, folder: Path, places: Mapping[str, str]) -> tuple[Path, ...]:
    """Write the table and, for checking it, where its settings' reports are: `places`,
    folders relative to this one."""
    shared = table.family.shared
    study = {"format": FORMAT, "name": table.name, "pooled": dict(places), "shared": shared}
    contents = pooled_files(table) | {STUDY: (json.dumps(study, indent=1) + "\n").encode()}
    if table.deployment:
        drawn = draw_tradeoffs(table.deployment)
        contents |= {f"figures/{name}": content for name, content in drawn.files().items()}
    return write_files(contents, folder)
