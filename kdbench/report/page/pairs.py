"""Methods against each other: the verdict on each pair, and the scores by seed of every row."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from kdbench.report.data.report_data import ReportData
from kdbench.report.leaderboard import Leaderboard
from kdbench.report.rows import TableRow, compared_rows, primary_rows, table_rows
from kdbench.report.writers.cells import signed_text
from kdbench.stats import FEWEST_SEEDS, judge, paired_difference

KINDS = {
    "better": "better",
    "worse": "worse",
    "practically": "equal",
}
"""The class of a cell by the first word of its verdict."""


@dataclass(frozen=True)
class PairCell:
    """The difference of a row's method from a column's, in points.

    `kind` is the verdict on it: `better`, `worse`, `equal`, or empty where the two are not told
    apart."""

    text: str
    kind: str


@dataclass(frozen=True)
class Pairs:
    """The methods that have enough seeds, best first, and a row of cells for each; the cell of a
    method with itself is None. `comparisons` counts the pairs that the correction counts."""

    labels: tuple[str, ...]
    cells: tuple[tuple[PairCell | None, ...], ...]
    comparisons: int


def pairs_of(board: Leaderboard, data: ReportData) -> Pairs | None:
    """Test all pairs of the rows that stand for their methods, corrected over all pairs; None
    where fewer than three methods have enough seeds: two are on the board already.

    With looks a pair is tested at the error of the look that spends the least of those at which
    the pairs are.
    """
    compared = _compared(board, data)
    members = {
        label: compared[label].scores
        for label in dict.fromkeys(map(str, board.table["method"]))
        if label in compared and len(compared[label].scores) >= FEWEST_SEEDS
    }
    if len(members) < 3:
        return None
    analysis, labels = board.family.analysis, tuple(members)
    differences = {
        f"{a} {b}": paired_difference(
            members[labels[a]], members[labels[b]], analysis.level, analysis.image
        )
        for a, b in combinations(range(len(labels)), 2)
    }
    share = min(analysis.share(d.n) for d in differences.values())
    family = judge(differences, replace(analysis, alpha=analysis.alpha * share))

    def cell(a: int, b: int) -> PairCell | None:
        if a == b:
            return None
        verdict = family.verdicts[f"{min(a, b)} {max(a, b)}"]
        sign = 1 if a < b else -1
        word = verdict.text.split()[0]
        if sign < 0:
            word = {"better": "worse", "worse": "better"}.get(word, word)
        text = signed_text(sign * verdict.difference.mean)
        star = "*" * verdict.significant + "=" * verdict.equal
        return PairCell(text + star, KINDS.get(word, ""))

    size = range(len(labels))
    cells = tuple(tuple(cell(a, b) for b in size) for a in size)
    return Pairs(labels, cells, family.size)


def _compared(board: Leaderboard, data: ReportData) -> dict[str, TableRow]:
    return compared_rows(primary_rows(table_rows(data.runs, data.plan)), board.reference)


def pair_numbers(board: Leaderboard, data: ReportData, names: Sequence[str]) -> dict[str, Any]:
    """What the page needs to set two rows side by side: `rows` with name and scores in percent
    by seed, the two that are shown `first`, `image` (the least standard deviation of a
    difference, in points) and the factor of the interval by the number of seeds: `t` for two rows
    that are both `compared`, with looks that of an interval that holds for all of them together,
    and `once` for others. `names` are those of the board's rows."""
    from scipy import stats

    scores = {(r.label, r.row): r.scores for r in table_rows(data.runs, data.plan)}
    lines = zip(board.table["method"], board.table["row"], names, strict=True)
    compared = {(row.label, row.row) for row in _compared(board, data).values()}
    shown = [((label, row), name, scores.get((label, row), {})) for label, row, name in lines]
    shown = [line for line in shown if line[2]]
    references = [k for k, ((label, _), _, _) in enumerate(shown) if label == board.reference]
    other = references[0] if references and references[0] else min(1, len(shown) - 1)
    most = max((len(by_seed) for _, _, by_seed in shown), default=0)
    analysis = board.family.analysis

    def factors(looks: bool) -> dict[int, float]:
        errors = {
            n: (1 - analysis.level) * (analysis.share(n) if looks else 1)
            for n in range(2, most + 1)
        }
        return {n: round(float(stats.t.isf(e / 2, n - 1)), 4) for n, e in errors.items()}

    return {
        "rows": [
            {
                "name": name,
                "scores": {str(s): round(v, 4) for s, v in by_seed.items()},
                "compared": row in compared,
            }
            for row, name, by_seed in shown
        ],
        "first": [0, other],
        "image": analysis.image,
        "t": factors(looks=True),
        "once": factors(looks=False),
        "level": 100 * analysis.level,
    }
