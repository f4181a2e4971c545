"""What all tests of reports share."""

import pickle

import pytest
from support.fake_study import COST, FakeStudy

from kdbench.report import figures
from kdbench.report.data.runs import records_frame

DRAWN = {}


@pytest.fixture(scope="module", autouse=True)
def draw_equal_pictures_once(request):
    """Keep what was drawn for the whole session, since drawing takes half a second a picture.
    That equal pictures give equal bytes is tested in test_figures.py, where nothing is kept."""
    if request.path.name == "test_figures.py":
        yield
        return
    draw = figures.render_picture

    def draw_once(name, picture):
        key = name, pickle.dumps(picture)
        if key not in DRAWN:
            DRAWN[key] = draw(name, picture)
        return DRAWN[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "render_picture", draw_once)
        yield


@pytest.fixture(scope="session")
def fake_study(tmp_path_factory):
    """A study with every kind of row and of missing run; no test may change its files."""
    return FakeStudy(tmp_path_factory.mktemp("fake_study"))


@pytest.fixture(scope="session")
def frame(fake_study):
    """The runs of the fake study, from its records."""
    return records_frame(fake_study.store, fake_study.plan, COST)


@pytest.fixture(scope="session")
def report_data(fake_study):
    """All that the report of the fake study is made from."""
    return fake_study.report_data()
