"""The page over all reports of a folder."""

import re
from pathlib import Path

from kdbench.report.page.all_reports import write_all_reports

REPORTS = Path(__file__).parents[2] / "reports"


def listed(folder):
    """Link, title, question and answer of each report."""
    write_all_reports(folder)
    text = (folder / "index.html").read_text()
    return re.findall(
        r'<h2><a href="(.*?)">(.*?)</a></h2>\s*(?:<p class="question">(.*?)</p>)?\s*'
        r"(?:<p>(.*?)</p>)?",
        text,
    )


def page(folder, name, head):
    (folder / name).mkdir()
    (folder / name / "index.html").write_text(f"<body><header>{head}<nav></nav></header>")


def test_every_report_is_listed_with_question_and_answer(tmp_path):
    page(tmp_path, "b", '<h1>b</h1><p class="question">Is a &lt; b?</p><p class="answer">Yes.</p>')
    page(tmp_path, "a #1", "<h1>a (incomplete)</h1>")
    (tmp_path / "empty").mkdir()
    assert listed(tmp_path) == [
        ("a%20%231/index.html", "a (incomplete)", "", ""),
        ("b/index.html", "b", "Is a &lt; b?", "Yes."),
    ]


def test_a_page_that_cannot_be_read_or_leads_away_is_left_out(tmp_path):
    folder = tmp_path / "reports"
    folder.mkdir()
    page(folder, "whole", "<h1>whole</h1>")
    page(folder, "bytes", "")
    (folder / "bytes" / "index.html").write_bytes(b"\xff\xfe")
    page(tmp_path, "outside", "<h1>secret</h1>")
    (folder / "link").symlink_to(tmp_path / "outside")
    assert [title for _, title, _, _ in listed(folder)] == ["whole"]


def test_the_reports_of_several_settings_are_listed_each(tmp_path):
    page(tmp_path, "x", "<h1>x</h1>")
    (tmp_path / "r").mkdir()
    page(tmp_path / "r", "b", '<h1>r: b</h1><p class="question">Is a &lt; b?</p>')
    page(tmp_path / "r", "a", "<h1>r: a</h1>")
    write_all_reports(tmp_path / "r")
    assert listed(tmp_path) == [
        ("r/a/index.html", "r: a", "", ""),
        ("r/b/index.html", "r: b", "Is a &lt; b?", ""),
        ("x/index.html", "x", "", ""),
    ]


def test_a_link_to_the_folder_itself_is_not_followed_for_ever(tmp_path):
    page(tmp_path, "x", "<h1>x</h1>")
    (tmp_path / "again").symlink_to(tmp_path)
    write_all_reports(tmp_path)
    assert [link for link, *_ in listed(tmp_path)] == ["again/x/index.html", "x/index.html"]


def test_the_projects_own_reports_are_listed():
    text = (REPORTS / "index.html").read_text()
    for path in REPORTS.glob("*/index.html"):
        assert f'href="{path.parent.name}/index.html"' in text
