"""One pair seed by seed, and the seeds that a difference needs."""

import gc
import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.power import TTestPower
from support.fake_study import RIGHT, FakeStudy
from typer.testing import CliRunner

from kdbench.cli import app
from kdbench.report.check import check
from kdbench.report.compare import compare, sentences
from kdbench.report.forecast import NothingStored, forecast
from kdbench.report.forecast import sentences as forecast_sentences
from kdbench.report.rows import UnknownRow


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda *a: 0)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory):
    return FakeStudy(tmp_path_factory.mktemp("made")).evidence()


def points(label, row):
    return np.array(RIGHT[label, row]) / 10


def test_a_pair_by_hand(evidence):
    pair = compare(evidence, "kd:default", "kd-tutorial")
    a, b = points("kd", "default"), points("kd-tutorial", "pinned")
    assert pair.first == "kd (default)"
    assert pair.second == "kd-tutorial (pinned)"
    assert pair.difference.mean == pytest.approx((a - b).mean())
    result = scipy_stats.ttest_rel(a, b)
    assert pair.difference.p == pytest.approx(result.pvalue)
    interval = result.confidence_interval(0.95)
    assert (pair.difference.low, pair.difference.high) == pytest.approx(
        (interval.low, interval.high)
    )
    said = " ".join(sentences(pair))
    assert f"{(a - b).mean():+.2f}" in said
    assert f"better on {(a > b).sum()} of 5" in said
    assert "not corrected" in said


def test_a_pair_is_on_the_seeds_that_both_have(evidence):
    pair = compare(evidence, "dml", "at")
    assert pair.difference.seeds == (0, 1, 2)
    assert compare(evidence, "fsp:default", "kd").difference.n == 0


def test_unknown_rows(evidence):
    with pytest.raises(UnknownRow, match=r"'fake_study' has no row 'kdd'; it has .*kd:tuned"):
        compare(evidence, "kdd", "ce")
    with pytest.raises(UnknownRow, match="no row 'kd:pinned'"):
        compare(evidence, "kd:pinned", "ce")


def test_the_seeds_have_the_power_that_statsmodels_computes(evidence):
    found = forecast(evidence, 0.3)
    d = points("kd", "tuned") - points("ce", "only")
    kd = next(n for n in found.needs if n.label == "kd")
    assert kd.sd == pytest.approx(d.std(ddof=1))
    alpha = 0.05 / found.comparisons
    power = TTestPower().power(0.3 / kd.sd, kd.seeds, alpha)
    less = TTestPower().power(0.3 / kd.sd, kd.seeds - 1, alpha)
    assert less < 0.8 <= power


def test_a_smaller_difference_needs_more_seeds_and_hours(evidence):
    small, large = forecast(evidence, 0.2), forecast(evidence, 1.0)
    assert small.typical > large.typical
    assert small.hours / large.hours == pytest.approx(small.typical / large.typical)
    runs = evidence.runs[evidence.runs["row"] != "teacher"]
    per_row = runs.groupby(["label", "row"])["measured.seconds"].median().dropna()
    assert large.hours == pytest.approx(large.typical * per_row.sum() / 3600)
    said = " ".join(forecast_sentences(small))
    assert f"{small.typical} seeds" in said
    assert "estimates from" in said


def test_a_difference_that_cannot_be_seen(evidence):
    found = forecast(evidence, 1e-6)
    assert found.typical is None
    assert math.isnan(found.hours)
    assert "more than 10,000 seeds" in " ".join(forecast_sentences(found))


def test_one_seed_says_nothing(evidence):
    from dataclasses import replace

    runs = evidence.runs[evidence.runs["seed"].fillna(0) == 0]
    rows = [
        replace(row, runs={k: v for k, v in row.runs.items() if k == "0"})
        for row in evidence.plan.rows
    ]
    one = replace(evidence, runs=runs, plan=replace(evidence.plan, rows=rows))
    with pytest.raises(NothingStored, match="two or more seeds first"):
        forecast(one, 0.3)


def test_the_commands(evidence, tmp_path):
    folder = tmp_path / "reports" / "fake_study"
    folder.mkdir(parents=True)
    for name, content in evidence.files().items():
        (folder / name).write_bytes(content)

    def run(*words):
        return CliRunner().invoke(app, [*words, "--root", str(tmp_path)])

    done = run("compare", "kd", "rkd", "--study", "fake_study")
    assert done.exit_code == 0, done.output
    assert "93.00" in done.output
    done = run("power", "fake_study", "--detect", "0.3")
    assert done.exit_code == 0, done.output
    assert "to detect 0.3 points" in done.output.lower()
    for words, message in (
        (("compare", "kd", "nobody", "--study", "fake_study"), "no row 'nobody'"),
        (("compare", "kd", "rkd", "--study", "other"), "holds no study.json"),
        (("power", "fake_study", "--detect", "0"), "must be more than 0"),
    ):
        refused = run(*words)
        assert refused.exit_code == 2
        assert message in " ".join(refused.output.split())
        assert "unexpected" not in refused.output


def test_a_report_is_drawn_again_from_its_own_numbers(evidence, tmp_path):
    folder = tmp_path / "reports" / "fake_study"
    folder.mkdir(parents=True)
    for name, content in evidence.files().items():
        (folder / name).write_bytes(content)
    done = CliRunner().invoke(app, ["report", "fake_study", "--root", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "from the numbers that the report keeps" in done.output
    assert check(folder) == []
    missing = CliRunner().invoke(app, ["report", "other", "--root", str(tmp_path)])
    assert missing.exit_code == 2
    assert "run `kdbench study other` first" in " ".join(missing.output.split())
