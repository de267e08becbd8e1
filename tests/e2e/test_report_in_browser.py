import functools
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import CHROMIUM, Page, browser
from tests.report_files import write_report_files
from tests.require import require

pytestmark = pytest.mark.slow


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("scenario")
    made = write_report_files(root)
    hostile = {"path": "line_a/<script>document.title='owned'</script>.png", "domain": "line_a", "reason": "truncated"}
    made.files.quarantine.write_text(json.dumps([hostile]))
    handler = functools.partial(_Quiet, directory=str(made.make()))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/report.html"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    require("chromium", CHROMIUM is not None)
    with browser(tmp_path_factory.mktemp("browser") / "profile") as tab:
        yield tab


@pytest.fixture(autouse=True)
def _forget(page: Page) -> None:
    page.messages.clear()
    page.requests.clear()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [380, 1400])
def test_the_page_opens_without_an_error_or_a_request_of_its_own(page: Page, address: str, width: int, dark: bool):
    page.open(address, width=width, dark=dark)

    assert page.messages == []
    assert [url for url in page.requests if not url.startswith("data:")] == [address]


@pytest.mark.parametrize("width", [380, 768, 1400])
def test_nothing_sticks_out_of_the_page_even_with_every_fold_open(page: Page, address: str, width: int):
    page.open(address, width=width)
    page.evaluate("document.querySelectorAll('details').forEach(fold => fold.open = true)")

    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.body.scrollWidth") <= width


def test_no_words_are_cut_off_inside_a_box_that_cannot_scroll(page: Page, address: str):
    page.open(address, width=380)

    assert page.evaluate(_CUT) == []


def test_light_and_dark_are_two_looks_and_both_are_readable(page: Page, address: str):
    grounds = []
    for dark in (False, True):
        page.open(address, dark=dark)
        contrasts = page.evaluate(_CONTRAST)
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert contrasts == [], contrasts

    assert grounds[0] != grounds[1]


def test_every_image_is_loaded_and_says_what_it_shows(page: Page, address: str):
    page.open(address)
    page.evaluate("document.querySelectorAll('img').forEach(image => image.loading = 'eager')")
    page.evaluate("Promise.all([...document.images].map(image => image.decode()))")

    assert page.evaluate("document.images.length") > 20
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0 && image.alt.length > 5)")
    assert page.evaluate("[...document.querySelectorAll('svg')].every(s => s.ariaLabel || s.ariaHidden === 'true')")
    assert page.evaluate("[...document.querySelectorAll('table')].every(t => t.querySelector('th[scope=col]'))")


def test_everything_is_there_with_scripts_switched_off(page: Page, address: str):
    page.open(address, scripts=False)

    text = page.text()
    for words in (
        "Better than source-only",
        "Leaderboard",
        "Uncertainty and calibration",
        "Sets of classes",
        "Where the model looked",
        "What damage to the images costs",
        "Label these 20 first",
        "Why this choice",
        "Training",
        "Quarantine",
    ):
        assert words in text
    assert page.messages == []


def test_a_file_name_that_is_a_script_does_not_run(page: Page, address: str):
    page.open(address)

    assert page.evaluate("document.title") != "owned"
    assert page.evaluate("document.scripts.length") == 0
    assert page.evaluate("document.body.innerText.length") > 2000


def test_the_first_screen_holds_verdict_why_and_next_step_before_any_scrolling(page: Page, address: str):
    page.open(address, width=1400)

    places = page.evaluate(
        "[...document.querySelectorAll('.hero .badge, .hero .headline, .hero .steps')].map("
        "e => e.getBoundingClientRect().bottom)"
    )
    assert len(places) >= 3
    assert max(places) < 900
    assert page.evaluate("[...document.querySelectorAll('#trust details')].every(fold => !fold.open)")


def test_it_prints_as_pages(page: Page, address: str):
    page.open(address)

    assert page.pdf().startswith(b"%PDF")


def test_the_driver_does_see_errors_and_requests(page: Page, tmp_path: Path):
    (tmp_path / "bad.html").write_text("<script>throw new Error('broken')</script><img src='http://127.0.0.1:9/x.png'>")

    page.open((tmp_path / "bad.html").as_uri())

    assert any("Uncaught" in message for message in page.messages)
    assert "http://127.0.0.1:9/x.png" in page.requests


def test_the_checks_of_contrast_and_of_cut_words_do_refuse(page: Page, tmp_path: Path):
    (tmp_path / "bad.html").write_text(
        "<body style='background:#fff'><p style='color:#aaa'>pale</p>"
        "<p style='width:40px;overflow:hidden'>unbreakablewordofmanyletters</p>"
    )

    page.open((tmp_path / "bad.html").as_uri())

    assert page.evaluate(_CONTRAST) == ["pale 2.32"]
    assert page.evaluate(_CUT) == ["unbreakablewordofmanyletters"]


_CUT = (
    "[...document.querySelectorAll('p, li, h2, h3, .tile, .tile b, .badge, figcaption, summary')]"
    ".filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display != 'inline')"
    ".map(e => e.textContent.slice(0, 60))"
)

# WCAG 2.2, 1.4.3: at least 4.5 to 1 for text. The ground is the nearest opaque one; charts have no text.
_CONTRAST = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgba = colour => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = e => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor);
    if (c[3] === 255) return c; } return [255, 255, 255, 255]; };
  const low = [];
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('svg') || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    const [a, b] = [light(rgba(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) low.push(e.textContent.trim().slice(0, 40) + ' ' + ratio.toFixed(2));
  }
  return low;
})()"""
