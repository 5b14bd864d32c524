"""The page with every section, in text and in a real browser; its figures are made up."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from kalshi_pipeline.evaluation.reports import render_comparison, render_html
from kalshi_pipeline.evaluation.reports.comparison import Evaluated
from kalshi_pipeline.evaluation.reports.figures import (
    behaviour,
    money,
    performance,
    sensitivity,
)
from kalshi_pipeline.evaluation.reports.sections import OPTIONAL, SECTIONS
from tests.evaluation.specimen import specimen

EVIL = "</script><script>alert('$x^2$ & \"y\"')</script><img src=x onerror=alert(1)>]]>-->"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WIDTHS = {"desktop": 1280, "phone": 390}


@pytest.fixture(scope="module")
def page() -> str:
    return render_html(specimen(EVIL)).decode()


class Elements(HTMLParser):
    """What a browser would make of the page: elements and their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_hostile_names_become_no_element_and_no_attribute(page: str) -> None:
    plain = render_html(specimen()).decode()
    hostile, harmless = Elements(), Elements()
    hostile.feed(page)
    harmless.feed(plain)
    # a picture tells a name that is too long for it when it is asked: one element more
    tags = [[tag for tag, _ in one.found if tag != "title"] for one in (hostile, harmless)]
    assert tags[0] == tags[1]
    for tag, attributes in hostile.found:
        assert tag not in {"img", "iframe", "object", "embed", "link"}
        assert not any(name.startswith("on") for name in attributes)
        assert not {"src", "style", "srcdoc"} & set(attributes)
        assert str(attributes.get("href", "#")).startswith("#")


def test_every_section_is_on_the_page_and_in_its_contents(page: str) -> None:
    report = specimen(EVIL)
    for section in SECTIONS:
        there = all(report.get(key) for key in section.needs)
        assert (f'<section id="{section.key}"' in page) is there, section.key
        assert (f'href="#{section.key}"' in page) is there
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))


@pytest.fixture(scope="module")
def charts() -> dict[str, str]:
    return {}


@pytest.fixture
def drawn_once(charts: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A chart that was drawn before is not drawn again: drawing is what takes the time."""

    def once(draw: Callable[..., str]) -> Callable[..., str]:
        def drawn(*args: Any, **options: Any) -> str:
            key = repr((draw.__name__, args, options))
            if key not in charts:
                charts[key] = draw(*args, **options)
            return charts[key]

        return drawn

    for module in (behaviour, money, performance, sensitivity):
        for name in [name for name in vars(module) if name.endswith("_chart")]:
            monkeypatch.setattr(module, name, once(getattr(module, name)))


@pytest.mark.usefixtures("drawn_once")
@pytest.mark.parametrize("key", OPTIONAL)
def test_a_section_that_was_not_computed_is_named_as_missing(key: str) -> None:
    report = specimen() | {key: None}
    text = render_html(report).decode()
    for section in SECTIONS:
        if key in section.needs:
            assert f'<section id="{section.key}"' not in text
            assert section.title in text[text.index("Not in this report") :].replace("&amp;", "&")


def test_every_picture_has_a_name_and_is_coloured_by_the_page(page: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(pictures) > 15
    for picture in pictures:
        drawing = ElementTree.fromstring(picture)
        assert drawing.get("aria-label")
        assert painted(drawing) <= variables(page), "every colour is one of the style sheet's"


def painted(drawing: ElementTree.Element) -> set[str]:
    """The colours of a picture."""
    colours = {one.get(name, "none") for one in drawing.iter() for name in ("fill", "stroke")}
    return colours - {"none"}


def variables(page: str) -> set[str]:
    """The colours that a page defines for light and dark."""
    return {f"var({name})" for name in re.findall(r"(--[\w-]+): light-dark\(", page)}


def test_equal_reports_make_equal_pages() -> None:
    assert render_html(specimen(EVIL)) == render_html(specimen(EVIL))


class Visit:
    """A page in a browser, with everything that it asked for and complained of."""

    def __init__(self, browser: Any, path: Path, width: int, scheme: str) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.asked: list[str] = []
        self.said: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(path.as_uri())

    def column(self, table: str, place: int) -> list[str]:
        cells: list[str] = self.page.eval_on_selector_all(
            f"{table} tbody tr", f"rows => rows.map(row => row.cells[{place}].dataset.v ?? '')"
        )
        return cells


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def paths(page: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    two = [Evaluated(f"a{EVIL}", specimen(EVIL)), Evaluated("b", specimen(seed=6))]
    (folder / "report.html").write_text(page)
    (folder / "comparison.html").write_bytes(render_comparison(two))
    return {name: folder / f"{name}.html" for name in ("report", "comparison")}


@pytest.mark.browser
@pytest.mark.parametrize("name", ["report", "comparison"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_a_page_asks_for_nothing_complains_of_nothing_and_fits(
    browser: Any, paths: dict[str, Path], name: str, scheme: str, width: int
) -> None:
    visit = Visit(browser, paths[name], width, scheme)
    visit.page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    wide = visit.page.evaluate("document.documentElement.scrollWidth")
    visit.page.close()
    assert visit.asked == [paths[name].as_uri()]
    assert visit.said == []
    assert wide <= width


@pytest.mark.browser
def test_tables_sort_numbers_as_numbers_by_mouse_and_by_keyboard(
    browser: Any, paths: dict[str, Path]
) -> None:
    visit = Visit(browser, paths["report"], 1280, "light")
    pnl = visit.page.locator("#headline > .scroll thead th").nth(1)
    pnl.locator("button").click()
    falling = [float(value) for value in visit.column("#headline > .scroll", 1)]
    assert falling == sorted(falling, reverse=True)
    assert pnl.get_attribute("aria-sort") == "descending"
    pnl.locator("button").press("Enter")
    rising = [float(value) for value in visit.column("#headline > .scroll", 1)]
    assert rising == sorted(rising)
    assert pnl.get_attribute("aria-sort") == "ascending"
    sharpe = visit.page.locator("#headline > .scroll thead th").nth(3)
    sharpe.locator("button").click()
    assert visit.column("#headline > .scroll", 3)[-1] == "", "what is missing comes last"
    assert pnl.get_attribute("aria-sort") is None
    visit.page.close()


@pytest.mark.browser
def test_a_trade_is_stepped_through_message_by_message(
    browser: Any, paths: dict[str, Path]
) -> None:
    visit = Visit(browser, paths["report"], 1280, "light")
    replay = visit.page.locator(".replay").first
    cursor, told = replay.locator(".cursor"), replay.locator("output")
    first = (cursor.get_attribute("transform"), told.inner_text())
    assert "no fill yet" in first[1]
    replay.locator("button", has_text="›").click()
    second = (cursor.get_attribute("transform"), told.inner_text())
    assert second != first
    replay.locator("input").press("End")
    assert "last fill: sell 1.00 at 48 ¢ as taker, fee 2.00 ¢" in told.inner_text()
    assert replay.locator(".ladder tr.bid").count() == 5
    replay.locator("input").press("Home")
    assert (cursor.get_attribute("transform"), told.inner_text()) == first
    visit.page.close()


@pytest.mark.browser
def test_the_button_turns_the_page_dark_and_light_again(
    browser: Any, paths: dict[str, Path]
) -> None:
    visit = Visit(browser, paths["report"], 1280, "light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = visit.page.evaluate(ground)
    visit.page.locator("#theme").click()
    dark = visit.page.evaluate(ground)
    visit.page.locator("#theme").click()
    assert visit.page.evaluate(ground) == light != dark
    visit.page.close()


@pytest.mark.browser
def test_the_policy_of_the_page_lets_no_foreign_script_run(
    browser: Any, paths: dict[str, Path]
) -> None:
    visit = Visit(browser, paths["report"], 1280, "light")
    visit.page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'window.ran = true';"
        " document.body.append(s); }"
    )
    assert visit.page.evaluate("window.ran") is None
    assert any("Content Security Policy" in message for message in visit.said)
    visit.page.close()
