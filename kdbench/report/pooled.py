"""Several settings in one table: each method against the reference over all of them."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kdbench.records.store import write_whole
from kdbench.report.data.report_data import STUDY, Evidence
from kdbench.report.leaderboard import Line, in_family, lines_of, mains_of
from kdbench.report.write import board_csv, judge, text_tables
from kdbench.report.writers.cells import MISSING, Cell, Grid, Sheet, interval_cell, p_text
from kdbench.stats import (
    Analysis,
    BestSet,
    Pooled,
    Scores,
    SeveralFamily,
    Verdict,
    best_set_several,
    judge_several,
    paired_difference,
)


class NotComparable(ValueError):
    """Settings that cannot stand in one table."""


@dataclass(frozen=True, eq=False)
class Several:
    """The pooled verdict over settings, best method first.

    `means` are the methods' mean scores over the settings (percentage points; NaN where
    one is missing), `digests` say what each setting was made from; methods that stand
    `apart` are not in the family of every setting.
    """

    name: str
    reference: str
    digests: Mapping[str, str]
    data: tuple[str, ...]
    family: SeveralFamily
    best: BestSet
    means: Mapping[str, float]
    apart: tuple[str, ...]

    @property
    def analysis(self) -> Analysis:
        """What was declared."""
        return self.family.family.analysis

    @property
    def order(self) -> list[str]:
        """The methods by pooled mean, those without one last."""
        rank = {k: math.inf if math.isnan(v) else -v for k, v in self.means.items()}
        return sorted(rank, key=lambda k: (rank[k], k))


def several(name: str, settings: Mapping[str, Evidence], shared: bool | None = None) -> Several:
    """Pool settings, each with the same reference.

    `shared`: whether a seed means the same random streams in all of them; None asks the
    plans: settings that share data and student do. The margin is the largest declared.
    Raises `NotComparable` where references differ or fewer than two settings are given.
    """
    if len(settings) < 2:
        raise NotComparable("one setting is not several: name two or more studies")
    references = {s: str(e.plan["reference"]) for s, e in settings.items()}
    if len(set(references.values())) > 1:
        said = ", ".join(f"{s} with {r}" for s, r in references.items())
        raise NotComparable(f"these studies compare with different references: {said}")
    boards = {s: judge(e) for s, e in settings.items()}
    widest = max((b.family.analysis for b in boards.values()), key=lambda a: a.margin)
    reference = next(iter(references.values()))
    mains = {s: mains_of(lines_of(e.runs, e.plan)) for s, e in settings.items()}
    scores = _scores(mains)
    pooled = [k for k in scores if k != reference and _declared(k, mains)]
    apart = [k for k in scores if k != reference and k not in pooled]
    differences = {
        label: {
            s: paired_difference(found, scores[reference][s], widest.level)
            for s, found in scores[label].items()
        }
        for label in pooled
    }
    shared = _share(settings) if shared is None else shared
    entered = {k: scores[k] for k in (reference, *pooled)}
    means = {k: _mean(v, settings) for k, v in entered.items()}
    return Several(
        name,
        reference,
        {s: e.digest for s, e in settings.items()},
        tuple(dict.fromkeys(_data(s, e) for s, e in settings.items())),
        judge_several(differences, list(settings), shared, widest),
        best_set_several(entered, list(settings), shared, widest),
        means,
        tuple(apart),
    )


def _declared(label: str, mains: Mapping[str, Mapping[str, Line]]) -> bool:
    """Whether every setting declared the method, which was known before any number. One
    that failed in a setting stays declared, and counts in the correction."""
    return all(label in lines and in_family(lines[label]) for lines in mains.values())


def _scores(mains: Mapping[str, Mapping[str, Line]]) -> dict[str, dict[str, Scores]]:
    """Scores by method, setting and seed, of the rows that stand for the methods."""
    found: dict[str, dict[str, Scores]] = {}
    for setting, lines in mains.items():
        for label, line in lines.items():
            found.setdefault(label, {})[setting] = line.scores
    return found


def _mean(scores: Mapping[str, Scores], settings: Mapping[str, Any]) -> float:
    if set(scores) != set(settings) or not all(scores.values()):
        return math.nan
    return sum(sum(v.values()) / len(v) for v in scores.values()) / len(scores)


def _data(setting: str, evidence: Evidence) -> str:
    return str((evidence.plan.get("data") or {}).get("name", setting))


def _share(settings: Mapping[str, Evidence]) -> bool:
    """Streams are keyed by data and student model, so settings that share both share them."""
    keys = [(_data(s, e), (e.plan.get("models") or {}).get("student")) for s, e in settings.items()]
    return len(set(keys)) < len(keys)


# -- the table


def frame(found: Several) -> pd.DataFrame:
    """The table with all its digits, in points."""
    rows = []
    for label in found.order:
        verdict = found.family.family.verdicts.get(label)
        row: dict[str, Any] = {"method": label, "best": label in found.best.members}
        row["mean over the settings"] = found.means[label]
        if verdict:
            row |= _verdict(found, label, verdict)
        rows.append(row)
    return pd.DataFrame(rows)


def _verdict(found: Several, label: str, verdict: Verdict) -> dict[str, Any]:
    d = verdict.difference
    assert isinstance(d, Pooled)
    row: dict[str, Any] = {
        "difference": d.mean, "difference_low": d.low, "difference_high": d.high,
        "seeds": d.n, "df": d.df, "p": d.p, "p_adjusted": verdict.p_adjusted,
        "p_equal": verdict.p_equal, "verdict": verdict.words,
        "p_sign_flip_adjusted": found.family.flip[label],
        "p_wilcoxon_adjusted": found.family.wilcoxon[label],
    }  # fmt: skip
    for setting, one in d.settings.items():
        row |= {f"{setting}: difference": one.mean, f"{setting}: difference_low": one.low,
                f"{setting}: difference_high": one.high}  # fmt: skip
    return row


def sheet(found: Several) -> Sheet:
    """The table and its words."""
    level = f"{100 * found.analysis.level:g} %"
    ref, settings = found.reference, list(found.digests)
    correction = found.analysis.correction_name
    headers = [
        "method", "mean", f"Δ {ref} [{level}]", f"p ({correction})", "verdict",
        f"sign-flip p ({correction})", f"Wilcoxon p ({correction})",
        *(f"Δ {ref}, {s} [{level}]" for s in settings),
    ]  # fmt: skip
    rows = [tuple(_row(found, label, settings)) for label in found.order]
    grid = Grid(tuple(headers), tuple(rows), tuple(found.order), ("",) * len(rows))
    return Sheet(
        name=found.name,
        title=f"{' + '.join(settings)}",
        question=f"Which method is better on these {len(settings)} settings taken together?",
        headline="Mean scores in %, differences in percentage points.",
        grid=grid,
        captions=tuple(_captions(found)),
        notes=tuple(_notes(found)),
        digest=digest(found),
    )


def _row(found: Several, label: str, settings: Sequence[str]) -> list[Cell]:
    bold = label in found.best.members
    mean = found.means[label]
    cells = [
        Cell(label, bold=bold),
        Cell(f"{mean:.2f}" if not math.isnan(mean) else MISSING, bold, True),
    ]
    verdict = found.family.family.verdicts.get(label)
    if verdict is None:  # the reference
        none = Cell(MISSING, number=True)
        return [*cells, none, none, Cell(MISSING), none, none, *(none for _ in settings)]
    d = verdict.difference
    assert isinstance(d, Pooled)
    return [
        *cells,
        interval_cell(d.mean, d.low, d.high, verdict.significant),
        Cell(p_text(verdict.p_adjusted), number=True),
        Cell(verdict.words),
        Cell(p_text(found.family.flip[label]), number=True),
        Cell(p_text(found.family.wilcoxon[label]), number=True),
        *(interval_cell(x.mean, x.low, x.high) for x in (d.settings[s] for s in settings)),
    ]


def _captions(found: Several) -> Sequence[str]:
    family, analysis = found.family.family, found.analysis
    percent = f"{100 * analysis.alpha:g} %"
    how = (
        "Their seeds are shared, so each seed is averaged over the settings first."
        if found.family.shared
        else "Their seeds are independent."
    )
    said = [
        f"Settings: {', '.join(found.digests)}, each counting the same. {how} A method is "
        "represented by its tuned row, or its only row where nothing is tuned.",
        f"p: {found.family.test} against {found.reference}, {analysis.correction_name}-corrected "
        f"over {family.size} comparisons at a family-wise error of {percent}; * marks what is "
        "significant. It speaks of these settings and no others.",
        "Sign-flip: the exact (or, of more than 16 differences, 99,999-draw) sign-flip test of "
        "the same means, corrected alike.",
        f"Practically equal: two one-sided tests against a margin of {analysis.margin:.2g} points.",
    ]
    needed = found.family.settings_needed
    if len(found.digests) < needed:
        said.append(
            f"Too few settings to speak of settings like these: Wilcoxon's test needs {needed} "
            f"for {family.size} comparisons."
        )
    else:
        said.append(
            "Wilcoxon: signed-rank test over the settings' means, as if they were drawn from "
            f"settings like these; they use {len(found.data)} data sets "
            f"({', '.join(found.data)}), and settings that share data are not independent."
        )
    if found.best.best:
        said.append(
            f"Bold: not told apart from the highest mean ({found.best.best}) by the same test of "
            f"all {found.best.comparisons} pairs, {analysis.correction_name}-corrected."
        )
    if family.size:
        said.append(_detectable(found.family))
    return said


def _detectable(family: SeveralFamily) -> str:
    least, power = family.detectable, f"{100 * family.family.analysis.power:g} % power"
    if math.isinf(least):
        return (
            "So few differences can never be significant by sign flips, however large: more "
            "seeds or settings are needed for any verdict but equality."
        )
    if math.isnan(least):
        return "Too few seeds to say how small a difference could have been seen."
    return f"Smallest detectable difference of the t test at {power}: {least:.2f} points."


def _notes(found: Several) -> Sequence[str]:
    notes = []
    if found.apart:
        notes.append(
            "Not tuned (or run without knobs) in every setting, so not pooled and not counted: "
            f"{', '.join(found.apart)}."
        )
    alpha = found.analysis.alpha
    for label, verdict in found.family.family.verdicts.items():
        d = verdict.difference
        assert isinstance(d, Pooled)
        lacking = [s for s, one in d.settings.items() if one.n == 0]
        if lacking:
            notes.append(
                f"{label}: no score in {', '.join(lacking)}, so no pooled value; it still counts "
                "in the correction."
            )
        flip = found.family.flip[label]
        if (
            found.family.shared
            and not math.isnan(flip)
            and (flip <= alpha) != (verdict.p_adjusted <= alpha)
        ):
            notes.append(
                f"{label}: the t test and the sign-flip test disagree at {100 * alpha:g} %."
            )
    return notes


# -- its files


def digest(found: Several) -> str:
    """Of the settings' digests, in their order."""
    text = json.dumps([list(found.digests.items()), found.family.shared])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def texts(found: Several) -> dict[str, bytes]:
    """The table's files by name."""
    whole = sheet(found)
    return {"leaderboard.csv": board_csv(frame(found), whole.digest), **text_tables(whole)}


def write(found: Several, folder: Path, places: Mapping[str, str]) -> tuple[Path, ...]:
    """Write the table and, for checking it, where its settings' reports are: `places`,
    folders relative to this one."""
    about = {"several": dict(places), "shared": found.family.shared, "name": found.name}
    contents = texts(found) | {STUDY: (json.dumps(about, indent=1) + "\n").encode()}
    for name, content in contents.items():
        write_whole(folder / name, content)
    return tuple(folder / name for name in contents)
