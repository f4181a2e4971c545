"""One pair seed by seed, and the seeds that a difference needs."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.power import TTestPower
from support.fake_study import RIGHT
from typer.testing import CliRunner

from kdbench.cli import app
from kdbench.report.check import check_report
from kdbench.report.compare import compare_rows, comparison_sentences
from kdbench.report.data.external import read_results, split_settings
from kdbench.report.forecast import TooFewRuns, forecast_seeds, forecast_sentences
from kdbench.report.leaderboard import build_leaderboard
from kdbench.report.needs import seeds_to_equate, seeds_to_tell
from kdbench.report.rows import UnknownRow
from kdbench.stats import TESTS, Analysis, judge, paired_difference, seeds_for_equality
from kdbench.stats.moderated import common_variance


def points(label, row):
    return np.array(RIGHT[label, row]) / 10


def test_a_pair_by_hand(report_data):
    pair = compare_rows(report_data, "kd:default", "kd-tutorial")
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
    text = " ".join(comparison_sentences(pair))
    assert f"{(a - b).mean():+.2f}" in text
    assert f"better on {(a > b).sum()} of 5" in text
    assert "not corrected" in text


def test_a_pair_is_on_the_seeds_that_both_have(report_data):
    pair = compare_rows(report_data, "dml", "at")
    assert pair.difference.seeds == (0, 1, 2)
    assert compare_rows(report_data, "fsp:default", "kd").difference.n == 0


def test_unknown_rows(report_data):
    with pytest.raises(UnknownRow, match=r"'fake_study' has no row 'kdd'; it has .*kd:tuned"):
        compare_rows(report_data, "kdd", "ce")
    with pytest.raises(UnknownRow, match="no row 'kd:pinned'"):
        compare_rows(report_data, "kd:pinned", "ce")


def test_the_seeds_have_the_power_that_statsmodels_computes(report_data):
    forecast = forecast_seeds(report_data, 0.3)
    d = points("kd", "tuned") - points("ce", "only")
    kd = next(n for n in forecast.needs if n.label == "kd")
    assert kd.sd == pytest.approx(d.std(ddof=1))
    alpha = 0.05 / forecast.comparisons
    power = TTestPower().power(0.3 / kd.sd, kd.seeds, alpha)
    less = TTestPower().power(0.3 / kd.sd, kd.seeds - 1, alpha)
    assert less < 0.8 <= power


def test_one_comparison_is_named_in_the_singular(report_data):
    forecast = replace(forecast_seeds(report_data, 0.3), comparisons=1)
    assert "1 comparison):" in next(iter(forecast_sentences(forecast)))


def test_a_smaller_difference_needs_more_seeds_and_hours(report_data):
    small, large = forecast_seeds(report_data, 0.2), forecast_seeds(report_data, 1.0)
    few, many = large.typical.seeds, small.typical.seeds
    assert many > few
    assert small.hours(many) / large.hours(few) == pytest.approx(many / few)
    runs = report_data.runs[report_data.runs["row"] != "teacher"]
    per_row = runs.groupby(["label", "row"])["measured.seconds"].median().dropna()
    assert large.hours(few) == pytest.approx(few * per_row.sum() / 3600)
    text = " ".join(forecast_sentences(small))
    assert f"{many} seeds" in text
    assert "estimates from" in text


def test_the_moderated_test_needs_fewer_seeds_and_equality_has_its_own(report_data):
    from dataclasses import replace

    plan = replace(report_data.plan, test="moderated-t")
    moderated = forecast_seeds(replace(report_data, plan=plan), 20.0)
    paired = forecast_seeds(report_data, 20.0)
    noisiest = max(moderated.needs, key=lambda n: n.sd).label
    few, many = (next(n for n in f.needs if n.label == noisiest) for f in (moderated, paired))
    assert few.seeds < many.seeds
    assert "two-sided moderated t test" in " ".join(forecast_sentences(moderated))
    by_points = {round(e.points / moderated.analysis.margin, 2): e for e in moderated.effects}
    assert list(by_points) == [0, 0.25, 0.5, 1, 2, 5]
    assert by_points[0].seeds is None
    assert by_points[1].equal_seeds is None
    assert by_points[0].equal_seeds < by_points[0.5].equal_seeds
    assert by_points[5].seeds < by_points[1].seeds
    kd = next(n for n in moderated.needs if n.label == "kd")
    assert kd.equal_seeds == seeds_for_equality(
        moderated.analysis.margin / kd.sd,
        comparisons=moderated.comparisons,
        common=common_of(report_data, plan) / kd.sd**2,
        least=moderated.analysis.margin * moderated.analysis.image / kd.sd**2,
    )


def common_of(report_data, plan):
    family = build_leaderboard(report_data.runs, plan, report_data.cost).family
    return common_variance({k: v.difference for k, v in family.verdicts.items()})


def test_a_difference_that_cannot_be_seen(report_data):
    forecast = forecast_seeds(report_data, 1e-6)
    assert forecast.typical.seeds is None
    assert math.isnan(forecast.hours(None))
    assert "more than 10,000 seeds" in " ".join(forecast_sentences(forecast))


def test_one_seed_says_nothing(report_data):
    from dataclasses import replace

    runs = report_data.runs[report_data.runs["seed"].fillna(0) == 0]
    rows = [
        replace(row, runs={k: v for k, v in row.runs.items() if k == "0"})
        for row in report_data.plan.rows
    ]
    one = replace(report_data, runs=runs, plan=replace(report_data.plan, rows=rows))
    with pytest.raises(TooFewRuns, match="two or more seeds first"):
        forecast_seeds(one, 0.3)


def test_the_commands(report_data, tmp_path):
    folder = tmp_path / "reports" / "fake_study"
    folder.mkdir(parents=True)
    for name, content in report_data.files().items():
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


def test_a_report_is_drawn_again_from_its_own_numbers(report_data, tmp_path):
    folder = tmp_path / "reports" / "fake_study"
    folder.mkdir(parents=True)
    for name, content in report_data.files().items():
        (folder / name).write_bytes(content)
    done = CliRunner().invoke(app, ["report", "fake_study", "--root", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "from the numbers that the report keeps" in done.output
    assert check_report(folder) == []
    missing = CliRunner().invoke(app, ["report", "other", "--root", str(tmp_path)])
    assert missing.exit_code == 2
    assert "run `kdbench study other` first" in " ".join(missing.output.split())


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("points", [0.1, 0.5, 5.0])
def test_differences_without_variance_need_what_gives_them_their_verdict(test, points):
    analysis = Analysis(margin=0.2, test=test)
    noisy = {s: 70 + (-1) ** s for s in range(10)}
    others = {k: paired_difference(noisy, dict.fromkeys(range(10), 70.0)) for k in ("a", "b")}

    def judged(n, points):
        flat = dict.fromkeys(range(n), 70.0 + points)
        difference = paired_difference(flat, dict.fromkeys(range(n), 70.0))
        return judge({"flat": difference, **others}, analysis)

    told = seeds_to_tell(judged(3, points), 0.0, points)
    verdicts = [judged(n, points).verdicts["flat"] for n in (told - 1, told)]
    assert told >= 3
    assert [v.significant for v in verdicts] == [False, True]
    equal = seeds_to_equate(judged(3, 0.0), 0.0, 0.0)
    verdicts = [judged(n, 0.0).verdicts["flat"] for n in (equal - 1, equal)]
    assert equal >= 3
    assert [v.equal for v in verdicts] == [False, True]
    assert seeds_to_tell(judged(3, points), 0.0, 0.0) is None
    assert seeds_to_equate(judged(3, points), 0.0, 0.2) is None


def test_nothing_is_called_detectable_where_nothing_varies(tmp_path):
    lines = [f"{m},a,{s},{70 + s + d}" for m, d in (("ce", 0), ("kd", 0.5)) for s in range(4)]
    (tmp_path / "r.csv").write_text("\n".join(["method,setting,seed,score", *lines]))
    data = split_settings(read_results(tmp_path / "r.csv"), "r.csv", "ce", 0.2)["a"]
    board = build_leaderboard(data.runs, data.plan, data.cost)
    assert board.family.sd == 0
    assert not any("etectable" in caption for caption in board.captions)
    assert forecast_seeds(data, 0.3).typical.seeds == 6  # 2 / 2**6 is at most 0.05
