"""The test images of a report: on its page, in its files, and checked."""

import json
import re
from dataclasses import replace

import pytest
from support.fake_gallery import fake_gallery, png

from kdbench.cli.doctor import examine
from kdbench.records.files import write_json
from kdbench.records.galleries import (
    MOST_BYTES,
    CorruptGallery,
    Gallery,
    gallery_path,
    read_gallery,
    write_gallery,
)
from kdbench.records.readers import sealed
from kdbench.records.store import Store
from kdbench.report import check, write
from kdbench.report.check import check_report, data_differences
from kdbench.report.data.report_data import UnreadableReport, load
from kdbench.report.figures.render import Drawn
from kdbench.report.page import render_page
from kdbench.report.write import leaderboard_of, text_files, write_report

UNDRAWN = Drawn({}, {}, {}, {})


@pytest.fixture(scope="module", autouse=True)
def draw_no_figures():
    """They take seconds, and no test here looks at them."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (write, check):
            patch.setattr(module, "draw_figures", lambda *_: UNDRAWN)
        yield


@pytest.fixture(scope="module")
def shown(report_data):
    return replace(report_data, gallery=fake_gallery())


@pytest.fixture(scope="module")
def folder(shown, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown")
    write_report(shown, folder)
    return folder


def section(data):
    """The part of the page that shows test images; empty where there is none."""
    page = render_page(leaderboard_of(data), data, UNDRAWN)
    found = re.search(r'<section id="images".*?</section>', page, re.DOTALL)
    assert ('href="#images"' in page) == bool(found)
    return found[0] if found else ""


def words(html):
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


# -- the page


def test_each_image_has_its_class_and_what_was_said_of_it(shown):
    html = section(shown)
    first, second = re.findall(r"<li>.*?</li>", html, re.DOTALL)
    (content,) = re.findall(r'src="data:image/png;base64,([^"]*)"', first)
    assert content == png(3)
    # The names of the made-up classes are 0, 1, 2_% and <3>.
    assert 'alt="Test image 3, of the class &lt;3&gt;"' in first
    assert words(first) == "&lt;3&gt; image 3 teacher &lt;3&gt; kd 2_% 4 of 5 ce 0 5 of 5"
    assert words(second) == "1 image 5 teacher 2_% kd 2_% 3 of 5 ce 1 4 of 5"
    wrong = re.findall(r'<dt>(\S+)</dt><dd class="worse">', first + second)
    assert wrong == ["kd", "ce", "teacher", "kd"]


def test_the_kinds_say_how_many_images_there_are(shown):
    titles = [words(h) for h in re.findall(r"<h3>.*?</h3>", section(shown))]
    assert titles == [
        "The teacher is right, kd is wrong 1 of 7 such images",
        "The teacher and kd are both wrong 1 of 1 such images",
        "kd and ce disagree 0 of 0 such images",
    ]


def test_the_page_says_the_rule_and_the_licence(shown):
    html = section(shown)
    text = words(html)
    assert "The first 4 test images of each kind in the order of the test set, none twice" in text
    assert "the class that most of its seeds give" in text
    assert "kd (tuned) and ce have the two best mean scores." in text
    assert "The images are shown under CC BY 4.0 . Source: Ada &amp; Bob ." in text
    assert '<a href="https://licence.example/by">' in html
    assert '<a href="https://source.example">' in html


def test_a_licence_that_a_study_file_names_is_said_to_be_its(shown):
    licence = replace(shown.gallery.licence, name="<mine>", url="", source="", source_url="")
    html = section(replace(shown, gallery=replace(shown.gallery, licence=licence)))
    assert "The images are shown under &lt;mine&gt;, as the study file says." in html


def test_only_small_images_are_drawn_in_squares(shown):
    assert section(shown).count('class="pixels"') == 2
    assert "scaled down" not in section(shown)
    jpeg = "/9j/4AAQSkZJRg=="
    group = shown.gallery.groups[0]
    large = replace(group, images=(replace(group.images[0], content=jpeg),))
    html = section(replace(shown, gallery=replace(shown.gallery, groups=(large,))))
    assert f'src="data:image/jpeg;base64,{jpeg}"' in html
    assert 'class="pixels"' not in html
    assert "The images, scaled down, are shown under" in html


def test_without_a_teacher_two_methods_stand_alone(shown):
    gallery = shown.gallery
    votes = [replace(i, votes=i.votes[1:]) for i in gallery.images]
    groups = (replace(gallery.groups[1], images=(votes[1],)), gallery.groups[2])
    alone = replace(gallery, predictors=gallery.predictors[1:], groups=groups)
    text = words(section(replace(shown, gallery=alone)))
    assert "The first 6 test images" in text
    assert "kd and ce are both wrong" in text
    assert "teacher" not in text


def test_without_a_licence_the_page_says_so(report_data):
    html = section(replace(report_data, gallery=Gallery()))
    assert "<img" not in html
    assert "No test images are shown: neither the data set digits nor the study file" in html


# -- the files


def test_a_report_without_images_is_as_before(report_data):
    assert section(report_data) == ""
    assert "gallery" not in json.loads(report_data.files()["study.json"])


def test_a_report_is_drawn_again_from_its_files_alone(folder, shown, tmp_path):
    again = load(folder)
    assert again.gallery == shown.gallery
    write_report(again, tmp_path)
    names = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    assert names
    for name in names:
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name
    assert check_report(folder) == []


def test_the_numbers_of_a_report_keep_their_digest(shown, report_data):
    assert shown.digest == report_data.digest
    assert text_files(leaderboard_of(shown), shown) == text_files(
        leaderboard_of(report_data), report_data
    )


@pytest.mark.parametrize(
    ("old", "new"), [(png(3), png(4)), ("> 4 of 5<", "> 5 of 5<"), ("image 5<", "image 6<")]
)
def test_what_is_changed_on_the_page_is_found(folder, tmp_path, old, new):
    for path in folder.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    page = tmp_path / "index.html"
    assert old in page.read_text()
    page.write_text(page.read_text().replace(old, new, 1))
    (difference,) = check_report(page)
    assert difference.startswith("index.html: line ")


def test_other_images_than_those_of_the_root_are_a_difference(shown, report_data):
    assert data_differences(shown, shown) == []
    (difference,) = data_differences(shown, report_data)
    assert difference == "study.json: the test images that are shown are others now"


# -- what is no gallery

HUGE = "iVBORw0KGgo" + "A" * (MOST_BYTES * 4 // 3 + 5)
BAD = {
    "the licence is missing": (["licence"], None),
    "the licence's address is a script": (["licence", "url"], "javascript:alert(1)"),
    "a kind that there is not": (["groups", 0, "kind"], "best"),
    "a kind twice": (["groups", 0, "kind"], "disagree"),
    "more images than there are": (["groups", 0, "count"], 0),
    "a class that there is not": (["groups", 0, "images", 0, "label"], 4),
    "a vote for a class that there is not": (
        ["groups", 0, "images", 0, "votes", 0, "predicted"],
        -1,
    ),
    "more votes than runs": (["groups", 0, "images", 0, "votes", 1, "runs"], 6),
    "a vote of nobody": (["groups", 0, "images", 0, "votes"], []),
    "a position that there is not": (["groups", 0, "images", 0, "position"], 1000),
    "a picture that is a page": (["groups", 0, "images", 0, "content"], "PHNjcmlwdD4="),
    "a picture that closes its tag": (
        ["groups", 0, "images", 0, "content"],
        'iVBORw0KGgo="><script>',
    ),
    "a picture that is too large": (["groups", 0, "images", 0, "content"], HUGE),
    "predictors without images": (["groups"], []),
    "no predictors": (["predictors"], []),
    "no object": ([], 7),
}


def changed(raw, path, to):
    """A copy of a JSON value with another value at a place."""
    whole = json.loads(json.dumps(raw))
    if not path:
        return to
    part = whole
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = to
    return whole


@pytest.mark.parametrize("name", BAD)
def test_a_report_that_others_made_is_not_believed(folder, tmp_path, name):
    for path in folder.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    study = json.loads((folder / "study.json").read_text())
    study["gallery"] = changed(study["gallery"], *BAD[name])
    (tmp_path / "study.json").write_text(json.dumps(study))
    with pytest.raises(UnreadableReport, match=r"its test images are none of kdbench's"):
        load(tmp_path)


def test_too_many_images(folder):
    study = json.loads((folder / "study.json").read_text())
    group = study["gallery"]["groups"][0]
    group["images"] = group["images"] * 13
    group["count"] = 13
    with pytest.raises(ValueError, match="it has 14 images"):
        Gallery.from_dict(study["gallery"])


# -- the file in the root


def test_a_root_without_them_has_none(tmp_path):
    assert read_gallery(gallery_path(tmp_path, "mine")) is None


def test_they_are_kept_in_the_root(tmp_path):
    path = gallery_path(tmp_path, "mine")
    write_gallery(path, fake_gallery())
    assert read_gallery(path) == fake_gallery()


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"{}", b"\xff", "cut", "other", "control"])
def test_a_damaged_file_is_one_error_and_the_doctor_moves_it(tmp_path, content):
    path = gallery_path(tmp_path, "mine")
    write_gallery(path, fake_gallery())
    whole = path.read_bytes()
    if content == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif content == "other":
        path.write_bytes(whole.replace(b'"position": 3', b'"position": 4'))
    elif content == "control":
        raw = changed(fake_gallery().to_dict(), ["licence", "name"], "\x1b[2J")
        write_json(path, sealed(raw))
    elif content == b"{}":
        write_json(path, sealed({"groups": 1}))
    else:
        path.write_bytes(content)
    with pytest.raises(CorruptGallery, match=r"mine\.json cannot be read") as raised:
        read_gallery(path)
    assert "`kdbench study mine` chooses them again" in str(raised.value)
    (finding,) = examine(Store(tmp_path))
    assert str(path) in finding.what
    assert finding.repair
    finding.repair()
    assert read_gallery(path) is None
