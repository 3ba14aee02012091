"""The page "Draw a digit", in a browser: what is drawn gives what Python's reference gives, to the bit."""

import importlib.util
import re
import shutil
from pathlib import Path

import browser
import numpy as np
import pytest

from spyketorch.export.runtimes import reading, reference

DOCS = Path(__file__).parents[1] / "docs"
pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason="there is no Chromium on this machine")

SIDE, PEN = 280, 12


def beside_the_page():
    """The module of the documentation that writes what the page loads."""
    spec = importlib.util.spec_from_file_location("drawing", DOCS / "drawing.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page without the theme around it, as a file."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(DOCS / "_static" / "draw", folder / "_static" / "draw")
    beside_the_page().write(folder / "_static" / "draw")
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    body = (DOCS / "draw.html").read_text(encoding="utf-8")
    (folder / "draw.html").write_text(f"{head}<title>Draw</title><body>{body}</body></html>", encoding="utf-8")
    return folder / "draw.html"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    chromium = browser.Browser(tmp_path_factory.mktemp("profile"))
    yield chromium
    chromium.close()


@pytest.fixture
def opened(chromium, page):
    """The page, without an example that plays."""
    chromium.requests.clear()
    chromium.problems.clear()
    chromium.prefer(prefers_reduced_motion="reduce")
    chromium.open(page.as_uri())
    yield chromium
    assert chromium.problems == []


@pytest.fixture(scope="module")
def model():
    return reading.read(beside_the_page().MODEL)


# From a drawing to the image, as docs/draw.md says it.


def field_of(strokes):
    """280 x 280 pixels, true where they are black."""
    y, x = np.mgrid[:SIDE, :SIDE]
    field = np.zeros((SIDE, SIDE), bool)
    for points in strokes:
        for (ax, ay), (bx, by) in zip([points[0], *points], points, strict=False):
            dx, dy = bx - ax, by - ay
            along, across = (x - ax) * dx + (y - ay) * dy, (x - ax) * dy - (y - ay) * dx
            length = dx * dx + dy * dy
            to_a, to_b = (x - ax) ** 2 + (y - ay) ** 2, (x - bx) ** 2 + (y - by) ** 2
            ends = np.where(along <= 0, to_a, to_b) <= PEN**2
            field |= np.where((along <= 0) | (along >= length), ends, across**2 <= PEN**2 * length)
    return field


def covered(places, first, scale):
    """(pixels of the field, 28): how much of each pixel of the image each of them covers along an axis."""
    count = len(places)
    begin = 20 * (np.arange(SIDE) - first) + 14 * scale - (20 * int((places - first).sum()) + 10 * count) // count
    edges = np.arange(28) * scale
    return np.clip(np.minimum(begin[:, None] + 20, edges + scale) - np.maximum(begin[:, None], edges), 0, None)


def image_of(strokes):
    field = field_of(strokes)
    rows, columns = np.nonzero(field)
    if len(rows) == 0:
        return np.zeros((28, 28), np.uint8)
    scale = int(max(np.ptp(rows), np.ptp(columns))) + 1
    area = covered(rows, rows.min(), scale).T @ field.astype(int) @ covered(columns, columns.min(), scale)
    return ((255 * area + scale**2 // 2) // scale**2).astype(np.uint8)


SEEN = """(() => {
  const { strokes, image, seen } = draw.state;
  return { strokes, image: [...image], times: seen.parts.map(({ times }) => [...times]), answer: seen.answer,
    decision: seen.decision, digit: document.getElementById("draw-digit").textContent };
})()"""

SETTLED = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30))))"


def compare(opened, model):
    """All that the page shows with the reference; gives what was drawn and decided."""
    opened.ask(SETTLED)
    seen = opened.ask(SEEN)
    image = image_of(seen["strokes"])
    assert seen["image"] == image.reshape(-1).tolist()
    times, answer, decision = reference.parts(model, image[None])
    assert seen["times"] == [part.reshape(-1).tolist() for part in times]
    assert (seen["answer"], seen["decision"]) == ([int(time) for time in answer], int(decision))
    assert seen["digit"] == ("?" if decision < 0 else model[0]["names"][decision])
    return seen


def place(opened):
    """A function from points of the drawing field to those of the window."""
    left, top, width, height = opened.ask(
        """(() => {
          const field = document.getElementById("draw-field");
          field.scrollIntoView({ block: "center", behavior: "instant" });
          const { left, top, width, height } = field.getBoundingClientRect();
          return [left, top, width, height];
        })()"""
    )
    return lambda x, y: (left + (x + 0.5) * width / SIDE, top + (y + 0.5) * height / SIDE)


SEVEN = [[(80, 60), (190, 55), (175, 105), (145, 170), (125, 235)]]
FOUR = [[(100, 50), (85, 110), (80, 150), (130, 150), (190, 145)], [(180, 55), (175, 120), (165, 235)]]


@pytest.mark.parametrize(("strokes", "digit"), [(SEVEN, 7), (FOUR, 4)])
def test_what_a_mouse_draws(opened, model, strokes, digit):
    opened.ask("document.getElementById('draw-clear').click()")
    compare(opened, model)
    at = place(opened)
    for points in strokes:
        opened.mouse("Pressed", *at(*points[0]))
        for point in points[1:]:
            opened.mouse("Moved", *at(*point))
        opened.mouse("Released", *at(*points[-1]))
    seen = compare(opened, model)
    assert seen["decision"] == digit
    assert seen["strokes"] == [[list(point) for point in points] for points in strokes]


def test_what_a_finger_draws_on_a_phone(opened, page, model):
    opened.open(page.as_uri(), 390, 844, phone=True)
    opened.ask("document.getElementById('draw-clear').click()")
    opened.ask(SETTLED)
    at = place(opened)
    before = opened.ask("scrollY")
    points = SEVEN[0]
    opened.touch("Start", at(*points[0]))
    for point in points[1:]:
        opened.touch("Move", at(*point))
    opened.touch("End")
    assert compare(opened, model)["decision"] == 7
    assert opened.ask("scrollY") == before
    assert opened.ask("document.documentElement.scrollWidth") <= 390


def test_what_the_keyboard_draws(opened, model):
    """A 1 and its pen, which the space bar puts down and lifts."""
    opened.ask("document.getElementById('draw-field').focus({ preventScroll: true })")
    opened.key("Escape")
    assert compare(opened, model)["decision"] == -1
    opened.key("ArrowUp", 10)
    opened.key(" ")
    opened.key("ArrowDown", 20)
    opened.key(" ")
    opened.key("ArrowLeft", 3)
    seen = compare(opened, model)
    assert seen["decision"] == 1
    assert seen["strokes"] == [[[140, 60 + 8 * n] for n in range(21)]]
    assert "1" in opened.ask("document.getElementById('draw-said').textContent")


def test_the_digits_to_begin_with(opened, model):
    for digit in range(10):
        opened.ask(f"document.querySelectorAll('#draw-examples button')[{digit}].click()")
        assert compare(opened, model)["decision"] == digit


def test_drawings_of_any_shape(opened, model):
    """Scribbles, at the edges of the field and beyond what fits into the image, and dots."""
    rng = np.random.default_rng(0)
    drawings = [[[[0, 0]]], [[[279, 279], [279, 279]]], [[[0, 140], [279, 140]]], [[[3, 4]], [[270, 9]]]]
    drawings += [rng.integers(0, SIDE, (rng.integers(1, 4), rng.integers(1, 6), 2)).tolist() for _ in range(10)]
    drawings.append([[[20, 20], [25, 20], [20, 25], [25, 25], [20, 20]], [[279, 25]], [[279, 20]]])  # cut off
    for strokes in drawings:
        opened.ask(f"draw.begin({strokes})")
        compare(opened, model)


SHOWN = """(() => {
  const label = (name) => document.getElementById(name).getAttribute("aria-label");
  const tiles = [...document.querySelectorAll("#draw-grid > div")];
  return { on: label("draw-on"), off: label("draw-off"), race: label("draw-race"),
    fired: tiles.filter((tile) => tile.classList.contains("fired")).length, tiles: tiles.length };
})()"""


def test_time_shows_what_has_fired_so_far(opened, model):
    opened.ask("draw.begin([[[80, 60], [190, 55], [175, 105], [145, 170], [125, 235]]])")
    seen = opened.ask(SEEN)
    on, off = np.array(seen["times"][0]).reshape(2, -1)
    features = np.array(seen["times"][1]).reshape(model[0]["stages"][0]["layer"]["shape"][0], -1).min(1)
    crossing = np.array(seen["answer"]).reshape(10, -1).min(1) / 256
    steps, silent = opened.ask("draw.state.end"), model[0]["time_steps"]
    for step in (0, 3, 8, 12, 14, steps):
        opened.ask(
            f"""(() => {{
              const slider = document.getElementById("draw-time");
              slider.value = {step};
              slider.dispatchEvent(new Event("input"));
            }})()"""
        )
        shown = opened.ask(SHOWN)
        for cells, words in ((on, shown["on"]), (off, shown["off"])):
            assert f"{(cells <= min(step, silent - 1)).sum()} of 784" in words
        assert (shown["fired"], shown["tiles"]) == ((features <= min(step, silent - 1)).sum(), len(features))
        crossed = [str(c) for c in np.argsort(crossing, kind="stable") if crossing[c] <= step]
        assert ", ".join(crossed) in shown["race"] and ("no neuron" in shown["race"]) == (not crossed)


def test_play_and_pause(opened):
    opened.ask("(draw.begin([[[140, 60], [140, 220]]]), document.getElementById('draw-play').click())")
    playing = "document.getElementById('draw-play').getAttribute('aria-label')"
    assert opened.ask(playing) == "Pause"
    opened.ask("new Promise((done) => setTimeout(done, 900))")
    assert 0 < opened.ask("draw.state.step") < opened.ask("draw.state.end")
    opened.ask("document.getElementById('draw-play').click()")
    step = opened.ask("draw.state.step")
    opened.ask("new Promise((done) => setTimeout(done, 400))")
    assert (opened.ask(playing), opened.ask("draw.state.step")) == ("Play", step)


def test_who_wants_less_motion_sees_the_end_at_once(opened, page):
    """Else an example plays from the start."""
    assert opened.ask("draw.state.step === draw.state.end && draw.state.timer === null")
    opened.prefer(prefers_reduced_motion="no-preference")
    opened.open(page.as_uri())
    assert opened.ask("draw.state.step < draw.state.end && draw.state.timer !== null")


def test_colours_of_the_dark(opened, page):
    """The text of the page and of its chart is light where the reader, or the switch of the theme, wants it dark."""
    value = "getComputedStyle(document.getElementById('draw')).getPropertyValue('--first').trim()"
    light = opened.ask(value)
    opened.prefer(prefers_color_scheme="dark")
    dark = opened.ask(value)
    assert light != dark
    opened.ask("document.body.dataset.theme = 'light'")
    assert opened.ask(value) == light
    opened.prefer(prefers_color_scheme="light")
    opened.ask("document.body.dataset.theme = 'dark'")
    assert opened.ask(value) == dark


def test_a_feature_shows_where_it_fired(opened):
    """With the keyboard, too: arrow keys go from one to the next."""
    opened.ask("document.querySelector('#draw-grid [tabindex=\"0\"]').focus()")
    opened.key("ArrowRight")
    assert opened.ask("draw.state.chosen") == 1
    assert opened.ask("document.getElementById('draw-chosen').textContent").startswith("Feature 2 ")
    assert opened.ask("document.querySelectorAll('#draw-grid [tabindex=\"0\"]').length") == 1


def test_asks_for_nothing_outside(opened, page):
    assert len(opened.requests) > 1 and all(address.startswith(page.parent.as_uri()) for address in opened.requests)


def test_is_small(page):
    assert sum(file.stat().st_size for file in page.parent.rglob("*") if file.is_file()) < 1_000_000


def test_each_part_has_a_name_for_who_cannot_see(opened):
    unnamed = opened.ask(
        """[...document.querySelectorAll("#draw canvas[id], #draw button, #draw input")]
          .filter((part) => !part.getAttribute("aria-label") && !part.textContent.trim())
          .map((part) => part.outerHTML)"""
    )
    assert unnamed == []


def test_the_constants_are_those_of_the_page(page):
    said = (DOCS / "_static" / "draw" / "raster.js").read_text(encoding="utf-8")
    assert re.search(rf"SIDE = {SIDE}, PEN = {PEN}, IMAGE = 28, BOX = 20", said)
    assert "12 at most" in (DOCS / "draw.md").read_text(encoding="utf-8")
