"""External results: one CSV file to the same tables, or every wrong row by its line."""

import math
import re
from contextlib import suppress

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from typer.testing import CliRunner

from kdbench.cli import app
from kdbench.report.check import check_report
from kdbench.report.compare import compare_rows, comparison_sentences
from kdbench.report.data.external import WrongResults, read_results, split_settings
from kdbench.report.write import leaderboard_of

CE = {"a": (70.0, 71.0, 69.5, 70.4), "b": (90.0, 90.2, 89.9, 90.3)}
KD = {"a": (71.1, 71.9, 70.8, 71.2), "b": (90.4, 90.7, 90.2, 90.9)}


def lines(*settings):
    rows = ["method,setting,seed,score,cost"]
    for setting in settings:
        for method, scores, cost in (("ce", CE, 10), ("kd", KD, 12.5)):
            rows += [f"{method},{setting},{s},{v},{cost}" for s, v in enumerate(scores[setting])]
    return rows


def kdbench(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def wrong(tmp_path, text):
    path = tmp_path / "results.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(WrongResults) as error:
        read_results(path)
    return str(error.value)


def test_the_same_statistics_as_for_our_own_runs(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("\n".join(lines("a")))
    settings_data = split_settings(read_results(path), "r.csv", "ce", 0.2)
    board = leaderboard_of(settings_data["a"])
    verdict = board.family.verdicts["kd"]
    difference = np.array(KD["a"]) - np.array(CE["a"])
    assert verdict.difference.mean == pytest.approx(difference.mean())
    assert verdict.difference.p == pytest.approx(scipy_stats.ttest_rel(KD["a"], CE["a"]).pvalue)
    kd = board.table.set_index("method").loc["kd"]
    assert kd["relative cost (measured)"] == pytest.approx(1.25)
    assert kd["accuracy"] == pytest.approx(np.mean(KD["a"]))


def test_one_setting_gives_a_report_that_can_be_checked(tmp_path):
    (tmp_path / "results.csv").write_text("\n".join(lines("a")))
    done = kdbench("report", "--from", tmp_path / "results.csv", "--root", tmp_path)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "reports" / "results"
    assert (folder / "figures" / "forest.pdf").is_file()
    text = (folder / "leaderboard.md").read_text()
    assert "Test accuracy" not in text
    assert "agreement" not in text
    paragraph = (folder / "methods.tex").read_text()
    assert "study file" not in paragraph
    assert "hash of the results is" in paragraph
    assert check_report(folder) == []


def test_two_settings_are_pooled(tmp_path):
    (tmp_path / "results.csv").write_text("\n".join(lines("a", "b")))
    done = kdbench("report", "--from", tmp_path / "results.csv", "--root", tmp_path)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "reports" / "results"
    for part in (folder, folder / "a", folder / "b"):
        assert check_report(part) == []
    page = (tmp_path / "reports" / "index.html").read_text()
    links = re.findall(r'<h2><a href="(.*?)">', page)
    assert links == ["results/a/index.html", "results/b/index.html"]
    table = pd.read_csv(folder / "leaderboard.csv").set_index("method")
    means = [np.subtract(KD[s], CE[s]) for s in "ab"]
    by_seed = np.mean(means, axis=0)
    assert table.loc["kd", "difference"] == pytest.approx(by_seed.mean())
    assert table.loc["kd", "p"] == pytest.approx(scipy_stats.ttest_1samp(by_seed, 0).pvalue)
    path = folder / "leaderboard.tex"
    path.write_text(path.read_text().replace("+0.", "+1.", 1))
    assert "column" in check_report(path)[0]


def test_independent_seeds_are_another_test(tmp_path):
    (tmp_path / "results.csv").write_text("\n".join(lines("a", "b")))
    words = ("report", "--from", tmp_path / "results.csv", "--root", tmp_path)
    shared = kdbench(*words).output
    independent = kdbench(*words, "--no-shared-seeds").output
    assert "Their seeds are shared" in " ".join(shared.split())
    assert "Their seeds are independent" in " ".join(independent.split())


def test_settings_without_common_seeds_are_refused_before_anything_is_written(tmp_path):
    rows = lines("a") + [
        ",".join([m, s, str(int(seed) + 10), *rest])
        for m, s, seed, *rest in (line.split(",") for line in lines("b")[1:])
    ]
    (tmp_path / "results.csv").write_text("\n".join(rows))
    words = ("report", "--from", tmp_path / "results.csv", "--root", tmp_path)
    refused = kdbench(*words)
    assert refused.exit_code == 2
    text = " ".join(refused.output.split())
    assert "a has 0, 1, 2, 3; b has 10, 11, 12, 13" in text
    assert "--no-shared-seeds" in text
    assert not (tmp_path / "reports").exists()
    assert kdbench(*words, "--no-shared-seeds").exit_code == 0


def test_a_margin_must_be_more_than_0(tmp_path):
    (tmp_path / "r.csv").write_text("\n".join(lines("a")))
    done = kdbench("report", "--from", tmp_path / "r.csv", "--margin", 0, "--root", tmp_path)
    assert done.exit_code == 2
    assert "--margin: the points that are practically equal must be more than 0" in " ".join(
        done.output.split()
    )


def test_setting_names_cannot_leave_the_folder(tmp_path):
    rows = lines("a", "b")
    text = "\n".join(rows).replace(",a,", ",../../x,").replace(",b,", ",..,")
    (tmp_path / "results.csv").write_text(text)
    assert (
        kdbench("report", "--from", tmp_path / "results.csv", "--root", tmp_path / "r").exit_code
        == 0
    )
    made = {p.parent.name for p in (tmp_path / "r" / "reports" / "results").glob("*/study.json")}
    assert len(made) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r", "results.csv"]


def test_a_missing_score_is_a_failed_run(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("\n".join([*lines("a")[:-1], "kd,a,3,,12.5"]))
    board = leaderboard_of(split_settings(read_results(path), "r.csv", "ce", 0.2)["a"])
    kd = board.table.set_index("method").loc["kd"]
    assert (kd["n"], kd["state"]) == (3, "failed")
    assert kd["reason"] == "seed 3 no score was given"


def test_every_wrong_row_by_its_line(tmp_path):
    message = wrong(
        tmp_path,
        "method,setting,seed,score\n"
        "kd,a,0,70\n"
        ",a,1,70\n"
        "\n"
        "kd,a,x,70\n"
        "kd,a,2,170\n"
        "kd,a,3,nan\n"
        "kd,a,0,71\n"
        "kd,a,4,70,5,6\n"
        'kd,"",5,70\n',
    )
    for expected in (
        "line 3: the method is empty",
        "line 5: the seed 'x' is no whole number",
        "line 6: the score '170' is no number from 0 to 100",
        "line 7: the score 'nan' is no number",
        "line 8: kd, a, seed 0 stands in line 2 already",
        "line 9: 2 more cells than the header has columns",
        "line 10: the setting is empty",
    ):
        assert expected in message
    assert message.count("line ") == 8  # seven faults, one of which names another line


def test_wrong_files(tmp_path):
    assert "the column 'score' is missing" in wrong(tmp_path, "method,setting,seed\nkd,a,0\n")
    message = wrong(tmp_path, "method,setting,seed,score,acc\nkd,a,0,1,2\n")
    assert "the column 'acc' is unknown; there are method, setting, seed, score, cost" in message
    assert "holds no row" in wrong(tmp_path, "method,setting,seed,score\n")
    assert "is missing" in wrong(tmp_path, "")
    assert "not readable as CSV" in wrong(tmp_path, b"method,setting\xff\n")
    assert "cost '0' is no positive" in wrong(tmp_path, "method,setting,seed,score,cost\nk,a,0,1,0")
    with pytest.raises(WrongResults, match="no such file"):
        read_results(tmp_path / "gone.csv")
    many = "method,setting,seed,score\n" + "kd,a,x,1\n" * 50
    assert wrong(tmp_path, many).endswith("and 79 more")  # the same seed, besides


def test_the_reference_is_the_first_method_unless_named(tmp_path):
    (tmp_path / "r.csv").write_text("\n".join(lines("a")))
    words = ("report", "--from", tmp_path / "r.csv", "--root", tmp_path)
    assert "Δ ce" in kdbench(*words).output
    assert "Δ kd" in kdbench(*words, "--reference", "kd").output
    refused = kdbench(*words, "--reference", "base")
    assert refused.exit_code == 2
    assert "no method 'base' to compare with; name one of ce, kd with --reference" in " ".join(
        refused.output.split()
    )
    both = kdbench("report", "digits", "--from", tmp_path / "r.csv")
    assert (both.exit_code, "name one or more studies" in both.output) == (2, True)


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from('abkd,\n"01.9-x\r '), max_size=80))
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("any") / "r.csv"
    path.write_text("method,setting,seed,score\n" + text, newline="")
    with suppress(WrongResults):
        rows = read_results(path)
        assert len(rows)
        assert not rows.duplicated(["method", "setting", "seed"]).any()
        assert all(math.isnan(s) or 0 <= s <= 100 for s in rows["score"])


def test_a_cost_that_was_given_is_not_called_training(tmp_path):
    def answer(**costs):
        rows = [
            f"{method},a,{seed},{(60, 60.4, 60.1)[seed] if method == 'ce' else 70},{cost}"
            for method, cost in costs.items()
            for seed in range(3)
        ]
        path = tmp_path / "r.csv"
        path.write_text("\n".join(["method,setting,seed,score,cost", *rows]))
        return leaderboard_of(split_settings(read_results(path), "r.csv", "ce", 0.2)["a"]).answer

    assert "Its cost is 2.00 times that of ce." in answer(ce=1, kd=2)
    found = answer(ce=1, kd=2, dkd=3)
    assert "The cheapest of these is kd: its cost is 2.00 times that of ce." in found
    found = answer(ce=1, kd=2, dkd=2, rkd=3)
    assert "The cheapest of these are dkd and kd: the cost of each is 2.00 times" in found
    assert "training" not in found
    assert "teacher" not in found


def test_methods_with_fewer_seeds_are_not_said_to_have_all(tmp_path):
    path = tmp_path / "r.csv"
    rows = [f"ce,a,{s},{70 + s % 3}" for s in range(5)]
    rows += [f"kd,a,{s},{71 + s % 2}" for s in range(2)]
    path.write_text("\n".join(["method,setting,seed,score", *rows]))
    data = split_settings(read_results(path), "r.csv", "ce", 0.2)["a"]
    scores = leaderboard_of(data).captions[0]
    assert "as the mean over up to 5 seeds (0, 1, 2, 3, 4)" in scores
    assert "need not be that of the means shown" in scores
    # Two seeds in common have no verdict, so no difference can be detected.
    assert "detectable" not in " ".join(comparison_sentences(compare_rows(data, "kd", "ce")))
