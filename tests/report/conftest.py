"""What all tests of reports share."""

import gc
import pickle

import pytest

from kdbench.report import figures

DRAWN = {}


@pytest.fixture(autouse=True)
def skip_garbage_collection(monkeypatch):
    """Skip the garbage collection that statsmodels starts at every correction, which takes
    most of the time."""
    monkeypatch.setattr(gc, "collect", lambda *a: 0)


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
