"""The page of a report in a real browser: it fits windows of a desk and of a phone, the keyboard
reaches what scrolls, and axe finds nothing serious."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from support.browser import browser, installed
from support.fake_gallery import fake_gallery

from kdbench.report.data.report_data import load
from kdbench.report.figures.render import Drawn
from kdbench.report.page import render_page
from kdbench.report.write import leaderboard_of

ROOT = Path(__file__).parents[2]
AXE = Path(os.environ.get("KDBENCH_AXE") or ROOT / "node_modules/axe-core/axe.min.js")
DESK, PHONE = 1440, 390
FIGURE = '<svg viewBox="0 0 518 300" width="518" style="max-width: 100%"><path d="M0 0h518"/></svg>'
BOXES = """[...document.querySelectorAll('body *')].filter(e => e.scrollWidth > e.clientWidth + 1
  && ['auto', 'scroll'].includes(getComputedStyle(e).overflowX))"""

pytestmark = pytest.mark.skipif(installed() is None, reason="no Chromium is installed")


def gallery_of_four():
    """Four test images of the first kind, and one of the second."""
    gallery = fake_gallery()
    first, *others = gallery.groups
    images = tuple(replace(first.images[0], position=k) for k in range(4))
    return replace(gallery, groups=(replace(first, images=images), *others))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    data = replace(load(ROOT / "reports" / "digits-few-labels"), gallery=gallery_of_four())
    names = ("forest", "cost", "curves")
    drawn = Drawn(dict.fromkeys(names, FIGURE), {}, {}, dict.fromkeys(names, "A figure."))
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(render_page(leaderboard_of(data), data, drawn))
    return path


@pytest.fixture(scope="module")
def tab():
    with browser() as opened:
        yield opened


def columns_in_view(tab):
    """The headings that are on screen as a whole."""
    return tab.run(
        "[...document.querySelectorAll('#leaderboard > thead th')].filter(e => {"
        "const box = e.getBoundingClientRect();"
        "return box.width > 0 && box.left >= 0 && box.right <= innerWidth;"
        "}).map(e => e.innerText.split('\\n')[0].trim())"
    )


def wider_than_window(tab):
    return tab.run("document.documentElement.scrollWidth - innerWidth")


OPEN = "document.querySelectorAll('#leaderboard tbody th button')[8].click()"
ALL = "document.getElementById('all-columns').click()"


def test_a_desk_shows_the_verdict_the_cost_and_the_hyperparameters(page, tab):
    tab.show(page, DESK)
    shown = columns_in_view(tab)
    for name in ("method", "accuracy", "Δ ce", "verdict", "relative cost (measured)", "values"):
        assert name in shown
    assert wider_than_window(tab) <= 0


def test_a_phone_shows_method_accuracy_and_verdict(page, tab):
    tab.show(page, PHONE)
    assert columns_in_view(tab) == ["method", "accuracy", "verdict"]
    assert wider_than_window(tab) <= 0
    for step in (ALL, OPEN):
        tab.run(step)
        assert wider_than_window(tab) <= 0


def test_a_long_reason_leaves_the_names_room_on_a_phone(page, tab):
    tab.show(page, PHONE)
    widths = tab.run(
        "(() => { const cell = document.querySelector('#leaderboard tbody td:nth-child(3)');"
        "cell.classList.add('long'); cell.textContent = 'needs another optimiser '.repeat(9);"
        "return [...cell.parentElement.cells].slice(0, 3).map(e => e.offsetWidth); })()"
    )
    assert widths[0] >= 136
    assert wider_than_window(tab) <= 0


@pytest.mark.parametrize("width", [DESK, PHONE])
def test_no_box_scrolls_down_inside_the_page_and_the_keyboard_reaches_every_box(page, tab, width):
    tab.show(page, width)
    tab.run(f"{ALL}; {OPEN}")
    down = tab.run(
        "[...document.querySelectorAll('body *')].filter(e => "
        "['auto', 'scroll'].includes(getComputedStyle(e).overflowY) "
        "&& e.scrollHeight > e.clientHeight + 1 && e.tagName !== 'SELECT').length"
    )
    assert down == 0
    assert tab.run(f"{BOXES}.length") > 0
    assert tab.run(f"{BOXES}.filter(e => e.tabIndex < 0).map(e => e.className)") == []


def test_the_headings_stay_in_view(page, tab):
    tab.show(page, DESK)
    tab.run("document.querySelectorAll('#leaderboard tbody tr')[12].scrollIntoView()")
    top = tab.run("document.querySelector('#leaderboard thead th').getBoundingClientRect().top")
    assert abs(top) < 2


def test_an_open_row_stays_in_view_when_the_table_is_scrolled(page, tab):
    tab.show(page, PHONE)
    tab.run(f"{ALL}; {OPEN}")
    place = json.loads(
        tab.run(
            "(() => { const box = document.querySelector('#table .scroll'); box.scrollLeft = 300;"
            "const panel = document.querySelector('.opened .details').getBoundingClientRect();"
            "return JSON.stringify({scrolled: box.scrollLeft, left: panel.left, right: panel.right,"
            "from: box.getBoundingClientRect().left, to: box.getBoundingClientRect().right}); })()"
        )
    )
    assert place["scrolled"] > 100
    assert place["left"] == pytest.approx(place["from"], abs=1)
    assert place["right"] <= place["to"] + 1


@pytest.mark.parametrize(("width", "columns"), [(DESK, 2), (PHONE, 1)])
def test_figures_stand_in_columns_where_there_is_room(page, tab, width, columns):
    tab.show(page, width)
    lefts = (
        "document.querySelectorAll('figure')].map(e => Math.round(e.getBoundingClientRect().left)"
    )
    assert len(set(tab.run(f"[...{lefts})"))) == columns


@pytest.mark.parametrize(("width", "columns"), [(DESK, 4), (PHONE, 2)])
def test_test_images_stand_side_by_side_and_keep_their_pixels(page, tab, width, columns):
    tab.show(page, width)
    lefts = "document.querySelectorAll('.gallery li')].map(e => e.getBoundingClientRect().left)"
    assert len(set(tab.run(f"[...{lefts}"))) == columns
    images = tab.run(
        "[...document.querySelectorAll('.gallery img')].map(e => "
        "[e.naturalWidth, e.alt.length > 0, getComputedStyle(e).imageRendering])"
    )
    assert images == [[8, True, "pixelated"]] * 5


def test_the_filter_leaves_what_is_asked_for(page, tab):
    tab.show(page, DESK)
    shown = "[...document.querySelectorAll('#leaderboard tbody tr:not([hidden]) small')].map(e => "
    labels = shown + "e.textContent.trim()).filter(text => text.includes('rkd'))"
    tab.run(
        "(() => { const box = document.getElementById('filter'); box.value = 'relational';"
        "document.querySelector('[name=kind][value=default]').checked = false;"
        "box.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    assert tab.run(labels) == ["rkd · tuned"]
    assert tab.run("document.getElementById('shown').textContent").startswith("1 of ")


def test_curves_give_their_values_under_the_pointer(page, tab):
    tab.show(page, DESK)
    tab.run(
        f"{OPEN}; document.querySelector('.opened .charts').scrollIntoView({{block: 'center'}})"
    )
    box = json.loads(
        tab.run(
            "JSON.stringify(document.querySelector('.opened .charts svg').getBoundingClientRect())"
        )
    )
    tab.point_at(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    text = tab.run("document.querySelector('.opened .charts output').textContent")
    assert ", epoch 9: " in text
    assert text.count("seed ") == 5


def test_two_rows_stand_side_by_side_on_their_seeds(page, tab):
    tab.show(page, DESK)
    words = tab.run("document.querySelector('#side p').textContent")
    assert words == (
        "pseudo-label (tuned) minus ce: +16.65 points on 5 paired seeds, "
        "95 % interval +14.58 to +18.72."
    )  # as the leaderboard has it
    assert tab.run("document.querySelectorAll('#side tbody tr').length") == 5


def test_an_address_names_a_row(page, tab):
    tab.show(page, DESK)
    tab.run("new Promise(done => { location.hash = '#rkd-tuned'; setTimeout(done, 200); })")
    opened = tab.run("document.querySelector('.opened').previousElementSibling.innerText")
    assert opened.startswith("Relational KD")


@pytest.mark.long
@pytest.mark.skipif(not AXE.exists(), reason="axe-core is not installed (npm install axe-core)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [DESK, PHONE])
def test_axe_finds_nothing_serious(page, tab, width, scheme):
    tab.show(page, width, scheme)
    tab.run(OPEN)
    tab.run(f"{AXE.read_text()}; 0")
    found = tab.run("axe.run().then(r => r.violations.map(v => [v.impact, v.id, v.nodes[0].html]))")
    assert [entry for entry in found if entry[0] in ("serious", "critical")] == []
