"""Studies pooled into one table."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats
from support.fake_study import RIGHT

from kdbench.report.pooled import NotComparable, pool_settings
from kdbench.report.pooled_table import pooled_document, pooled_frame
from kdbench.stats import Analysis, adjust


def other(report_data, **plan):
    """The same study in another setting: half the differences, other data."""
    runs = report_data.runs.copy()
    runs["accuracy"] = 0.4 + runs["accuracy"] / 2
    data = replace(report_data.plan.data, name="mnist")
    return replace(report_data, runs=runs, plan=replace(report_data.plan, data=data, **plan))


def test_pooled_by_hand(report_data):
    pooled = pool_settings("both", {"a": report_data, "b": other(report_data)})
    assert not pooled.family.shared
    table = pooled_frame(pooled).set_index("method")
    d = (np.array(RIGHT["kd", "tuned"]) - np.array(RIGHT["ce", "only"])) / 10
    ses = [scipy_stats.sem(d), scipy_stats.sem(d / 2)]
    se = np.hypot(*ses) / 2
    df = (ses[0] ** 2 + ses[1] ** 2) ** 2 / ((ses[0] ** 4 + ses[1] ** 4) / 4)
    mean = (d.mean() + d.mean() / 2) / 2
    assert table.loc["kd", "difference"] == pytest.approx(mean)
    p = 2 * scipy_stats.t.sf(mean / se, df)
    # All ten differences are positive, so of all flips only two reach their mean.
    assert table.loc["kd", "p"] == pytest.approx(max(p, 2 / 2**10))
    raw = table["p"].drop(index="ce")
    assert table.loc["kd", "p_adjusted"] == pytest.approx(
        adjust(list(raw))[list(raw.index).index("kd")]
    )
    assert table.loc["kd", "a: difference"] == pytest.approx(d.mean())
    assert table.loc["kd", "verdict"] == "better"


def test_a_method_that_a_setting_did_not_declare_is_not_counted(report_data):
    rows = [r for r in report_data.plan.rows if r.label != "rkd"]
    pooled = pool_settings("both", {"a": report_data, "b": other(report_data, rows=rows)})
    whole = pool_settings("both", {"a": report_data, "b": other(report_data)})
    assert "rkd" not in set(pooled_frame(pooled)["method"])
    assert pooled.family.family.size == whole.family.family.size - 1
    notes = pooled_document(pooled).notes
    assert any("not counted: " in note and "rkd (not in b)" in note for note in notes)
    # One that runs with its published hyperparameters there is not tuned in every setting.
    rows = [r for r in report_data.plan.rows if (r.label, r.row) != ("rkd", "tuned")]
    pooled = pool_settings("both", {"a": report_data, "b": other(report_data, rows=rows)})
    (note,) = (note for note in pooled_document(pooled).notes if "rkd" in note)
    assert note.startswith("Not tuned")


def test_a_method_that_failed_in_a_setting_has_no_pooled_value_but_counts(report_data):
    there = other(report_data)
    runs = there.runs.copy()
    lost = runs["label"] == "rkd"
    runs.loc[lost, "state"] = "diverged"
    runs.loc[lost, "accuracy"] = np.nan
    pooled = pool_settings("both", {"a": report_data, "b": replace(there, runs=runs)})
    table = pooled_frame(pooled).set_index("method")
    assert np.isnan(table.loc["rkd", "difference"])
    whole = pool_settings("both", {"a": report_data, "b": there})
    assert pooled.family.family.size == whole.family.family.size
    assert any("rkd: no score in b" in note for note in pooled_document(pooled).notes)


def test_a_reference_that_failed_in_a_setting_is_what_is_to_blame(report_data):
    there = other(report_data)
    runs = there.runs.copy()
    runs.loc[runs["label"] == "ce", ["state", "accuracy"]] = ["diverged", np.nan]
    pooled = pool_settings("both", {"a": report_data, "b": replace(there, runs=runs)})
    notes = pooled_document(pooled).notes
    assert "The reference ce has no score in b, so nothing could be compared with it." in notes
    assert not any("rkd: no score" in note for note in notes)
    assert set(pooled_frame(pooled)["verdict"].dropna()) == {"no verdict without the reference"}


def test_settings_that_share_data_and_student_share_seeds(report_data):
    pooled = pool_settings("both", {"a": report_data, "b": replace(report_data)})
    assert pooled.family.shared
    table = pooled_frame(pooled).set_index("method")
    d = (np.array(RIGHT["kd", "tuned"]) - np.array(RIGHT["ce", "only"])) / 10
    assert table.loc["kd", "p"] == pytest.approx(scipy_stats.ttest_1samp(d, 0).pvalue)
    assert table.loc["kd", "df"] == 4
    assert "seeds are shared" in " ".join(pooled_document(pooled).captions)


def test_settings_that_share_a_teacher_for_each_seed_share_seeds(report_data):
    by_seed = {str(seed): f"teacher{seed}" for seed in range(5)}
    others = {seed: f"other {run}" for seed, run in by_seed.items()}
    one = dict.fromkeys(by_seed, "teacher0")
    for theirs, shared in ((by_seed, True), (others, False)):
        here = replace(report_data, plan=replace(report_data.plan, teachers=by_seed))
        pooled = pool_settings("both", {"a": here, "b": other(report_data, teachers=theirs)})
        assert pooled.family.shared is shared
    assert "seeds are independent" in " ".join(pooled_document(pooled).captions)
    # What is said of one teacher for all seeds is conditional on that teacher.
    for fixed in (one, {"0": "teacher0"}):
        here = replace(report_data, plan=replace(report_data.plan, teachers=fixed))
        assert not pool_settings(
            "both", {"a": here, "b": other(report_data, teachers=fixed)}
        ).family.shared


def test_the_words_follow_the_analysis(report_data, monkeypatch):
    parts = {"a": report_data, "b": other(report_data)}
    usual = " ".join(pooled_document(pool_settings("both", parts)).captions)
    assert "Holm-corrected" in usual
    assert "Too few settings to speak of settings like these" in usual
    import kdbench.report.leaderboard as board_module

    class Swapped(Analysis):
        def __init__(self, **parts):
            super().__init__(**{**parts, "correction": "bonferroni"})

    monkeypatch.setattr(board_module, "Analysis", Swapped)
    swapped = " ".join(pooled_document(pool_settings("both", parts)).captions)
    assert "Bonferroni-corrected" in swapped
    assert "Holm" not in swapped


def test_what_cannot_be_pooled(report_data):
    with pytest.raises(NotComparable, match="two or more"):
        pool_settings("one", {"a": report_data})
    with pytest.raises(NotComparable, match="different references: a with ce, b with kd"):
        pool_settings("both", {"a": report_data, "b": other(report_data, reference="kd")})


def renumbered(report_data, by):
    """The same study with its seeds counted on by so many."""

    def later(row):
        return replace(row, runs={str(int(s) + by): run for s, run in row.runs.items()})

    rows = list(map(later, report_data.plan.rows))
    runs = report_data.runs.assign(seed=report_data.runs["seed"] + by)
    return replace(report_data, runs=runs, plan=replace(report_data.plan, rows=rows))


def test_settings_whose_shared_seeds_are_too_few_in_common(report_data):
    for by, common in ((5, 0), (3, 2)):
        parts = {"a": report_data, "b": renumbered(report_data, by)}
        with pytest.raises(NotComparable) as error:
            pool_settings("both", parts)
        assert f"they have {common} in common and a verdict needs 3" in str(error.value)
        later = ", ".join(str(s + by) for s in range(5))
        assert f"a has 0, 1, 2, 3, 4; b has {later}" in str(error.value)
        # That is an option for results of a file, which alone say what they measure.
        assert "--no-shared-seeds" not in str(error.value)
        assert "looks" not in str(error.value)
        files = {s: replace(e, plan=replace(e.plan, score="Score")) for s, e in parts.items()}
        with pytest.raises(NotComparable, match="--no-shared-seeds"):
            pool_settings("both", files)
        independent = pool_settings("both", parts, shared=False)
        assert independent.family.family.verdicts["kd"].difference.n == 5


def test_looks_are_named_where_they_leave_too_few_seeds_in_common(report_data):
    looked = replace(report_data, plan=replace(report_data.plan, looks=(3, 5)))
    later = renumbered(report_data, 1)
    assert pool_settings("both", {"a": report_data, "b": later}).family.shared
    with pytest.raises(NotComparable) as error:
        pool_settings("both", {"a": looked, "b": later})
    assert "a has 0, 1, 2; b has 1, 2, 3, 4, 5" in str(error.value)
    assert "Of a, which has looks, only the first 3 seeds are taken" in str(error.value)


def test_seeds_that_are_not_in_common_are_noted(report_data):
    pooled = pool_settings("both", {"a": report_data, "b": renumbered(report_data, 2)})
    assert pooled.family.family.verdicts["kd"].difference.seeds == (2, 3, 4)
    (note,) = (n for n in pooled_document(pooled).notes if "kd" in n and "all settings" in n)
    assert "compared on the 3 seeds that all settings have (2, 3, 4)" in note
    same = pool_settings("both", {"a": report_data, "b": replace(report_data)})
    assert not any("all settings have" in note for note in pooled_document(same).notes)
