"""How often the words are wrong, and what they see, where a study has looks: simulated studies
whose truth is known, judged by `kdbench.stats.judge_looks` itself.

    PYTHONPATH=tests python -m support.look_truth      # the last tables of docs/verdict.md
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from support.simulated_studies import NOISES, equal_spreads
from support.truth import markdown

from kdbench.stats import Analysis, Family, judge, judge_looks, paired_difference
from kdbench.stats.analysis import MODERATED

LOOKS = (5, 10, 20, 40)
SEEDS = range(LOOKS[-1])
METHODS = (3, 20)
EFFECTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
"""True differences, in standard deviations of the paired difference."""


def judged(values: np.ndarray, analysis: Analysis) -> Family:
    """The verdicts on differences (methods, seeds) from a reference whose scores are 0."""
    base = dict.fromkeys(SEEDS, 0.0)
    scores = {f"m{k}": dict(zip(SEEDS, own, strict=True)) for k, own in enumerate(values)}
    if analysis.looks:
        return judge_looks(scores, base, analysis, SEEDS, len(analysis.looks))
    differences = {
        name: paired_difference(own, base, image=analysis.image) for name, own in scores.items()
    }
    return judge(differences, analysis)


@dataclass(frozen=True)
class Wrong:
    """Percentages of studies in which some method is wrongly called better or worse, or equal;
    and those in which it is the former among methods of which every second one truly is."""

    differs: float
    equal: float
    among: float


def wrong(noise: str, k: int, repetitions: int) -> Wrong:
    study = NOISES[noise]
    analysis = Analysis(
        margin=study.margin, image=1.0 if study.counts else 0.0, test=MODERATED, looks=LOOKS
    )
    rng = np.random.default_rng([len(noise), k, 2])
    equal, apart, more = (
        study.differences(rng, repetitions, k - 1, len(SEEDS), shift)
        for shift in (0.0, study.margin, 0.0)
    )
    spread = np.maximum(more.std(axis=(0, 2), keepdims=True), 1e-9)
    truly = np.arange(k - 1) % 2 == 1
    more = more + np.where(truly[:, None], 2 * spread[0], 0.0)
    if study.counts:
        more = np.round(more)
    counts = [0, 0, 0]
    for one, two, three in zip(equal, apart, more, strict=True):
        counts[0] += any(v.significant for v in judged(one, analysis).verdicts.values())
        counts[1] += any(v.equal for v in judged(two, analysis).verdicts.values())
        verdicts = judged(three, analysis).verdicts.values()
        counts[2] += any(v.significant for v, t in zip(verdicts, truly, strict=True) if not t)
    return Wrong(*(100 * count / repetitions for count in counts))


def power(repetitions: int, margin: float = 0.5) -> pd.DataFrame:
    """What 20 methods with the true `EFFECTS` in turn are called, by effect: with looks, and
    with 10, 20 and 40 seeds for all."""
    effects = np.resize(EFFECTS, 19)
    rng = np.random.default_rng(3)
    own, reference = equal_spreads(19)
    noise = own[:, None] * rng.normal(size=(repetitions, 19, len(SEEDS)))
    values = effects[:, None] + noise - reference * rng.normal(size=(repetitions, 1, len(SEEDS)))
    found: dict[str, dict[str, list[float]]] = {}
    for one in values:
        for name, looks, seeds in [
            ("looks at 5, 10, 20, 40", LOOKS, 40),
            *((f"{n} seeds", (), n) for n in (10, 20, 40)),
        ]:
            analysis = Analysis(margin=margin, test=MODERATED, looks=looks)
            cut = one if looks else np.where(np.arange(40) < seeds, one, math.nan)
            for verdict, effect in zip(
                judged(cut, analysis).verdicts.values(), effects, strict=True
            ):
                cell = found.setdefault(name, {})
                word = verdict.equal if effect == 0 else verdict.significant
                label = "0, called equal" if effect == 0 else f"{effect:g}"
                cell.setdefault(label, []).append(100 * word)
                cell.setdefault("seeds a method", []).append(verdict.difference.n)
    frame = pd.DataFrame({
        name: {label: f"{np.mean(values):.0f}" for label, values in sorted(cell.items())}
        for name, cell in found.items()
    }).T  # fmt: skip
    frame.index.name = "called better or worse, %, by true difference"
    return frame


def tables(repetitions: int, methods: Sequence[int] = METHODS) -> str:
    """What docs/verdict.md holds of looks."""
    lines = {}
    for noise in NOISES:
        cells = [wrong(noise, k, repetitions) for k in methods]
        lines[noise] = {
            f"{k} methods": f"{c.differs:.1f} / {c.equal:.1f} / {c.among:.1f}"
            for k, c in zip(methods, cells, strict=True)
        }
    frame = pd.DataFrame(lines).T
    frame.index.name = f"looks at 5, 10, 20 and 40 seeds, {repetitions:,} repetitions"
    return "\n\n".join([markdown(frame), markdown(power(repetitions))])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=1000)
    print(tables(parser.parse_args().repetitions))
