"""The page in a real browser: it renders, explores, prints, and asks nobody for anything."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from chromium import CHROMIUM, FLAGS, PAINTED
from drawn_plans import demo, plan_of, with_periods
from paged import PLANS, demo_page, full
from test_page_sections import hostile

from planner.report.drawing.palette import LIGHT
from planner.report.page.assemble import page
from planner.report.page.choice import ordered
from planner.report.page.subject import Subject

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 780}
SCREEN = {"media": "screen", "color_scheme": "light", "reduced_motion": "no-preference"}
FIRST_PAINT_MS = 1000.0
WAIT_MS = 10_000.0  # for what a busy machine does a little later
HIDDEN = """[...document.querySelectorAll(".scroll")]
    .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 40))"""
POINT = ".panel.open .wide g[data-point]"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of the demo and of every kind of plan, as files."""
    folder = tmp_path_factory.mktemp("pages")
    pages = {name: page(Subject(plan)) for name, plan in PLANS.items()}
    pages |= {"whole": demo_page(), "week": page(Subject(with_periods(full(plan_of(12, 12)), 168)))}
    pages["hostile"] = page(Subject(hostile(with_periods(full(demo())))[0]))
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in pages}


class Seen:
    """A page in a browser, with what it said and what it asked for."""

    def __init__(self, browser: Any, file: Path, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": DESK, **context})
        self.page = self.context.new_page()
        self.told: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.told.append(message.text))
        self.page.on("pageerror", lambda error: self.told.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.told.append("a dialog"), dialog.dismiss()))
        self.context.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())

    def again(self, file: Path) -> Seen:
        """Opens a page anew, as if nothing had been done to it; quicker than another context."""
        self.page.emulate_media(**SCREEN)
        self.page.mouse.move(0, 0)
        self.told.clear()
        self.asked.clear()
        self.page.goto(file.as_uri())
        return self

    def __enter__(self) -> Seen:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def compared(self) -> dict[str, list[str]]:
        """The rows of the comparison, by name."""
        rows = self.page.eval_on_selector_all(
            "#compared tr", "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
        )
        return {row[0]: row[1:] for row in rows}

    def style(self, selector: str, name: str) -> str:
        script = f"e => getComputedStyle(e).{name}"
        return str(self.page.eval_on_selector(selector, script))


@pytest.fixture(scope="module")
def desk(browser: Any, files: dict[str, Path]) -> Iterator[Seen]:
    with Seen(browser, files["demo"]) as opened:
        yield opened


@pytest.fixture
def seen(desk: Seen, files: dict[str, Path]) -> Iterator[Seen]:
    """The demo's page on a desk; it must have kept quiet and asked for nothing to the end."""
    desk.again(files["whole"])
    yield desk
    assert desk.told == []
    assert desk.asked == [files["whole"].as_uri()]


def middle(seen: Seen, point: int) -> tuple[float, float]:
    mark = seen.page.locator(f'{POINT}[data-point="{point}"]')
    mark.scroll_into_view_if_needed()
    box = mark.bounding_box()
    assert box is not None
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


CHOSEN = next(n for n, p in enumerate(demo().front) if p.chosen)
OTHER = next(n for n, p in enumerate(demo().front) if not p.chosen and len(p.deployment) > 1)
NUMBER = [place for place, _ in ordered(demo().front)].index(OTHER) + 1


# ---- It renders ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*PLANS, "whole", "week", "hostile"])
def test_every_page_renders_quietly_from_one_file(
    desk: Seen, files: dict[str, Path], name: str
) -> None:
    desk.again(files[name])
    assert desk.page.is_visible("h1") and desk.page.is_visible(".answer")
    desk.page.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    assert (desk.told, desk.asked) == ([], [files[name].as_uri()])


def test_the_page_may_not_fetch_even_if_it_wanted(browser: Any, files: dict[str, Path]) -> None:
    came: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            came.append(self.path)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        place = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            with Seen(browser, files["whole"]) as opened:
                refused = opened.page.evaluate(
                    """place => new Promise(done => {
                        const seen = [];
                        addEventListener("securitypolicyviolation", e => {
                            seen.push(e.effectiveDirective);
                            if (seen.length === 2) done(seen.sort());
                        });
                        new Image().src = place + "/image";
                        fetch(place + "/fetched").catch(() => 0);
                    })""",
                    place,
                )
                assert refused == ["connect-src", "img-src"]
                opened.page.goto(f"{place}/visited")  # the server does hear who is let through
        finally:
            server.shutdown()
            thread.join()
    assert [place for place in came if place != "/favicon.ico"] == ["/visited"]


@pytest.mark.parametrize("name", ["whole", "week"])
def test_first_paint_within_a_second(browser: Any, files: dict[str, Path], name: str) -> None:
    """The least of three: what else the machine does can only add to it."""
    paints = []
    for _ in range(3):
        with Seen(browser, files[name]) as opened:
            paints.append(opened.page.evaluate(PAINTED))
    assert 0 < min(paints) < FIRST_PAINT_MS


@pytest.mark.parametrize("name", ["whole", "full day", "week", "hostile"])
def test_nothing_scrolls_sideways(desk: Seen, files: dict[str, Path], name: str) -> None:
    """On each side of every width at which the layout changes; 320 px is 1280 at 400 % zoom."""
    desk.again(files[name])
    desk.page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
    try:
        for width in (320, 640, 641, 752, 753, 961, 1200):
            desk.page.set_viewport_size({"width": width, "height": 800})
            assert desk.page.evaluate("document.documentElement.scrollWidth") <= width
            if name == "whole":  # names of usual length: each table is there as a whole
                assert desk.page.evaluate(HIDDEN) == []
    finally:
        desk.page.set_viewport_size(DESK)


def test_a_phone_gets_drawings_and_tables_of_its_own(browser: Any, files: dict[str, Path]) -> None:
    with Seen(browser, files["whole"], viewport=PHONE) as opened:
        assert opened.page.is_visible("#limits .narrow svg")
        assert not opened.page.is_visible("#limits .wide svg")
        # A drawing is shown about as large as it was drawn: its words can be read.
        scales = opened.page.eval_on_selector_all(
            "figure .narrow svg",
            "all => all.filter(e => e.clientWidth)"
            ".map(e => e.clientWidth / e.viewBox.baseVal.width)",
        )
        assert scales and min(scales) > 0.9
        assert opened.style("#rent tbody td", "display") == "grid"
        label = opened.page.eval_on_selector(
            "#rent tbody td", "e => getComputedStyle(e, '::before').content"
        )
        assert label == '"GPU"'


def test_without_scripts_all_is_there_to_be_read(browser: Any, files: dict[str, Path]) -> None:
    with Seen(browser, files["whole"], java_script_enabled=False) as opened:
        panels = opened.page.locator(".panel")
        assert panels.count() == 3 and all(panels.nth(n).is_visible() for n in range(3))
        assert not opened.page.locator(".scripted:visible").count()
        opened.page.click("text=deployments as a table")
        assert opened.page.locator("#front-table tbody tr:visible").count() == len(demo().front)


# ---- It explores ---------------------------------------------------------------------------------


def test_pointing_at_a_deployment_shows_it_beside_the_plan(seen: Seen) -> None:
    seen.page.mouse.move(*middle(seen, OTHER))
    point, plan = demo().front[OTHER], demo().front[CHOSEN]
    assert seen.page.is_visible("#tip") and f"{point.cost_usd_per_h:,.2f}" in seen.text("#tip")
    rows = seen.compared()
    assert rows[""] == ["this plan", f"no. {NUMBER}"]
    assert rows["Cost"] == [f"${plan.cost_usd_per_h:,.2f}/h", f"${point.cost_usd_per_h:,.2f}/h"]
    for pool in {p for each in demo().front for p in each.deployment}:
        ours, theirs = (str(d.deployment.get(pool, "-")) for d in (plan, point))
        assert rows[pool] == [ours, theirs]
    seen.page.mouse.move(5, 5)
    assert not seen.page.is_visible("#tip")
    assert seen.compared()["Cost"][1] == "-"


def test_a_click_keeps_a_deployment_and_another_lets_it_go(seen: Seen) -> None:
    seen.page.mouse.click(*middle(seen, OTHER))
    seen.page.mouse.move(5, 5)
    assert seen.compared()[""][1] == f"no. {NUMBER}"
    mark = seen.page.locator(f'{POINT}[data-point="{OTHER}"]')
    assert mark.get_attribute("aria-pressed") == "true"
    assert seen.text("#said").startswith(f"Kept beside the plan: no. {NUMBER}.")
    seen.page.mouse.click(*middle(seen, OTHER))
    seen.page.mouse.move(5, 5)
    assert mark.get_attribute("aria-pressed") == "false"
    assert seen.text("#said") == f"Let go: no. {NUMBER}."
    assert seen.compared()["Cost"][1] == "-"


def test_escape_lets_go_wherever_the_focus_is(seen: Seen) -> None:
    """A mouse may have left the point: the key still means what the page says it means."""
    x, y = middle(seen, OTHER)
    seen.page.mouse.click(x, y)
    seen.page.evaluate("document.activeElement.blur()")
    seen.page.mouse.move(x + 1, y)
    assert seen.page.is_visible("#tip")
    seen.page.keyboard.press("Escape")
    assert not seen.page.is_visible("#tip")
    assert seen.text("#said") == f"Let go: no. {NUMBER}."
    seen.page.keyboard.press("Escape")  # nothing is kept: nothing is said
    assert seen.text("#said") == f"Let go: no. {NUMBER}."


def focused(seen: Seen) -> int:
    return int(seen.page.evaluate("document.activeElement.dataset.point ?? -1"))


def test_the_keyboard_goes_from_point_to_point(seen: Seen) -> None:
    seen.page.focus(".tab:last-of-type")
    seen.page.keyboard.press("Tab")
    assert focused(seen) == CHOSEN  # one stop of Tab, at the plan
    order = [
        place for place, _ in sorted(enumerate(demo().front), key=lambda i: i[1].cost_usd_per_h)
    ]
    at = order.index(CHOSEN)
    seen.page.keyboard.press("ArrowRight")
    assert focused(seen) == order[at + 1]
    assert seen.page.is_visible("#tip")
    seen.page.keyboard.press("End")
    assert focused(seen) == order[-1]
    seen.page.keyboard.press("ArrowRight")
    assert focused(seen) == order[-1]  # there is nothing beyond
    seen.page.keyboard.press("Home")
    assert focused(seen) == order[0]
    seen.page.keyboard.press("End")
    seen.page.keyboard.press("Enter")
    assert seen.text("#said").startswith("Kept beside the plan: no. ")
    seen.page.keyboard.press("Escape")
    assert seen.text("#said").startswith("Let go: no. ")
    seen.page.keyboard.press("Tab")
    assert focused(seen) == -1  # and on to what follows
    seen.page.keyboard.press("Shift+Tab")
    assert focused(seen) == order[-1]  # back to where one was


def test_the_axes_can_be_chosen(seen: Seen) -> None:
    tabs = seen.page.locator(".tab")
    assert [tabs.nth(n).inner_text() for n in range(3)] == [
        "Cost and quality", "Cost and latency", "Latency and quality",
    ]  # fmt: skip
    for n in range(3):
        tabs.nth(n).click()
        assert seen.page.locator(".panel:visible").count() == 1
        assert [tabs.nth(k).get_attribute("aria-pressed") for k in range(3)] == [
            str(k == n).lower() for k in range(3)
        ]
        assert seen.text("#said") == f"Axes: {tabs.nth(n).inner_text()}."
        assert seen.page.locator(POINT).count() == len(demo().front)


def test_what_is_kept_stays_marked_on_other_axes(seen: Seen) -> None:
    seen.page.mouse.click(*middle(seen, OTHER))
    seen.page.locator(".tab").nth(1).click()
    assert seen.page.locator(f'{POINT}[data-point="{OTHER}"] .ring.pinned').count() == 1


def test_a_row_of_the_table_points_at_its_deployment(seen: Seen) -> None:
    seen.page.click("text=deployments as a table")
    seen.page.hover("#front-table tbody tr:nth-child(2)")
    second = ordered(demo().front)[1][1]
    assert seen.compared()["Cost"][1] == f"${second.cost_usd_per_h:,.2f}/h"
    assert seen.page.locator(".panel.open .wide .ring.shown").count() == 1


def test_light_and_dark(seen: Seen) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        seen.page.emulate_media(color_scheme=scheme)
        grounds[scheme] = seen.style("body", "backgroundColor")
        name = "Dark theme" if scheme == "light" else "Light theme"
        seen.page.locator("#theme", has_text=name).wait_for(timeout=WAIT_MS)  # an event's work
    seen.page.click("#theme")  # from now on the reader has the say
    grounds["toggled dark"] = seen.style("body", "backgroundColor")
    seen.page.click("#theme")
    assert seen.style("body", "backgroundColor") == grounds["dark"]
    seen.page.emulate_media(color_scheme="light")
    assert seen.style("body", "backgroundColor") == grounds["dark"]
    seen.page.click("#theme")
    assert seen.style("body", "backgroundColor") == grounds["light"]
    assert grounds["light"] == grounds["toggled dark"] != grounds["dark"]


def test_it_prints_with_all_that_is_folded(seen: Seen) -> None:
    assert not seen.page.is_visible("#front-table")
    paper = seen.page.pdf(format="A4")
    assert paper.startswith(b"%PDF") and len(paper) > 50_000
    seen.page.emulate_media(media="print")
    assert seen.page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    seen.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert seen.page.is_visible("#front-table")
    assert seen.page.locator(".panel:visible").count() == 3
    assert seen.page.locator(".panel .narrow svg:visible").count() == 3  # words of a readable size
    assert not seen.page.locator(".scripted:visible").count()
    # A foot that is one would be repeated on every sheet, below a part of what it sums up.
    assert seen.style("#rent tfoot", "display") == "table-row-group"
    seen.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert seen.page.locator("details[open]").count() == 0


def test_a_dark_page_prints_on_white(seen: Seen) -> None:
    seen.page.emulate_media(color_scheme="dark")
    seen.page.click("#theme")
    seen.page.click("#theme")  # dark by the system, and by choice
    assert seen.style("body", "backgroundColor") != "rgb(255, 255, 255)"
    seen.page.emulate_media(media="print", color_scheme="dark")
    assert seen.style("body", "backgroundColor") == "rgb(255, 255, 255)"
    ink = ", ".join(str(int(LIGHT["ink"][k : k + 2], 16)) for k in (1, 3, 5))
    assert seen.style("body", "color") == f"rgb({ink})"


# ---- Everybody can use it ------------------------------------------------------------------------

CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const known = new Map();
  const rgba = (colour) => {
    if (!known.has(colour)) {
      canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
      known.set(colour, [...canvas.getImageData(0, 0, 1, 1).data]);
    }
    return known.get(colour);
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const colour = rgba(getComputedStyle(e).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || e.closest("svg, script, .unseen")) continue;
    if (!e.checkVisibility()) continue;
    const [a, b] = [light(rgba(getComputedStyle(e).color)), light(ground(e))].sort((p, q) => q - p);
    found.push([(a + 0.05) / (b + 0.05), e.textContent.slice(0, 40)]);
  }
  return found;
}"""


@pytest.mark.parametrize("name", ["whole", "missed", "full day"])
def test_all_words_stand_out_from_their_ground(
    desk: Seen, files: dict[str, Path], name: str
) -> None:
    desk.again(files[name])
    desk.page.eval_on_selector_all("details", "all => all.forEach(d => d.open = true)")
    for scheme in ("light", "dark"):
        desk.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found = desk.page.evaluate(CONTRAST)
        assert len(found) > 200
        assert [(ratio, text) for ratio, text in found if ratio < 4.5] == []


def test_what_takes_the_focus_shows_it_and_has_a_name(seen: Seen) -> None:
    seen.page.evaluate("document.body.focus()")
    stops = []
    for _ in range(200):
        seen.page.keyboard.press("Tab")
        stop = seen.page.evaluate(
            """() => {
                const e = document.activeElement, style = getComputedStyle(e);
                if (e === document.body) return null;
                const ring = e.querySelector(".ring");
                return {
                  tag: e.tagName, top: e.getBoundingClientRect().top + scrollY,
                  name: (e.getAttribute("aria-label") || e.textContent).trim(),
                  shown: !!ring ||
                    style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
                  index: e.tabIndex,
                };
            }"""
        )
        if stop is None:
            break
        stops.append(stop)
    assert len(stops) > 20
    assert [
        stop for stop in stops if not (stop["name"] and stop["shown"] and stop["index"] == 0)
    ] == []
    assert {"A", "BUTTON", "g", "SUMMARY"} <= {stop["tag"] for stop in stops}


def test_a_screen_reader_finds_names_and_roles(seen: Seen) -> None:
    tree = seen.page.locator("body").aria_snapshot()
    assert 'heading "Three kinds of reasoning, three sizes of Llama 3.1" [level=1]' in tree
    assert "navigation" in tree and "main" in tree
    assert 'button "this plan: ' in tree
    assert "img " in tree and "table " in tree
    status = seen.page.locator("#said")
    assert status.get_attribute("role") == "status"
    assert status.get_attribute("aria-live") == "polite"


def test_nothing_moves_for_who_does_not_want_it(seen: Seen) -> None:
    speeds = {}
    for wish in ("reduce", "no-preference"):
        seen.page.emulate_media(reduced_motion=wish)
        speeds[wish] = (
            seen.style("html", "scrollBehavior"),
            seen.style("#theme", "transitionDuration"),
        )
    assert speeds["reduce"] == ("auto", "0s")
    assert speeds["no-preference"][0] == "smooth"


def test_the_data_of_the_script_are_those_of_the_plan(seen: Seen) -> None:
    data = json.loads(seen.page.text_content("#data"))
    assert [p["deployment"] for p in data["points"]] == [p.deployment for p in demo().front]
    assert data["chosen"] == CHOSEN
