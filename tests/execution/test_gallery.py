"""Which test images a report shows: the rule, the licence, and the seal of the test set."""

import base64
import io
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.fake_gallery import fake_test_set, finished
from support.fake_study import FakeStudy

from kdbench.data import DATASETS
from kdbench.execution import gallery
from kdbench.execution.gallery import choose, encode, keep_gallery, kinds_of
from kdbench.records.galleries import MOST_BYTES, Gallery, gallery_path, read_gallery
from kdbench.records.plan_file import PlanTaken
from kdbench.records.store import Record
from kdbench.report.data.gallery import current_gallery
from kdbench.report.data.runs import records_frame

DIGITS = SimpleNamespace(name="digits")


@pytest.fixture
def made(tmp_path):
    return FakeStudy(tmp_path)


@pytest.fixture
def opened(monkeypatch):
    """The data sets whose test part was opened; that of digits is the made-up study's."""
    names = []

    def opens(data, folder):
        names.append(data.name)
        return fake_test_set()

    monkeypatch.setattr(gallery, "open_test_set_of", opens)
    return names


def keep(study, data=DIGITS, licence=None):
    """Keep the gallery of a study; what was kept, and what was said."""
    lines = []
    keep_gallery(study.store, "fake_study", data, licence, None, lines.append)
    return read_gallery(gallery_path(study.store.root, "fake_study")), lines


# -- the rule


def by_hand(labels, predicted, teacher):
    """The same choice image by image: the counts and the positions of each kind."""
    words = (
        ["teacher right"] * teacher + ["both wrong"] + ["disagree"] * (len(predicted) > 1 + teacher)
    )
    counts, shown = Counter(), {word: [] for word in words}
    for position, true in enumerate(labels):
        said = [classes[position] for classes in predicted]
        kinds = []
        if teacher and said[0] == true and said[1] != true:
            kinds.append("teacher right")
        if said[0] != true and said[1] != true:
            kinds.append("both wrong")
        if "disagree" in words and said[-1] != said[-2]:
            kinds.append("disagree")
        counts.update(kinds)
        for word in kinds:
            shown[word].append(position)
    taken = set()
    for word in words:
        free = [position for position in shown[word] if position not in taken]
        shown[word] = free[: 12 // len(words)]
        taken.update(shown[word])
    return counts, shown


@st.composite
def predictions(draw):
    teacher, methods = draw(st.booleans()), draw(st.integers(1, 2))
    if not teacher:
        methods = 2
    count = draw(st.integers(1, 60))
    classes = st.lists(st.integers(0, 2), min_size=count, max_size=count)
    labels, *predicted = (np.array(draw(classes)) for _ in range(1 + teacher + methods))
    return labels, predicted, teacher


@given(predictions())
def test_the_first_of_each_kind_are_chosen_and_none_twice(case):
    labels, predicted, teacher = case
    kinds = kinds_of(labels, predicted, teacher)
    counts, shown = by_hand(labels.tolist(), [p.tolist() for p in predicted], teacher)
    assert choose(kinds) == shown
    assert {kind: int(of_kind.sum()) for kind, of_kind in kinds.items()} == {
        k: counts[k] for k in shown
    }


def test_a_study_s_images_are_those_that_its_predictions_give(made, opened):
    """Each run has the first test images right and all others wrong by one class: kd (tuned) 926,
    930, 932, 936 and 941, kd-tutorial 910, 912, 914, 915 and 921, the teacher 960.
    """
    plan = finished(made)
    kept, lines = keep(made)
    assert lines == []
    assert [(p.label, p.row, len(p.runs)) for p in kept.predictors] == [
        ("teacher", "teacher", 1), ("kd", "tuned", 5), ("kd-tutorial", "pinned", 5),
    ]  # fmt: skip
    assert kept.predictors[1].runs == tuple(
        next(row for row in plan.rows if (row.label, row.row) == ("kd", "tuned")).runs.values()
    )
    groups = {group.kind: group for group in kept.groups}
    assert {kind: group.count for kind, group in groups.items()} == {
        "teacher right": 960 - 932, "both wrong": 1000 - 960, "disagree": 932 - 914,
    }  # fmt: skip
    positions = {kind: [image.position for image in g.images] for kind, g in groups.items()}
    assert positions == {
        "teacher right": [932, 933, 934, 935],
        "both wrong": [960, 961, 962, 963],
        "disagree": [914, 915, 916, 917],
    }
    image = groups["teacher right"].images[0]
    assert (kept.tested, image.label) == (1000, 932 % 4)
    assert [(v.predicted, v.runs) for v in image.votes] == [(0, 1), (1, 3), (1, 5)]
    assert kept.licence == DATASETS["digits"].licence
    for group in kept.groups:
        for shown in group.images:
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown.content))))
            assert (pixels == round(shown.position % 17 * 255 / 16)).all()


def test_without_a_teacher_there_are_two_kinds_of_six(made, opened):
    finished(made, teachers={})
    kept, _ = keep(made)
    assert [p.label for p in kept.predictors] == ["kd", "kd-tutorial"]
    assert [(g.kind, g.count, len(g.images)) for g in kept.groups] == [
        ("both wrong", 1000 - 932, 6), ("disagree", 932 - 914, 6),
    ]  # fmt: skip


def test_choosing_again_gives_the_same_bytes(made, opened):
    finished(made)
    path = gallery_path(made.store.root, "fake_study")
    keep(made)
    before = path.read_bytes()
    path.unlink()
    keep(made)
    assert path.read_bytes() == before
    assert len(before) < 60_000


# -- the seal


def test_nothing_is_reached_before_all_runs_are_scored(made, monkeypatch):
    """Neither a prediction nor the test set, whatever is wrong with either."""

    def refused(*_):
        pytest.fail("the test set was reached")

    monkeypatch.setattr(gallery, "open_test_set_of", refused)
    monkeypatch.setattr(Record, "predictions", refused)
    monkeypatch.setattr(Record, "test", property(refused))
    assert not made.plan.complete
    assert keep(made) == (None, [])


def test_other_test_images_than_those_that_were_scored_are_refused(made, monkeypatch):
    finished(made)
    other = fake_test_set(checksum="other")
    monkeypatch.setattr(gallery, "open_test_set_of", lambda *_: other)
    kept, (line,) = keep(made)
    assert kept is None
    assert line.startswith("the report shows no test images: the runs were scored on test images")
    assert "other" in line


# -- the licence


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_without_a_licence_the_test_set_is_not_opened(made, opened, name):
    finished(made)
    kept, lines = keep(made, SimpleNamespace(name=name))
    assert kept == Gallery()
    assert (lines, opened) == ([], [])


def test_a_study_may_name_the_licence(made, opened):
    finished(made)
    kept, _ = keep(made, SimpleNamespace(name="cifar10"), licence="CC0")
    assert (kept.licence.name, kept.licence.source) == ("CC0", "")
    assert len(kept.images) == 12


def test_every_data_set_says_whether_its_images_may_be_shown():
    names = {name: d.licence and d.licence.name for name, d in DATASETS.builtin.items()}
    assert names == {
        "digits": "CC BY 4.0", "mnist": "CC BY-SA 3.0", "fashion-mnist": "MIT",
        "cifar10": None, "cifar100": None,
    }  # fmt: skip
    for data_set in DATASETS.builtin.values():
        if data_set.licence:
            assert data_set.licence.source
            assert data_set.licence.url.startswith("https://")
            assert data_set.licence.source_url.startswith("https://")


# -- the files of images


def decoded(image, scale=255):
    return Image.open(io.BytesIO(encode(image, scale)))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_small_image_keeps_its_pixels(channels):
    image = np.random.default_rng(0).integers(256, size=(channels, 32, 20), dtype=np.uint8)
    picture = decoded(image)
    assert (picture.format, picture.mode) == ("PNG", "L" if channels == 1 else "RGB")
    assert (np.asarray(picture).reshape(32, 20, channels) == image.transpose(1, 2, 0)).all()


def test_the_brightest_pixel_is_white():
    image = np.array([[[0, 8, 16, 17]]], dtype=np.uint8)
    assert np.asarray(decoded(image, scale=16)).tolist() == [[0, 128, 255, 255]]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_large_image_is_scaled_down(channels):
    image = np.zeros((channels, 100, 200), np.uint8)
    image[:, :, 100:] = 200
    picture = decoded(image)
    assert (picture.format, picture.size) == ("JPEG", (64, 32))
    pixels = np.asarray(picture.convert("L"))
    assert abs(pixels[:, :28].mean() - 0) < 3
    assert abs(pixels[:, 36:].mean() - 200) < 3


@pytest.mark.parametrize("side", [8, 32, 33, 64, 500])
def test_a_dozen_images_take_little_room(side):
    """Of noise, of which nothing can be compressed, in colour."""
    image = np.random.default_rng(0).integers(256, size=(3, side, side), dtype=np.uint8)
    content = encode(image, 255)
    assert len(content) <= MOST_BYTES
    if side <= 32:
        assert 12 * len(base64.b64encode(content)) < 60_000


def test_images_of_two_channels_are_not_shown(made, monkeypatch):
    finished(made)
    monkeypatch.setattr(gallery, "open_test_set_of", lambda *_: fake_test_set(channels=2))
    kept, (line,) = keep(made)
    assert kept is None
    assert "2 channels" in line


# -- what a report takes


def frame_of(study, plan):
    return records_frame(study.store, plan)


def test_a_report_takes_them_as_long_as_they_are_of_its_best_methods(made, opened):
    plan = finished(made)
    kept, _ = keep(made)
    frame = frame_of(made, plan)
    root = made.store.root
    assert current_gallery(root, frame, plan) == kept
    worse = frame.assign(accuracy=frame["accuracy"].where(frame["label"] != "kd", 0.1))
    assert current_gallery(root, worse, plan) is None
    less = frame[~((frame["label"] == "kd") & (frame["seed"] == 4))]
    assert current_gallery(root, less, plan) is None


def test_that_there_is_no_licence_stays_true_of_other_methods(made):
    plan = finished(made)
    keep(made, SimpleNamespace(name="cifar10"))
    frame = frame_of(made, replace(plan, rows=plan.rows[:1]))
    assert current_gallery(made.store.root, frame, plan) == Gallery()


def test_rows_of_another_report_have_no_images(made, opened):
    finished(made, taken=PlanTaken("base", "0" * 16, ("ce",)))
    assert keep(made) == (None, [])
    assert opened == []


def test_a_study_of_one_method_alone_has_none(made, opened):
    finished(made, teachers={}, rows=made.plan.rows[1:2])
    assert keep(made) == (None, [])
    assert opened == []
